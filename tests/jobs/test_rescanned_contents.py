"""What a rescan has looked at again: what gave no answer, by what is known of the host after its scan."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from p2vd.discovery.examining import ExamineReply
from p2vd.model.contents import Examination
from p2vd.model.errors import P2vdError, Reason
from tests.jobs.fake_disks import LONG_S
from tests.jobs.test_engine_contents import NODE, Lab
from tests.jobs.values import WWID, source


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, WWID)
    yield lab
    lab.disks.gate.set()
    lab.engine.stop()


def rescanned(lab: Lab) -> P2vdError | None:
    answers: Queue[P2vdError | None] = Queue()
    lab.engine.rescan(answers.put)
    return answers.get(timeout=LONG_S)


def failed_once(lab: Lab) -> None:
    """The one disk could not be read, and now it can."""
    lab.disks.answers[NODE] = ExamineReply(problem="it cannot be read: Input/output error")
    lab.start()
    lab.until(Examination.FAILED)
    lab.disks.answers.clear()


def test_a_rescan_has_what_gave_no_answer_looked_at_again_although_nothing_changed(lab: Lab) -> None:
    failed_once(lab)
    assert rescanned(lab) is None
    lab.until(Examination.DONE)
    assert lab.disks.asked == [NODE, NODE]


def test_a_rescan_that_fails_looks_at_nothing_until_the_host_can_be_read(lab: Lab) -> None:
    failed_once(lab)
    whole = lab.host.inventory
    lab.host.inventory = replace(whole, unread=("LVM's system ID is not known.",))
    assert rescanned(lab) is not None
    assert lab.engine.inventory().sources[0].examination is Examination.FAILED
    assert lab.disks.asked == [NODE]
    lab.host.inventory = whole
    lab.services.inventory.fresh(LONG_S)
    lab.until(Examination.DONE)
    assert lab.disks.asked == [NODE, NODE]


def test_a_rescan_looks_at_nothing_that_it_finds_in_use(lab: Lab) -> None:
    failed_once(lab)
    used = replace(source(), reasons=(Reason("mounted", "It is mounted."),))
    lab.host.inventory = replace(lab.host.inventory, sources=(used,))
    assert rescanned(lab) is None
    assert lab.disks.asked == [NODE]
    assert lab.engine.inventory().sources[0].examination is Examination.NO
