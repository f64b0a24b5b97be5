"""A host that gives no thread for a moment: what is durable goes on by itself, what is not is refused."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.jobs.again import Again
from p2vd.jobs.checkup import Checkup
from p2vd.jobs.crew import Crew
from p2vd.jobs.engine import Engine
from p2vd.jobs.machine_desk import MachineDesk
from p2vd.jobs.planner import Planner
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.portal_request import PortalRequest
from p2vd.jobs.portals import Portals
from p2vd.jobs.rescans import Rescans
from p2vd.jobs.sampler import Sampler
from p2vd.jobs.services import Services
from p2vd.jobs.wave_planning import WavePlanning
from p2vd.model.audit import AuditEvent, Kind
from p2vd.model.errors import P2vdError
from p2vd.model.job import MachineState, Stage
from p2vd.model.portal import PortalState
from p2vd.model.wave import WaveEntry
from p2vd.system.threads import NoThread
from tests.fakes import StoppedClock
from tests.iscsi_host import IscsiHost
from tests.jobs.fake_disks import Disks
from tests.jobs.machine_lab import PATIENCE_S, MachineLab, settle
from tests.jobs.portal_desk import A, Desk, no_portals
from tests.jobs.proven_machine import JOB, MACHINE
from tests.jobs.record_desk import no_records
from tests.jobs.test_boot_test import Lab as BootLab
from tests.jobs.test_crew import Lab as CrewLab
from tests.jobs.test_denials import Desk as DenialDesk
from tests.jobs.threads import no_more
from tests.jobs.values import source

NoneLeft = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def none_left(monkeypatch: pytest.MonkeyPatch) -> NoneLeft:
    """A while in which no thread starts, as Python tells that."""
    return partial(no_more, monkeypatch)


class Timers:
    """Those of the main loop: they go off when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, _: float, act: Callable[[], None]) -> None:
        self.waiting.append(act)

    def go_off(self) -> None:
        waiting, self.waiting = self.waiting, []
        for act in waiting:
            act()


# ---- what is durable goes on ----------------------------------------------------------------------


def test_a_job_begins_once_there_is_a_thread(tmp_path: Path, none_left: NoneLeft) -> None:
    lab, timers = CrewLab(tmp_path), Timers()
    lab.crew = Crew(lab.crew._services, lambda _: lab.ends.release(), Again(timers))
    with none_left():
        lab.cancel()
        lab.crew.nudge(lab.job.uuid)
        assert len(timers.waiting) == 1
        timers.go_off()
    assert lab.board.job(lab.job.uuid).stage is Stage.CANCELLING
    timers.go_off()
    lab.wait_cancelled()
    assert timers.waiting == []


def test_that_a_job_could_not_begin_is_logged_once(
    tmp_path: Path, none_left: NoneLeft, caplog: pytest.LogCaptureFixture
) -> None:
    lab, timers = CrewLab(tmp_path), Timers()
    crew = Crew(lab.crew._services, lambda _: lab.ends.release(), Again(timers))
    with none_left():
        crew.nudge(lab.job.uuid)
        for _ in range(5):
            timers.go_off()
    assert caplog.text.count("TasksMax=") == 1
    timers.go_off()
    assert lab.ends.acquire(timeout=PATIENCE_S)
    assert caplog.text.count("is begun now") == 1


def test_a_crew_whose_runner_did_not_start_can_be_stopped(tmp_path: Path, none_left: NoneLeft) -> None:
    """A thread that was never started cannot be joined: the stop of the daemon ended there."""
    lab, timers = CrewLab(tmp_path), Timers()
    crew = Crew(lab.crew._services, lambda _: lab.ends.release(), Again(timers))
    with none_left():
        crew.nudge(lab.job.uuid)
        crew.stop(0.0)
    timers.go_off()
    assert not lab.ends.acquire(blocking=False)


def test_a_machine_is_registered_once_there_is_a_thread(tmp_path: Path, none_left: NoneLeft) -> None:
    lab, timers = MachineLab(tmp_path), Timers()
    lab.desk = MachineDesk(lab.services, 0.001, Again(timers))
    with none_left():
        lab.desk.start()
        timers.go_off()
    settle(lab, timers.go_off, MachineState.REGISTERED)


def test_a_desk_whose_task_did_not_start_can_be_stopped(tmp_path: Path, none_left: NoneLeft) -> None:
    lab, timers = MachineLab(tmp_path), Timers()
    desk = MachineDesk(lab.services, 0.001, Again(timers))
    with none_left():
        desk.start()
        desk.stop(0.0)
    timers.go_off()
    assert lab.machine.state is MachineState.COPYING


def test_a_remembered_portal_is_connected_once_there_is_a_thread(
    tmp_path: Path, host: IscsiHost, none_left: NoneLeft
) -> None:
    desk, timers = Desk(tmp_path, host), Timers()
    desk.add(A)
    desk.portals.stop()
    desk.store.close()
    again = Desk(tmp_path, host)
    again.portals = Portals(
        desk.portals._tools, again.store, again.hear, first_wait_s=0.001, again=Again(timers)
    )
    with none_left():
        again.portals.start()
        timers.go_off()
    assert again.views()[A].state is PortalState.CONNECTING
    timers.go_off()
    again.settled(A, PortalState.CONNECTED)
    again.portals.stop()


