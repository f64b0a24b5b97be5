"""A change of LVM that does not end holds up the other jobs of its volume group, and fails none of them."""

import threading
from dataclasses import replace
from pathlib import Path

from p2vd.jobs.late_changes import late_changes, vg_of_change, with_late_changes
from p2vd.jobs.pool_extension import PoolExtender
from p2vd.jobs.runner import JobRunner
from p2vd.jobs.signals import Signals
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Machine, MachineState, Stage
from p2vd.model.plan import PoolExtension
from p2vd.model.size import GIB
from p2vd.provisioning.lvm import Volumes
from p2vd.system.clock import SystemClock
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine

OTHER = replace(JOB, uuid="33333333-3333-4333-8333-333333333333", machine_uuid="other")
UNIT = f"{OTHER.uuid}-create"
EXTENSION = PoolExtension(step_bytes=GIB, max_bytes=8 * GIB)
SHORT = replace(JOB, plan=replace(JOB.plan, copy=replace(JOB.plan.copy, pool_extension=EXTENSION)))
LONG_S = 60.0


class Hasty(Signals):
    """Waits for nothing."""

    def pause(self, seconds: float | None) -> None:
        del seconds


class Lab(ProvenMachine):
    """One job is cancelled, while the lvcreate of another, begun by an earlier daemon, runs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, MachineState.COPYING)
        self.board.add(Machine("other", "erp2", jobs=(OTHER.uuid,)), (OTHER,))
        self.board.change(JOB.uuid, lambda job: replace(job, stage=Stage.CANCELLING))
        volumes = Volumes(self.commands, self.volume_group, late_changes(self.commands, self.board))
        self.services = replace(self.services, volumes=volumes)
        self.commands.running = frozenset({UNIT, "login-portal"})
        self.commands.on("lvremove", self._remove)
        self.runner = JobRunner(self.services, JOB.uuid, lambda: True, lambda _: None)
        self.runner.signals = Hasty()

    def _remove(self, _: tuple[str, ...]) -> str:
        self.lv = replace(self.lv, uuid="another", tags=frozenset())
        return ""

    def step(self) -> tuple[Stage, Activity, str]:
        self.runner._step(self.board.job(JOB.uuid))
        return (self.board.job(JOB.uuid).stage, *self.board.activity(JOB.uuid)[:2])


def test_a_removal_waits_for_it_and_says_for_what(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    stage, activity, why = lab.step()
    assert (stage, activity, lab.commands.changes) == (Stage.CANCELLING, Activity.STALLED, [])
    assert f"vg_san takes no new work: the command in p2vd-change-{UNIT}.service does not end" in why
    lab.commands.running = frozenset()
    assert lab.step()[0] is Stage.CANCELLED
    assert [argv[0] for argv in lab.commands.changes] == ["lvremove"]


def test_a_change_belongs_to_the_volume_group_of_its_job_or_pool(tmp_path: Path) -> None:
    board = Lab(tmp_path).board
    assert vg_of_change(board, UNIT) == "vg-uuid"
    assert vg_of_change(board, "pool-uuid-extend") == "vg-uuid"
    assert vg_of_change(board, f"{MACHINE.uuid}-convert") == ""
    assert vg_of_change(board, "login-portal") == ""


def test_a_plan_is_told_of_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    seen = Inventory(volume_groups=(lab.volume_group("vg-uuid"),))
    lab.step()
    (group,) = with_late_changes(seen, lab.services.volumes.late).volume_groups
    assert group.late_change == UNIT
    lab.commands.running = frozenset()
    lab.step()
    assert with_late_changes(seen, lab.services.volumes.late) == seen


def test_a_pool_that_is_short_waits_for_it_and_nothing_is_recorded_as_begun(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    recorded: list[str] = []
    extender = PoolExtender(
        lab.commands,
        lab.services.volumes,
        lab.volume_group,
        lab.services.pools,
        lambda _, what, outcome, text: recorded.append(outcome),
        SystemClock(),
    )
    extender.want(SHORT)
    for thread in threading.enumerate():
        if thread.name.startswith("extend-"):
            thread.join(LONG_S)
    assert f"takes no new work: the command in p2vd-change-{UNIT}.service" in extender.want(SHORT)
    assert (recorded, lab.commands.changes) == ([], [])
