"""Refused calls on their way into the audit: the first at once, the rest of a minute counted."""

import threading

from p2vd.jobs.denials import Denials
from p2vd.model.audit import AuditEvent, Kind
from tests.fakes import StoppedClock
from tests.jobs.fake_disks import LONG_S


class Desk:
    """What was recorded, and a way to wait for it. The clock stands: no minute passes."""

    def __init__(self) -> None:
        self.recorded: list[AuditEvent] = []
        self.news = threading.Semaphore(0)
        self.denials = Denials(self.record, StoppedClock())

    def record(self, event: AuditEvent) -> None:
        self.recorded.append(event)
        self.news.release()

    def add(self, uid: int, verb: str) -> None:
        self.denials.add((uid, verb), lambda: AuditEvent(Kind.DENIED, verb))

    def counted(self) -> list[tuple[str, int]]:
        return [(event.verb, event.times) for event in self.recorded]


def test_the_first_is_recorded_at_once_and_those_after_it_are_counted() -> None:
    desk = Desk()
    desk.add(7, "Job.Pause")
    assert desk.news.acquire(timeout=LONG_S)
    for _ in range(1000):
        desk.add(7, "Job.Pause")
    desk.add(8, "Job.Pause")
    assert desk.news.acquire(timeout=LONG_S)
    assert desk.counted() == [("Job.Pause", 1), ("Job.Pause", 1)]
    desk.denials.stop()
    assert desk.counted()[2:] == [("Job.Pause", 1000)]


def test_after_the_end_nothing_is_taken() -> None:
    desk = Desk()
    desk.denials.stop()
    desk.add(7, "Job.Pause")
    assert desk.recorded == []


def test_one_that_cannot_be_made_ends_no_other() -> None:
    desk = Desk()

    def broken() -> AuditEvent:
        raise RuntimeError("a defect")

    desk.denials.add((7, "Job.Pause"), broken)
    desk.add(8, "Job.Pause")
    assert desk.news.acquire(timeout=LONG_S)
    desk.denials.stop()
    assert desk.counted() == [("Job.Pause", 1)]
