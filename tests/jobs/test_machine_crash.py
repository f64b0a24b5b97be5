"""Whatever line the daemon dies at, its next start ends what was begun with a machine."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from p2vd.jobs.machine_step import go_on
from p2vd.model.job import MachineState
from p2vd.model.plan import Cutover, DomainOptions
from tests.jobs.machine_lab import MACHINE, Crash, MachineLab, settle, wwid

S = MachineState
NEVER = threading.Event()


def crash_everywhere(
    tmp_path: Path,
    begin: Callable[[MachineLab], object],
    state: S,
    end: S,
    cutover: Cutover = Cutover.AUTO,
    domain: DomainOptions | None = None,
) -> list[MachineLab]:
    """Let the daemon die at each passage of the gate in turn, start it again, and see it end well."""
    labs = []
    for fatal in itertools.count():
        directory = tmp_path / str(fatal)
        directory.mkdir()
        lab = MachineLab(directory, state=state, cutover=cutover, domain=domain)
        begin(lab)
        lab.gate.fatal = lab.gate.passed + fatal
        try:
            go_on(lab.services, MACHINE, NEVER)
        except Crash:
            lab.store.close()
            lab.boot()
            settle(lab, lab.desk.start, end)
        labs.append(lab)
        assert lab.machine.state is end
        assert lab.machine.error is None
        if lab.gate.passed <= lab.gate.fatal:
            assert fatal >= 4, "the gate was never passed"
            return labs
    raise AssertionError


def test_a_registration_that_died_anywhere_leaves_one_domain(tmp_path: Path) -> None:
    for lab in crash_everywhere(tmp_path, lambda _: None, S.COPYING, S.REGISTERED):
        assert list(lab.hypervisor.domains) == [MACHINE]
        assert lab.machine.domain_uuid == MACHINE


def test_a_registration_that_died_anywhere_leaves_the_domain_running_where_policy_says_so(
    tmp_path: Path,
) -> None:
    started = DomainOptions(start=True)
    for lab in crash_everywhere(tmp_path, lambda _: None, S.COPYING, S.REGISTERED, domain=started):
        assert list(lab.hypervisor.domains) == [MACHINE]
        assert lab.hypervisor.running == {MACHINE}
        assert lab.machine.ran_us


def test_a_cutover_that_died_anywhere_has_one_domain_that_runs(tmp_path: Path) -> None:
    def begin(lab: MachineLab) -> None:
        lab.board.cutover(MACHINE, start=True)

    for lab in crash_everywhere(tmp_path, begin, S.READY, S.REGISTERED, Cutover.MANUAL):
        assert list(lab.hypervisor.domains) == [MACHINE]
        assert lab.hypervisor.running == {MACHINE}


def test_a_rollback_that_died_anywhere_leaves_none(tmp_path: Path) -> None:
    for lab in crash_everywhere(tmp_path, rolling_back, S.REGISTERED, S.ROLLED_BACK):
        assert lab.hypervisor.domains == {}


def rolling_back(lab: MachineLab) -> None:
    lab.board.change_machine(MACHINE, lambda machine: replace(machine, state=S.ROLLING_BACK))


def test_an_acceptance_that_died_anywhere_leaves_no_source(tmp_path: Path) -> None:
    def begin(lab: MachineLab) -> None:
        lab.board.change_machine(MACHINE, lambda machine: replace(machine, state=S.ACCEPTING))

    for lab in crash_everywhere(tmp_path, begin, S.REGISTERED, S.ACCEPTED):
        assert lab.array.sources == {}
        assert lab.machine.unmap == (wwid(0), wwid(1), wwid(2))
