"""A machine from its last proven disk on: registered once, all or nothing, taken back, accepted."""

import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from p2vd.jobs.events import Event, MachineChanged
from p2vd.jobs.machine_step import go_on, withdraw
from p2vd.jobs.transitions import JobEvent
from p2vd.model.cutover import CutoverRequest
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Caller, JobError, MachineState, Stage
from p2vd.model.plan import Cutover, DomainOptions
from p2vd.registration.errors import DomainNameTaken, DomainRunning, LibvirtFailed, LibvirtUnreachable
from p2vd.registration.files import FileHypervisor
from tests.jobs.machine_lab import MACHINE, PATIENCE_S, MachineLab, settle, wwid

S = MachineState
NEVER = threading.Event()
WHO = Caller(1000)
STARTED = DomainOptions(start=True)
REFUSAL = DomainNameTaken("qemu:///system", "erp1", "other")


def volumes(xml: str) -> list[str]:
    return [element.attrib["dev"] for element in ET.fromstring(xml).iterfind("devices/disk/source")]


# ---- registration ------------------------------------------------------------------------------


def test_all_disks_are_registered_once_in_their_order(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, disks=6)
    go_on(lab.services, MACHINE, NEVER)
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.machine.domain_uuid) == (S.REGISTERED, MACHINE)
    assert volumes(lab.hypervisor.domains[MACHINE]) == [f"/dev/vg_san/erp1-{n}" for n in range(1, 7)]
    assert lab.hypervisor.asked == ["define"]


@pytest.mark.parametrize(
    "one",
    [
        {"stage": Stage.FAILED, "finished": False},
        {"stage": Stage.COPYING, "finished": False},
        {"finished": False},
    ],
    ids=["failed", "copying", "proven but not finished"],
)
def test_nothing_is_defined_while_one_disk_is_not_done(tmp_path: Path, one: dict[str, object]) -> None:
    lab = MachineLab(tmp_path)
    lab.change(1, **one)
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.hypervisor.asked) == (S.COPYING, [])
    lab.change(1, stage=Stage.PROVEN, finished=True)
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.REGISTERED
    assert volumes(lab.hypervisor.domains[MACHINE]) == [f"/dev/vg_san/erp1-{n}" for n in (1, 2, 3)]


def test_a_machine_shows_which_disk_keeps_it_from_going_on(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    assert lab.desk.shown(lab.machine).error is None
    lab.change(1, stage=Stage.FAILED, error=JobError("SourceChanged", "The source is another."))
    assert lab.desk.shown(lab.machine).error == JobError(
        "SourceChanged", f"Disk 2 of 3 ({wwid(1)}) failed: The source is another."
    )
    lab.change(1, stage=Stage.CANCELLED)
    shown = lab.desk.shown(lab.machine).error
    assert shown is not None
    assert "was cancelled" in shown.message
    assert lab.machine.error is None


def test_the_machine_is_told_of_again_when_one_of_its_disks_fails_and_goes_on(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    lab.change(1, stage=Stage.COPYING)
    told: list[Event] = []
    lab.board.subscribe(told.append)
    lab.board.advance(lab.machine.jobs[1], JobEvent.FAIL, JobError("A", "b"))
    assert told.count(MachineChanged(MACHINE)) == 1
    lab.board.advance(lab.machine.jobs[1], JobEvent.RETRY)
    assert told.count(MachineChanged(MACHINE)) == 2


def test_a_definition_that_is_refused_waits_to_be_retried(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    lab.hypervisor.refuses.append(REFUSAL)
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    assert lab.machine.error == JobError("DomainNameTaken", str(REFUSAL))
    settle(lab, lambda: lab.desk.retry(lab.machine), S.REGISTERED)
    assert lab.machine.error is None


def test_a_manual_machine_waits_for_its_cutover(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, cutover=Cutover.MANUAL)
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.hypervisor.asked) == (S.READY, [])
    with pytest.raises(IllegalTransition, match="waits for its cutover"):
        lab.desk.retry(lab.machine)
    settle(lab, lambda: lab.desk.cutover(MACHINE, CutoverRequest(start=True), WHO), S.REGISTERED)
    assert lab.hypervisor.asked == ["define", "start"]
    assert lab.hypervisor.is_running(MACHINE)
    with pytest.raises(IllegalTransition, match="registered: cutover is not possible"):
        lab.desk.cutover(MACHINE, CutoverRequest(), WHO)


def test_a_machine_is_started_once_it_is_registered_where_its_policy_says_so(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, domain=STARTED)
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.machine.error) == (S.REGISTERED, None)
    assert lab.hypervisor.asked == ["define", "start"]
    assert lab.hypervisor.is_running(MACHINE)
    assert lab.machine.ran_us


def test_files_are_not_started_by_p2vd_whatever_the_policy_says(tmp_path: Path) -> None:
    files = FileHypervisor("kubevirt", tmp_path)
    domain = replace(STARTED, uri="kubevirt", directory=str(tmp_path), nodes=("n1",))
    lab = MachineLab(tmp_path, domain=domain)
    cast(Any, lab.services).files = lambda tool, directory: files
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.machine.error, lab.machine.ran_us) == (S.REGISTERED, None, 0)
    assert 'runStrategy: "Always"' in (tmp_path / "erp1.yaml").read_text()


