"""An image from the helper that opens it to the worker that copies its disk, both as they are."""

import gzip
import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.protocol import Start, start_version
from p2vd.copying.terms import Binding, Report, SourceForm, TargetForm, TargetTraits
from p2vd.jobs.session import OpenFailed, WorkerSession, ask_opener
from p2vd.jobs.worker_start import request
from p2vd.model.copying import Verify
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import SourceFormat
from p2vd.system import block
from p2vd.system.process import spawn
from tests.copying.nbd_server import needs
from tests.jobs.values import source

MIB = 1 << 20
SIZE = 5 * MIB + 512
NOBODY = 65534
DISK = random.Random(2).randbytes(3 * MIB) + bytes(SIZE - 3 * MIB)


def image(directory: Path, form: SourceFormat) -> Source:
    """An image of that form, as the inventory has it."""
    raw, path = directory / "disk.raw", directory / f"disk.{form.value}"
    raw.write_bytes(DISK)
    if form is SourceFormat.GZ:
        path.write_bytes(gzip.compress(DISK, 1))
    elif form is not SourceFormat.RAW:
        words = ["qemu-img", "convert", "-f", "raw", "-O", form.value, str(raw), str(path)]
        subprocess.run(words, check=True)
    path.chmod(0o644)
    fd = os.open(path, os.O_PATH)
    seen = replace(source(), id=str(path), wwid="", device="", name=path.name, dm_uuid="", paths=())
    seen = replace(seen, transport=Transport.IMAGE, size_bytes=SIZE, file_id=block.file_id(fd), format=form)
    os.close(fd)
    return seen


def opened(seen: Source) -> int:
    """The descriptor that the helper hands over. Raises OpenFailed."""
    wanted = replace(request(seen, None), source_alone=True)
    (fd,) = ask_opener(spawn, wanted, lambda _: True).descriptors
    return fd


@needs("qemu-img", "qemu-nbd")
@pytest.mark.parametrize("form", [SourceFormat.RAW, SourceFormat.GZ, SourceFormat.QCOW2, SourceFormat.VMDK])
def test_its_disk_is_copied_and_proven(tmp_path: Path, form: SourceFormat) -> None:
    seen, target = image(tmp_path, form), tmp_path / "target"
    target.write_bytes(b"")
    os.truncate(target, SIZE)
    start = Start(
        start_version(SourceForm(form), TargetForm()),
        Binding("job", 1, seen.id, SIZE, 512, "target"),
        str(tmp_path / "checkpoint"),
        TargetTraits(SIZE, 512, is_file=True),
        verify=Verify.BOTH,
        source_form=SourceForm(form),
        worker_uid=NOBODY,
        worker_gid=NOBODY,
    )
    session = WorkerSession.start(spawn, start, [opened(seen), os.open(target, os.O_RDWR)])
    report = None
    while not isinstance(report, Report):
        report = session.receive()
    assert (session.exit_code(60), report.failure, report.source_stable) == (0, None, "proven")
    assert target.read_bytes() == DISK
    session.close()


@pytest.mark.parametrize("form", [SourceFormat.GZ, SourceFormat.QCOW2])
def test_another_file_in_its_place_is_not_opened(tmp_path: Path, form: SourceFormat) -> None:
    path = tmp_path / f"disk.{form.value}"
    path.write_bytes(b"whatever")
    seen = replace(source(), id=str(path), wwid="", device="", dm_uuid="", paths=())
    seen = replace(seen, transport=Transport.IMAGE, file_id="1@2", format=form)
    with pytest.raises(OpenFailed) as raised:
        opened(seen)
    assert raised.value.error_name == "IdentityChanged"
