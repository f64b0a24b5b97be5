"""A machine that is registered otherwise than its plan says: unconverted, or as the policy says by now."""

import itertools
import threading
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.domain.errors import DomainImpossible
from p2vd.jobs.cutover import Seen
from p2vd.jobs.machine_desk import MachineDesk
from p2vd.jobs.machine_step import go_on, withdraw
from p2vd.jobs.transitions import MachineEvent
from p2vd.model.cutover import CutoverRequest
from p2vd.model.domain import Conversion
from p2vd.model.errors import IllegalTransition, InvalidArgument, NotFound
from p2vd.model.job import Caller, MachineState
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType
from p2vd.model.size import GIB
from p2vd.planning.cutover import present_options, unconverted
from p2vd.registration.errors import ConverterMissing, DefinitionRefused, LibvirtUnreachable
from tests.jobs.machine_lab import MACHINE, Crash, MachineLab, settle
from tests.jobs.test_conversion import Daemon, PowerCut, Storage
from tests.planning.builders import THIN, make_policies

S = MachineState
NEVER = threading.Event()
WHO = Caller(1000)
PLAN_ID = "0123456789abcdef"
UNCONVERTED, PRESENT = CutoverRequest(convert=False), CutoverRequest(policy=True)
REFUSED = DefinitionRefused("qemu:///system", "defining domain erp1", "no kvm", 8, "erp1")
EMULATED = THIN + '[rule.domain]\ntype = "qemu"\nmemory = "3 GiB"\n'


def lab_of(
    directory: Path, options: DomainOptions | None = None, policy: str = EMULATED, disks: int = 1
) -> MachineLab:
    """A machine that is ready, whose plan has these options, and the policy of now."""
    lab = MachineLab(directory, disks=disks, state=S.READY)
    if options is not None:
        lab.store.put_plan(replace(lab.store.plan(PLAN_ID), domain=options))
    lab.policies = make_policies(policy)
    return lab


def converting(**options: object) -> DomainOptions:
    """As a plan has it: what was left open is filled in."""
    wanted = DomainOptions(conversion=Conversion.VIRT_V2V, bus=DiskBus.VIRTIO)
    return replace(wanted, **options)  # type: ignore[arg-type]


def cut_over(lab: MachineLab, request: CutoverRequest, end: MachineState) -> None:
    """Ask for it, and wait until the machine is there; the desk that `settle` stopped is gone."""
    lab.desk = MachineDesk(lab.services, first_wait_s=0.001)
    settle(lab, lambda: lab.desk.cutover(MACHINE, request, WHO), end)


def buses(lab: MachineLab) -> set[str]:
    root = ET.fromstring(lab.hypervisor.domains[MACHINE])
    return {element.attrib["bus"] for element in root.iterfind("devices/disk/target")}


def test_a_conversion_that_cannot_be_costs_no_copy(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, converting())
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    assert lab.machine.error is not None
    assert lab.machine.error.name == "ConverterMissing"
    assert "p2vctl cutover MACHINE --no-conversion" in lab.machine.error.message
    before = lab.jobs
    cut_over(lab, UNCONVERTED, S.REGISTERED)
    assert buses(lab) == {"sata"}, "an unconverted guest may not find virtio disks"
    assert lab.jobs == before


