"""What the daemon knows of disks that no device shows: looked at beside all others, or said why not."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.disk_helper import request_of
from p2vd.jobs.form_helper import FormHelper
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.contents import Examination
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import SourceFormat
from p2vd.model.nbd import NbdExport
from p2vd.model.size import GIB
from tests.jobs.fake_disks import LONG_S, Disks, FakeHelper
from tests.jobs.test_contents_keeper import UEFI, Kept, source


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.keeper.stop()
    kept.disks.gate.set()


def export(name: str = "x") -> Source:
    served = NbdExport(f"nbd://{name}/")
    return Source(served.id, "", "", name, "", GIB, 512, Transport.NBD, file_id="1-2", export=served)


def packed(modified_us: int = 1) -> Source:
    path = "/srv/erp1.gz"
    seen = Source(
        path, "", "", "erp1.gz", "", GIB, 512, Transport.IMAGE, file_id="1@2", modified_us=modified_us
    )
    return replace(seen, format=SourceFormat.GZ)


def test_the_helper_is_told_where_such_a_disk_is() -> None:
    asked = request_of(export())
    assert (asked.export, asked.file_id, asked.is_plain) == (export().export, "1-2", False)
    asked = request_of(packed())
    assert (asked.devnode, asked.format, asked.file_id) == ("/srv/erp1.gz", SourceFormat.GZ, "1@2")
    assert request_of(source()).is_plain
    assert from_dict(ExamineRequest, to_dict(request_of(export()))) == request_of(export())


def test_of_one_that_cannot_be_looked_at_it_is_kept_why(kept: Kept) -> None:
    reply = ExamineReply(problem="It can only be read from its start.", examination=Examination.NO)
    kept.disks.answers[packed().id] = from_dict(ExamineReply, to_dict(reply))
    kept.keeper.refresh(packed(), LONG_S)
    seen = kept.now(packed())
    assert (seen.examination, seen.contents) == (Examination.NO, None)
    assert seen.examination_problem == "It can only be read from its start."


def test_an_image_that_was_written_to_is_looked_at_again(kept: Kept) -> None:
    kept.keeper.want([packed()], ())
    kept.until(packed(), Examination.DONE)
    kept.disks.answers[packed().id] = ExamineReply(UEFI)
    kept.keeper.want([packed(2)], ())
    assert kept.until(packed(2), Examination.DONE).contents == UEFI
    assert kept.now(packed()).contents is None


def test_servers_that_keep_their_looks_waiting_delay_no_disk(kept: Kept) -> None:
    kept.disks.gate.clear()
    silent = [export(f"server{number}") for number in range(9)]
    kept.keeper.want(silent, ())
    assert kept.disks.began.acquire(timeout=LONG_S)
    assert not kept.keeper.refresh(source(), 0.0)
    while "/dev/mapper/mpatha" not in kept.disks.asked:
        assert kept.disks.began.acquire(timeout=LONG_S)
    assert kept.now(silent[-1]).examination is Examination.UNDER_WAY


@pytest.mark.parametrize("one", [source(), export()], ids=["disk", "export"])
def test_who_kills_it_while_it_starts_waits_for_nothing_and_is_heard(one: Source) -> None:
    """It is done with the keeper locked, for which whoever asks the daemon anything waits."""
    started: list[FakeHelper] = []

    def start(*_: str) -> FakeHelper:
        killing = threading.Thread(target=helper.kill, daemon=True)
        killing.start()
        killing.join(10.0)
        assert not killing.is_alive()
        started.append(FakeHelper(Disks()))
        return started[-1]

    helper = FormHelper((1, 1), start)
    with pytest.raises(EOFError):
        helper.examine(request_of(one), lambda _: True)
    assert started[0].killed.is_set()
