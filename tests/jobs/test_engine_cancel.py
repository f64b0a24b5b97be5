"""A job that is given up, or a daemon that stops: what has a volume open for p2vd's own sake ends."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.engine import Engine
from p2vd.jobs.policies import PolicyKeeper
from p2vd.model.boot_test import BootReport, BootRequest
from p2vd.model.job import Caller, MachineState, Stage
from p2vd.registration.errors import BootTestInterrupted
from tests.jobs.portal_desk import no_portals
from tests.jobs.proven_machine import JOB, MACHINE
from tests.jobs.record_desk import no_records
from tests.jobs.test_boot_test import LONG_S, Lab


class Patient:
    """Tests until it is stopped, and for no other reason."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        self.entered.set()
        assert stop.wait(LONG_S)
        raise BootTestInterrupted(request.machine.name)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, MachineState.READY)
    yield lab
    lab.services.store.close()


def test_a_boot_test_ends_with_the_job(lab: Lab, tmp_path: Path) -> None:
    """It may last an hour, and the volume is not removed while QEMU has it open."""
    tester, records = Patient(), no_records(tmp_path, lab.services.store)
    services = replace(lab.services, boot_tester=tester)
    engine = Engine(services, PolicyKeeper(list), no_portals(tmp_path / "portals"), records)
    engine.boot_test(MACHINE.uuid, {}, Caller())
    assert tester.entered.wait(LONG_S)
    engine.cancel(JOB.uuid, True, Caller())
    assert lab.result().error == "BootTestInterrupted"
    engine.stop()


class Tidy(Patient):
    """Takes some time to end, as the unit of a boot test does."""

    def __init__(self) -> None:
        super().__init__()
        self.tidied = threading.Event()

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        try:
            return super().run(request, stop)
        finally:
            time.sleep(0.5)
            self.tidied.set()


def test_the_daemon_waits_for_a_boot_test_that_tidies_up(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it has no copies to wait for: QEMU would outlive it, and the volume stay active."""
    tester, records = Tidy(), no_records(tmp_path, lab.services.store)
    services = replace(lab.services, boot_tester=tester)
    engine = Engine(services, PolicyKeeper(list), no_portals(tmp_path / "portals"), records)
    engine.boot_test(MACHINE.uuid, {}, Caller())
    assert tester.entered.wait(LONG_S)
    engine.stop()
    assert tester.tidied.is_set()
    monkeypatch.setattr(engine, "_crew", None)
    engine.stop()  # of one that has stopped nothing is stopped: it would cost the time once more


def test_a_finished_job_is_taken_up_again_while_its_source_is_still_read_only(
    lab: Lab, tmp_path: Path
) -> None:
    records = no_records(tmp_path, lab.services.store)
    engine = Engine(lab.services, PolicyKeeper(list), no_portals(tmp_path / "portals"), records)
    for stage in (Stage.PROVEN, Stage.CANCELLED):
        over = replace(JOB, stage=stage, finished=stage is Stage.PROVEN)
        assert engine._unfinished(replace(over, source_set_read_only=("/dev/sda",)))
        assert not engine._unfinished(replace(over, source_set_read_only=()))
    engine.stop()