def test_a_definition_that_is_refused_is_made_anew_as_the_policy_says_now(tmp_path: Path) -> None:
    lab = lab_of(tmp_path)
    lab.hypervisor.refuses.append(REFUSED)
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    cut_over(lab, PRESENT, S.REGISTERED)
    root = ET.fromstring(lab.hypervisor.domains[MACHINE])
    assert (root.attrib["type"], root.findtext("memory")) == ("qemu", str(3 * GIB // 1024))
    lab.board.advance_machine(MACHINE, MachineEvent.ROLL_BACK)
    go_on(lab.services, MACHINE, NEVER)
    assert not lab.hypervisor.domains


@pytest.mark.parametrize(("said", "runs"), [(None, True), (False, False)], ids=["not said", "no"])
def test_the_policy_of_now_says_whether_it_is_started(tmp_path: Path, said: bool | None, runs: bool) -> None:
    lab = lab_of(tmp_path, policy=EMULATED + "start = true\n")
    request = replace(PRESENT, start=said)
    assert lab.desk.plan_cutover(MACHINE, request).start is runs
    cut_over(lab, request, S.REGISTERED)
    assert lab.hypervisor.is_running(MACHINE) is runs


def test_a_domain_of_the_choice_before_goes_first(tmp_path: Path) -> None:
    """libvirt leaves a domain as it is that was defined before."""
    lab = lab_of(tmp_path)
    lab.hypervisor.late = 1
    with pytest.raises(LibvirtUnreachable):
        go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.state is S.READY
    assert 'type="kvm"' in lab.hypervisor.domains[MACHINE]
    cut_over(lab, PRESENT, S.REGISTERED)
    assert lab.hypervisor.asked == ["define", "undefine", "define"]
    assert 'type="qemu"' in lab.hypervisor.domains[MACHINE]
    assert lab.machine.redefines is False


def test_a_choice_is_kept_until_another_is_made(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, converting())
    lab.hypervisor.refuses += [REFUSED, REFUSED]
    cut_over(lab, UNCONVERTED, S.READY)
    lab.store.close()
    lab.boot()
    go_on(lab.services, MACHINE, NEVER)
    assert lab.machine.error is not None
    assert lab.machine.error.name == "DefinitionRefused", "it was not converted by the retry"
    assert lab.desk.plan_cutover(MACHINE, CutoverRequest()).kept
    with pytest.raises(ConverterMissing):
        lab.desk.cutover(MACHINE, CutoverRequest(convert=True), WHO)
    assert lab.machine.domain == unconverted(converting())


@pytest.mark.parametrize("request_", [UNCONVERTED, PRESENT], ids=["unconverted", "present policy"])
def test_cut_off_anywhere_it_ends_as_was_chosen(tmp_path: Path, request_: CutoverRequest) -> None:
    for fatal in itertools.count():
        directory = tmp_path / str(fatal)
        directory.mkdir()
        lab = lab_of(directory, converting())
        lab.hypervisor.domains[MACHINE] = "<domain of='a try before'/>"
        lab.board.change_machine(MACHINE, lambda machine: replace(machine, handed_over=True))
        choice = lab.desk.plan_cutover(MACHINE, request_)
        lab.board.cutover(MACHINE, start=False, domain=choice.options)
        lab.gate.fatal = lab.gate.passed + fatal
        try:
            go_on(lab.services, MACHINE, NEVER)
        except Crash:
            lab.store.close()
            lab.boot()
            settle(lab, lab.desk.start, S.REGISTERED)
        assert lab.machine.domain == choice.options
        assert buses(lab) == {"sata"}
        if lab.gate.passed <= lab.gate.fatal:
            assert fatal >= 6, "the gate was never passed"
            return


@pytest.mark.parametrize("state", [state for state in S if state is not S.READY])
@pytest.mark.parametrize("request_", [UNCONVERTED, PRESENT], ids=["unconverted", "present policy"])
def test_only_a_machine_that_is_ready_has_a_choice(
    tmp_path: Path, state: MachineState, request_: CutoverRequest
) -> None:
    lab = lab_of(tmp_path)
    lab.board.change_machine(MACHINE, lambda machine: replace(machine, state=state))
    before = lab.machine
    with pytest.raises(IllegalTransition, match="cutover is not possible"):
        lab.desk.cutover(MACHINE, request_, WHO)
    assert lab.machine == before


def test_what_was_converted_meanwhile_is_not_registered_as_if_it_were_not(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, converting())
    seen = lab.machine
    options = lab.desk.plan_cutover(MACHINE, UNCONVERTED).options
    lab.board.change_machine(MACHINE, lambda machine: replace(machine, converted=True))
    with pytest.raises(IllegalTransition, match="not as it was when that was asked"):
        lab.board.cutover(
            MACHINE, start=False, domain=options, still=lambda now: Seen.of(now) == Seen.of(seen)
        )
    with pytest.raises(InvalidArgument, match="was converted already"):
        lab.desk.cutover(MACHINE, UNCONVERTED, WHO)
    assert (lab.machine.state, lab.machine.domain) == (S.READY, None)
    cut_over(lab, PRESENT, S.REGISTERED)
    assert buses(lab) == {"virtio"}


def test_what_cannot_be_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, disks=5)
    before = lab.machine
    lab.policies = make_policies(EMULATED.replace('wwid = "*"', 'wwid = "nowhere"'))
    with pytest.raises(InvalidArgument, match="no policy in force matches"):
        lab.desk.cutover(MACHINE, PRESENT, WHO)
    lab.policies = make_policies(EMULATED + 'bus = "ide"\n')
    with pytest.raises(DomainImpossible):
        lab.desk.cutover(MACHINE, PRESENT, WHO)
    lab.policies = make_policies(EMULATED + 'conversion = "virt-v2v-in-place"\n')
    with pytest.raises(ConverterMissing):
        lab.desk.cutover(MACHINE, PRESENT, WHO)
    lab.policies = make_policies(EMULATED)
    lab.array.sources.clear()
    with pytest.raises(NotFound):
        lab.desk.cutover(MACHINE, PRESENT, WHO)
    assert lab.machine == before


def test_another_hypervisor_is_refused_once_the_registration_was_begun(tmp_path: Path) -> None:
    xl = EMULATED.replace('type = "qemu"', f'hypervisor = "xl"\ndirectory = "{tmp_path}"')
    lab = lab_of(tmp_path, policy=xl)
    assert lab.desk.plan_cutover(MACHINE, PRESENT).options.uri == "xl"
    lab.hypervisor.refuses.append(REFUSED)
    go_on(lab.services, MACHINE, NEVER)
    with pytest.raises(InvalidArgument, match="was begun at qemu:///system, where it may be defined"):
        lab.desk.cutover(MACHINE, PRESENT, WHO)


def test_a_disk_that_is_given_up_after_another_choice_has_no_undo_point_left(tmp_path: Path) -> None:
    """Its plan knows of no conversion: a cutover wanted one, which was cut off, and then it was given up."""
    storage = Storage("pool0")
    daemon = Daemon(tmp_path, storage)
    uuid = daemon.board.machines()[0].uuid
    daemon.board.change_machine(
        uuid, lambda machine: replace(machine, domain=converting(), domain_uuid="", handed_over=True)
    )
    storage.converter_writes, storage.cut_after = "half", 2
    with pytest.raises(PowerCut):
        daemon.convert()
    storage.cut_after = 0
    machine = daemon.board.machine(uuid)
    assert daemon.services.store.plan(machine.plan_id).domain.conversion is Conversion.NONE
    withdraw(daemon.services, machine, daemon.board.machine_jobs(machine)[0])
    assert storage.undo is None
    assert storage.contents == {"lv-uuid": "copied"}
    daemon.services.store.close()


def test_another_choice_waits_for_a_conversion_that_still_runs(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, converting())
    lab.hypervisor.refuses.append(REFUSED)
    cut_over(lab, UNCONVERTED, S.READY)
    job = lab.jobs[0]
    assert not lab.array.changes
    assert lab.machine.domain is not None
    lab.array.running = frozenset({f"{MACHINE}-convert"})
    cut_over(lab, UNCONVERTED, S.READY)
    assert lab.machine.error is not None
    assert "the guest is being converted" in lab.machine.error.message, job


# ---- the options -----------------------------------------------------------------------------------


def test_the_bus_is_chosen_anew_only_where_a_conversion_was_to_make_it_fit() -> None:
    assert unconverted(converting()).bus is DiskBus.AUTO
    assert unconverted(DomainOptions(bus=DiskBus.VIRTIO)).bus is DiskBus.VIRTIO


@pytest.mark.parametrize(
    ("said", "firmware"), [("", Firmware.UEFI), ('firmware = "bios"\n', Firmware.BIOS)], ids=["open", "said"]
)
def test_what_was_seen_of_the_disks_stays(said: str, firmware: Firmware) -> None:
    (rule,) = make_policies(EMULATED + said).rules
    planned = DomainOptions(firmware=Firmware.UEFI, logical_block_size=4096, memory_bytes=GIB)
    options = present_options(rule, planned)
    assert (options.firmware, options.logical_block_size) == (firmware, 4096)
    assert (options.virt_type, options.memory_bytes) == (VirtType.QEMU, 3 * GIB)


def test_who_takes_a_machine_is_told_by_its_plan_unless_a_cutover_chose(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, DomainOptions("xl"))
    assert lab.desk.hypervisor(lab.machine) == "xl"
    chosen = replace(lab.machine, domain=DomainOptions("proxmox"))
    assert lab.desk.hypervisor(chosen) == "proxmox"
    assert lab.desk.hypervisor(replace(lab.machine, plan_id="gone")) == ""
