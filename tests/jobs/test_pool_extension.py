"""A pool that p2vd is to extend and cannot: the cause is said, and it is not tried without a pause."""

import threading
from dataclasses import replace

import pytest

from p2vd.jobs.pool_extension import PoolExtender
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.model.lvm import Vg
from p2vd.model.plan import PoolExtension
from p2vd.model.size import GIB
from p2vd.provisioning.lvm import Volumes
from p2vd.system.clock import SystemClock
from tests.fakes import FakeCommands
from tests.jobs.threads import no_more
from tests.jobs.values import machine_and_job

LONG_S = 60.0
_, PLAIN = machine_and_job()
POLICY = PoolExtension(step_bytes=GIB, max_bytes=8 * GIB)
JOB = replace(PLAIN, plan=replace(PLAIN.plan, copy=replace(PLAIN.plan.copy, pool_extension=POLICY)))


class Desk:
    """An extender whose look at the volume group fails as a test says."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.looks = 0
        commands = FakeCommands()
        self.extender = PoolExtender(
            commands,
            Volumes(commands, self.volume_group),
            self.volume_group,
            PoolWatch(commands),
            lambda *_: None,
            SystemClock(),
        )

    def volume_group(self, _: str) -> Vg:
        self.looks += 1
        raise self.error

    def want(self) -> str:
        said = self.extender.want(JOB)
        for thread in threading.enumerate():
            if thread.name.startswith("extend-"):
                thread.join(LONG_S)
        return said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(5, "Input/output error"), "p2vd could not extend it: Input/output error."),
        (RuntimeError("a defect"), "p2vd has a fault (RuntimeError: a defect): see journalctl -u p2vd."),
    ],
)
def test_what_keeps_it_from_being_extended_is_said_and_not_tried_at_once_again(
    error: Exception, told: str
) -> None:
    desk = Desk(error)
    assert desk.want() == ""
    assert desk.want() == told
    assert desk.want() == told
    assert desk.looks == 1


def test_without_a_thread_it_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(OSError(5, "Input/output error"))
    with no_more(monkeypatch):
        said = desk.want()
    assert said.startswith("p2vd could not extend it: ")
    assert "(can't start new thread)" in said
    desk.want()
    assert desk.looks == 1