@pytest.mark.parametrize(
    ("policy", "asked", "started"),
    [(True, None, True), (True, False, False), (False, None, False), (False, True, True)],
    ids=["as policy says", "not, whatever it says", "as policy says: not", "whatever it says"],
)
def test_a_cutover_without_a_word_about_starting_is_as_the_policy_says(
    tmp_path: Path, policy: bool, asked: bool | None, started: bool
) -> None:
    lab = MachineLab(tmp_path, state=S.READY, cutover=Cutover.MANUAL, domain=DomainOptions(start=policy))
    settle(lab, lambda: lab.desk.cutover(MACHINE, CutoverRequest(start=asked), WHO), S.REGISTERED)
    assert lab.hypervisor.is_running(MACHINE) is started


def test_a_registration_that_is_tried_again_starts_what_its_cutover_said(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.READY, cutover=Cutover.MANUAL, domain=STARTED)
    lab.hypervisor.refuses.append(REFUSAL)
    settle(lab, lambda: lab.desk.cutover(MACHINE, CutoverRequest(start=False), WHO), S.READY)
    assert lab.machine.error is not None
    go_on(lab.services, MACHINE, NEVER)
    assert (lab.machine.state, lab.hypervisor.asked) == (S.REGISTERED, ["define", "define"])


def test_a_cutover_before_all_is_copied_is_refused(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, cutover=Cutover.MANUAL)
    with pytest.raises(IllegalTransition, match="copying: cutover is not possible"):
        lab.desk.cutover(MACHINE, CutoverRequest(), WHO)
    assert lab.machine.start is False


def test_a_second_cutover_while_the_first_is_under_way_is_refused(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.READY, cutover=Cutover.MANUAL)
    lab.board.cutover(MACHINE, start=True)
    with pytest.raises(IllegalTransition, match="registering: cutover is not possible"):
        lab.board.cutover(MACHINE, start=False)
    assert lab.machine.start


def test_the_last_cutover_says_whether_the_domain_is_started(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.READY, cutover=Cutover.MANUAL)
    lab.board.cutover(MACHINE, start=True)
    lab.hypervisor.refuses.append(REFUSAL)
    go_on(lab.services, MACHINE, NEVER)
    lab.board.cutover(MACHINE, start=False)
    go_on(lab.services, MACHINE, NEVER)
    assert lab.hypervisor.asked == ["define", "define"]


def test_a_domain_that_does_not_start_is_registered_all_the_same(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, cutover=Cutover.MANUAL)
    go_on(lab.services, MACHINE, NEVER)
    lab.board.cutover(MACHINE, start=True)
    define = lab.hypervisor.define

    def define_then_refuse(xml: str, uuid: str) -> None:
        define(xml, uuid)
        lab.hypervisor.refuses.append(LibvirtFailed("qemu:///system", "starting", "no memory", 1))

    lab.hypervisor.define = define_then_refuse  # type: ignore[method-assign]
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.REGISTERED
    assert lab.machine.error is not None
    assert lab.machine.error.message.startswith("It is registered, but was not started.")
    assert lab.machine.error.message.endswith("When that is mended: virsh start erp1")


# ---- libvirtd is away --------------------------------------------------------------------------


@pytest.mark.parametrize("outages", [1, 4])
@pytest.mark.parametrize("late", [0, 2])
def test_a_libvirtd_that_is_away_is_waited_for_without_being_asked(
    tmp_path: Path, outages: int, late: int
) -> None:
    lab = MachineLab(tmp_path)
    lab.hypervisor.outages, lab.hypervisor.late = outages, late
    settle(lab, lambda: lab.desk.nudge(MACHINE), S.REGISTERED)
    assert list(lab.hypervisor.domains) == [MACHINE]
    assert len(lab.hypervisor.asked) == outages + late + 1
    assert lab.machine.error is None


