"""The doctor's look at the host never keeps a caller."""

import threading

import pytest

from p2vd.jobs.checkup import Checkup
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import StillLooking
from tests.fakes import StoppedClock
from tests.jobs.fake_disks import LONG_S


class Host:
    """Settings that are read when the gate is open; counts the looks."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.ended = threading.Semaphore(0)
        self.looks = 0
        self.broken = False

    def read(self) -> HostFacts:
        self.looks += 1
        self.gate.wait(LONG_S)
        self.ended.release()
        if self.broken:
            raise RuntimeError("a defect")
        return HostFacts(problems=(str(self.looks),))


def test_a_look_that_takes_long_is_had_by_a_later_call() -> None:
    host = Host()
    checkup = Checkup(host.read)
    with pytest.raises(StillLooking, match="Ask again"):
        checkup.facts(0)
    host.gate.set()
    assert checkup.facts(LONG_S).problems == ("1",)
    assert host.looks == 1


@pytest.mark.parametrize(("age_s", "looks"), [(4, 1), (6, 2)])
def test_what_is_seconds_old_serves_and_nothing_older(age_s: int, looks: int) -> None:
    host, clock = Host(), StoppedClock()
    host.gate.set()
    checkup = Checkup(host.read, clock)
    checkup.facts(LONG_S)
    clock.now_s += age_s
    assert checkup.facts(LONG_S).problems == (str(looks),)


def test_a_defect_is_no_answer_and_the_next_call_looks_again() -> None:
    host = Host()
    host.gate.set()
    host.broken = True
    checkup = Checkup(host.read)
    with pytest.raises(StillLooking):
        checkup.facts(LONG_S)
    host.broken = False
    assert checkup.facts(LONG_S).problems == ("2",)