# ---- what is not is refused, and can be asked for again -------------------------------------------


def test_the_verbs_of_a_portal(desk: Desk, none_left: NoneLeft) -> None:
    with none_left(), pytest.raises(NoThread):
        desk.portals.add(PortalRequest(A))
    assert (desk.views(), desk.store.portals()) == ({}, ())
    before = desk.add(A)
    for verb in (
        lambda: desk.portals.add(PortalRequest(A, targets=("iqn.other",))),
        lambda: desk.portals.remove(A, lambda _: None),
        lambda: desk.portals.rescan(A, "", lambda _: None),
    ):
        with none_left(), pytest.raises(NoThread):
            verb()
        now = desk.views()[A]
        assert (now.state, now.record) == (PortalState.CONNECTED, before.record)
    assert desk.store.portals() == (before.record,)
    assert desk.rescan(A) is None
    assert desk.remove(A) is None


def test_a_look_at_the_host(none_left: NoneLeft) -> None:
    checkup = Checkup(lambda: 7)
    with none_left(), pytest.raises(NoThread):
        checkup.facts(0.0)
    assert checkup.facts(PATIENCE_S) == 7


def test_a_sample_of_a_disk(none_left: NoneLeft) -> None:
    disks = Disks()
    disks.gate.set()
    sampler = Sampler(disks.start, StoppedClock())
    with none_left(), pytest.raises(NoThread):
        sampler.take([(source(), 4096)], 0.0)
    assert len(sampler.take([(source(), 4096)], PATIENCE_S)) == 1


def test_a_scan_for_luns(none_left: NoneLeft) -> None:
    """It was said to be under way for ever."""
    exports = SimpleNamespace(ask_soon=lambda: None)
    services = cast(Services, SimpleNamespace(exports=exports))
    told: list[P2vdError | None] = []
    with none_left():
        Rescans(services, told.append).begin(told.append, "host0")
    assert [type(error) for error in told] == [NoThread]


def test_the_plan_of_a_wave(none_left: NoneLeft) -> None:
    planning = WavePlanning(cast(Services, None), cast(Planner, None))
    entries = (WaveEntry(sources=("x",)),)
    for _ in range(2):
        with none_left(), pytest.raises(NoThread):
            planning.plan(entries)


def test_a_boot_test(tmp_path: Path, none_left: NoneLeft) -> None:
    lab = BootLab(tmp_path)
    with none_left(), pytest.raises(NoThread):
        lab.tests.start(MACHINE.uuid, {})
    assert lab.board.machine(MACHINE.uuid).boot_test is None
    lab.tests.stop()


# ---- what is told, and the end --------------------------------------------------------------------


def test_refused_calls_are_recorded_once_there_is_a_thread(none_left: NoneLeft) -> None:
    desk = DenialDesk()
    with none_left():
        desk.add(7, "Job.Pause")
    desk.add(7, "Job.Pause")
    assert desk.news.acquire(timeout=PATIENCE_S)
    desk.denials.stop()
    assert desk.counted() == [("Job.Pause", 2)]


def test_refused_calls_are_recorded_at_the_stop_where_there_never_was_one(none_left: NoneLeft) -> None:
    desk = DenialDesk()
    with none_left():
        desk.add(7, "Job.Pause")
        desk.denials.add((8, "Job.Cancel"), lambda: AuditEvent(Kind.DENIED, "Job.Cancel"))
        desk.denials.stop()
    assert desk.counted() == [("Job.Pause", 1), ("Job.Cancel", 1)]


def amid_a_boot_test(directory: Path) -> tuple[BootLab, Engine]:
    """A daemon in the middle of a boot test."""
    lab = BootLab(directory, MachineState.READY)
    lab.tester.waits = True
    records = no_records(directory, lab.services.store)
    services = replace(lab.services, again=Again(Timers()))
    engine = Engine(services, PolicyKeeper(list), no_portals(directory / "portals"), records)
    engine.boot_test(MACHINE.uuid, {}, JOB.started_by)
    assert lab.tester.entered.wait(PATIENCE_S)
    return lab, engine


def test_a_stop_ends_everything_without_a_thread(tmp_path: Path, none_left: NoneLeft) -> None:
    lab, engine = amid_a_boot_test(tmp_path)
    with none_left():
        engine.stop()
    assert lab.result().error == "BootTestInterrupted"


def test_a_stop_tells_all_before_it_waits_for_the_workers(
    tmp_path: Path, none_left: NoneLeft, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were ended one after another when the workers had taken all the time that there is."""
    lab, engine = amid_a_boot_test(tmp_path)
    ended: list[str] = []
    monkeypatch.setattr(engine._crew, "stop", lambda _: ended.append(lab.result().error))
    with none_left():
        engine.stop()
    assert ended == ["BootTestInterrupted"]
