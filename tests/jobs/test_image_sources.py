"""A job whose source is an image or an NBD export: found again, and how it is asked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.protocol import FORMS_VERSION
from p2vd.copying.terms import NbdServer
from p2vd.jobs.control import MustWait, TryAgain
from p2vd.jobs.export_known import RECONNECT_S
from p2vd.jobs.image_look import REFUSED, SILENT, UNREAD, UNSIZED
from p2vd.jobs.job_target import JobLun
from p2vd.jobs.targets import find_source
from p2vd.jobs.worker_start import request, start_message
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import IdentityChanged, Reason, Refused
from p2vd.model.forms import SourceFormat
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job
from p2vd.model.nbd import NbdExport
from p2vd.model.plan import LunTarget, SourceBinding
from p2vd.model.size import GIB
from tests.jobs.proven_machine import ProvenMachine
from tests.jobs.values import machine_and_job, source

PATH = "/srv/images/erp1.gz"
IMAGE = Source(PATH, "", "", "erp1.gz", "", GIB, 512, Transport.IMAGE, file_id="1@2", format=SourceFormat.GZ)


@pytest.fixture
def job() -> Job:
    _, job = machine_and_job()
    bound = SourceBinding(PATH, "", Transport.IMAGE, GIB, 512, "1@2", SourceFormat.GZ)
    return replace(job, plan=replace(job.plan, source=bound))


def found(job: Job, size_bytes: int, *codes: str, file_id: str = "1@2") -> Source:
    """What is found where the inventory says that of the image."""
    reasons = tuple(Reason(code, f"It is {code}.") for code in codes)
    image = replace(IMAGE, size_bytes=size_bytes, reasons=reasons, file_id=file_id)
    return find_source(Inventory((image,)), job)


def test_an_image_is_found_with_the_size_of_its_disk(job: Job) -> None:
    assert found(job, GIB) == IMAGE


def test_one_that_only_reading_tells_the_size_of_has_that_of_the_job(job: Job) -> None:
    assert found(job, 0, UNSIZED) == IMAGE


@pytest.mark.parametrize("code", [UNREAD, SILENT])
def test_one_of_which_nothing_is_known_yet_is_asked_again(job: Job, code: str) -> None:
    with pytest.raises(TryAgain, match=code):
        found(job, 0, code)


def test_one_that_can_be_no_source_any_more_is_refused_for_that(job: Job) -> None:
    with pytest.raises(Refused, match=REFUSED):
        found(job, 0, REFUSED)


@pytest.mark.parametrize("code", [UNREAD, UNSIZED, REFUSED])
def test_another_file_is_another_disk_whatever_is_known_of_it(job: Job, code: str) -> None:
    with pytest.raises(IdentityChanged, match="its file is 3@4, expected 1@2"):
        found(job, 0, code, file_id="3@4")


def test_another_size_of_its_disk_is_another_disk(job: Job) -> None:
    with pytest.raises(IdentityChanged, match="its size is 2 GiB, expected 1 GiB"):
        found(job, 2 * GIB)


@pytest.mark.parametrize(("form", "locked_by_user"), [(SourceFormat.GZ, False), (SourceFormat.QCOW2, True)])
def test_the_helper_opens_the_file_whatever_its_own_size(form: SourceFormat, locked_by_user: bool) -> None:
    """QEMU locks what it reads, and takes a lock of ours for another's."""
    wanted = request(replace(IMAGE, format=form), None).source
    assert wanted is not None
    assert (wanted.image, wanted.size_bytes, wanted.file_id) == (True, 0, "1@2")
    assert wanted.locked_by_user is locked_by_user


def test_the_worker_is_told_the_form_in_a_version_that_an_older_one_refuses(job: Job, tmp_path: Path) -> None:
    target = JobLun(source(), LunTarget("lun", "lun", "mpatha", GIB, 512, "/dev/disk/by-id/x"))
    services = ProvenMachine(tmp_path).services
    start = start_message(services, job, IMAGE, target, 0)
    assert (start.version, start.source_form.format) == (FORMS_VERSION, SourceFormat.GZ)
    assert (start.binding.source_id, start.binding.source_size_bytes) == (PATH, GIB)
    plain = start_message(services, job, source(), target, 0)
    assert (plain.version, plain.source_form.format) == (1, SourceFormat.RAW)


# ---- NBD exports ------------------------------------------------------------------------------

EXPORT = NbdExport("nbds://rescue/sda", "/etc/p2vd/tls", sector_size=4096)
DISK = Source(EXPORT.id, "", "", EXPORT.name, "", GIB, 4096, Transport.NBD, file_id="1-2", export=EXPORT)


def of_export(job: Job) -> Job:
    bound = SourceBinding(EXPORT.id, "", Transport.NBD, GIB, 4096, "1-2")
    return replace(job, plan=replace(job.plan, source=bound))


def exported(job: Job, *shown: Source) -> Source:
    """What is found where the inventory shows these."""
    return find_source(Inventory(shown), of_export(job))


def test_an_export_is_found_by_its_place(job: Job) -> None:
    assert exported(job, DISK) == DISK


def test_one_that_does_not_answer_holds_the_job(job: Job) -> None:
    with pytest.raises(MustWait) as raised:
        exported(job)
    assert raised.value.hold is Hold.SOURCE_ABSENT


def test_one_that_was_not_asked_yet_is_waited_for(job: Job) -> None:
    asked = replace(DISK, size_bytes=0, file_id="", reasons=(Reason(UNREAD, "It is being asked."),))
    with pytest.raises(TryAgain, match="being asked"):
        exported(job, asked)


def test_another_disk_that_is_served_in_its_place_is_refused(job: Job) -> None:
    with pytest.raises(IdentityChanged, match="first and last MiB is 1-3, expected 1-2"):
        exported(job, replace(DISK, file_id="1-3"))
    with pytest.raises(IdentityChanged, match="its size is 2 GiB"):
        exported(job, replace(DISK, size_bytes=2 * GIB))


def test_the_worker_connects_to_it_and_nobody_opens_anything(job: Job, tmp_path: Path) -> None:
    target = JobLun(source(), LunTarget("lun", "lun", "mpatha", GIB, 512, "/dev/disk/by-id/x"))
    assert request(DISK, target).source is None
    since = replace(DISK, file_id="3-4")  # what it was when it was asked last is not what counts
    start = start_message(ProvenMachine(tmp_path).services, of_export(job), since, target, 0)
    assert (start.version, start.source_form.format) == (FORMS_VERSION, SourceFormat.RAW)
    assert start.source_form.nbd == NbdServer("nbds://rescue/sda", "/etc/p2vd/tls", "", RECONNECT_S, "1-2")
    assert (start.binding.source_id, start.binding.source_sector_size) == (EXPORT.id, 4096)