def test_meanwhile_the_machine_is_ready_and_says_why(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    lab.hypervisor.outages = 1
    with pytest.raises(LibvirtUnreachable):
        go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    assert lab.machine.error is not None
    assert "tried again by itself" in lab.machine.error.message
    assert lab.desk.shown(lab.machine) == lab.machine


def test_a_volume_group_that_is_away_is_waited_for_too(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    lab.vg, group = replace(lab.vg, uuid="elsewhere"), lab.vg
    told = threading.Event()
    lab.board.subscribe(lambda _: told.set() if lab.machine.error else None)
    lab.desk.nudge(MACHINE)
    assert told.wait(PATIENCE_S)
    settle(lab, lambda: setattr(lab, "vg", group), S.REGISTERED)


def test_a_stop_ends_the_waiting_and_the_next_start_goes_on(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path)
    lab.hypervisor.outages = 1_000_000
    told = threading.Event()
    lab.board.subscribe(lambda _: told.set() if lab.machine.error else None)
    lab.desk.nudge(MACHINE)
    assert told.wait(PATIENCE_S)
    lab.desk.stop(PATIENCE_S)
    asked = len(lab.hypervisor.asked)
    lab.desk.nudge(MACHINE)
    assert len(lab.hypervisor.asked) == asked
    lab.hypervisor.outages = 0
    lab.boot()
    settle(lab, lab.desk.start, S.REGISTERED)


def test_a_disk_is_given_up_only_when_no_domain_is_left_that_has_it(tmp_path: Path) -> None:
    """libvirtd carried out what it could not say any more; then the disk is cancelled."""
    lab = MachineLab(tmp_path)
    withdraw(lab.services, lab.machine, lab.board.job(lab.machine.jobs[0]))
    assert lab.hypervisor.asked == []
    lab.hypervisor.late = 1
    with pytest.raises(LibvirtUnreachable):
        go_on(lab.services, MACHINE, NEVER)
    assert lab.hypervisor.domains
    lab.board.cancel(lab.machine.jobs[0], keep_target=False)
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    withdraw(lab.services, lab.machine, lab.board.job(lab.machine.jobs[0]))
    assert lab.hypervisor.domains == {}
    lab.hypervisor.domains[MACHINE] = "<domain/>"
    lab.hypervisor.running.add(MACHINE)
    with pytest.raises(DomainRunning):
        withdraw(lab.services, lab.machine, lab.board.job(lab.machine.jobs[0]))


# ---- rollback ----------------------------------------------------------------------------------


def test_a_rollback_undefines_and_touches_nothing_else(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.REGISTERED)
    settle(lab, lambda: lab.desk.rollback(MACHINE, WHO), S.ROLLED_BACK)
    assert lab.hypervisor.domains == {}
    assert (lab.machine.domain_uuid, lab.machine.error) == ("", None)
    assert lab.array.calls == []
    with pytest.raises(IllegalTransition):
        lab.desk.accept(MACHINE, WHO)


def test_a_running_machine_is_not_rolled_back(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.REGISTERED)
    lab.hypervisor.running.add(MACHINE)
    settle(lab, lambda: lab.desk.rollback(MACHINE, WHO), S.REGISTERED)
    assert lab.machine.error is not None
    assert lab.machine.error.name == "DomainRunning"
    assert lab.machine.domain_uuid == MACHINE
    assert list(lab.hypervisor.domains) == [MACHINE]


def test_a_rollback_waits_for_libvirtd(tmp_path: Path) -> None:
    lab = MachineLab(tmp_path, state=S.REGISTERED)
    lab.hypervisor.outages = 3
    settle(lab, lambda: lab.desk.rollback(MACHINE, WHO), S.ROLLED_BACK)
    assert lab.hypervisor.domains == {}


@pytest.mark.parametrize("state", [S.COPYING, S.READY, S.ACCEPTED, S.ROLLED_BACK])
def test_what_is_not_registered_is_neither_rolled_back_nor_accepted(tmp_path: Path, state: S) -> None:
    lab = MachineLab(tmp_path, state=state)
    for verb in (lab.desk.rollback, lab.desk.accept):
        with pytest.raises(IllegalTransition, match=state.value):
            verb(MACHINE, WHO)
    assert lab.machine.state is state
