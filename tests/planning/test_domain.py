"""The virtual machine on a plan's page."""

from dataclasses import replace

import pytest

from p2vd.model.contents import BootStyle, Contents, Table
from p2vd.model.errors import PlanOutdated, Refused
from p2vd.model.passport import Cpu, GuestSystem, Nic, Passport
from p2vd.model.plan import DiskBus, Firmware
from p2vd.model.size import GIB
from p2vd.planning.contents import firmware
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import SOURCE, THIN, WWID, make_inventory, make_policies, make_source

REQUEST = PlanRequest((WWID,), "web1", source_offline=True)
PASSPORT = Passport(
    "web1",
    cpu=Cpu(sockets=2, cores=4, threads=1),
    memory_bytes=32 * GIB,
    firmware=Firmware.UEFI,
    nics=(Nic("eth0", mac="00:25:90:ab:cd:01", addresses=("10.1.2.3/24",)),),
    system=GuestSystem(id="debian", drivers=("virtio_blk", "virtio_net"), boot_drivers=("virtio_blk",)),
)
LAN = THIN + '[rule.domain]\nnetwork = "lan"\n'


def test_a_plan_explains_the_machine_and_keeps_what_it_showed() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(LAN), {"web1": PASSPORT})
    assert plan.domain.memory_bytes == 32 * GIB
    assert (plan.domain.vcpus, plan.domain.bus) == (8, DiskBus.VIRTIO)
    choices = {choice.key: choice for choice in plan.domain_choices}
    assert choices["memory"].value == "32 GiB"
    assert choices["nic eth0"].value == "lan, 00:25:90:ab:cd:01"
    assert choices["disk-bus"].why == "debian has virtio_blk when it looks for its root."
    assert plan.steps[4] == (
        "Define the virtual machine web1 at qemu:///system: 32 GiB of memory, 8 CPUs, uefi, its disk on "
        "virtio, a NIC on the network lan."
    )


def test_a_passport_that_says_something_else_outdates_the_plan() -> None:
    inventory, policies = make_inventory(), make_policies(LAN)
    plan = make_plan(REQUEST, inventory, policies, {"web1": PASSPORT})
    assert recheck(plan, inventory, policies, {"web1": PASSPORT}) == plan
    with pytest.raises(PlanOutdated, match="the virtual machine's memory is now '64 GiB', was '32 GiB'"):
        recheck(plan, inventory, policies, {"web1": replace(PASSPORT, memory_bytes=64 * GIB)})


def test_what_may_keep_the_guest_from_starting_is_a_warning() -> None:
    lacking = replace(PASSPORT, system=GuestSystem(id="x", boot_drivers=("megaraid_sas",)))
    plan = make_plan(REQUEST, make_inventory(), make_policies(LAN), {"web1": lacking})
    assert any("may not find its root" in warning for warning in plan.warnings)


def test_a_machine_that_the_hypervisor_cannot_give_refuses_the_plan() -> None:
    policies = make_policies(THIN + "[rule.domain]\nvcpus = 300\n")
    with pytest.raises(Refused) as caught:
        make_plan(REQUEST, make_inventory(), policies)
    (reason,) = caught.value.reasons
    assert reason.code == "domain-vcpus"
    assert "QEMU gives a guest 255 CPUs at most" in reason.text


@pytest.mark.parametrize(
    ("style", "known", "chosen"),
    [
        (BootStyle.NONE, Firmware.UEFI, Firmware.UEFI),
        (BootStyle.BOTH, Firmware.UEFI, Firmware.UEFI),
        (BootStyle.BIOS, Firmware.UEFI, Firmware.BIOS),
        (BootStyle.UEFI, Firmware.BIOS, Firmware.UEFI),
        (BootStyle.BOTH, None, Firmware.BIOS),
    ],
)
def test_where_the_disk_does_not_tell_the_passport_does(
    style: BootStyle, known: Firmware | None, chosen: Firmware
) -> None:
    (rule,) = make_policies(THIN).rules
    source = make_source(contents=Contents(table=Table.GPT, boot=style, physical_sector_size=512))
    assert firmware(source, rule, replace(PASSPORT, firmware=known)) is chosen


def test_a_disk_that_was_not_examined_boots_as_its_machine_did() -> None:
    (rule,) = make_policies(THIN).rules
    assert firmware(SOURCE, rule, PASSPORT) is Firmware.UEFI


def test_the_start_of_the_machine_is_a_step_where_p2vd_does_it() -> None:
    def steps(policy: str, cutover: str = "auto") -> tuple[str, ...]:
        text = policy.replace("[rule.match]", f'cutover = "{cutover}"\n[rule.match]')
        return make_plan(REQUEST, make_inventory(), make_policies(text)).steps

    started = THIN + "[rule.domain]\nstart = true\n"
    assert steps(started)[-1] == "Start the virtual machine web1."
    assert steps(started, "manual")[-1] == (
        "When told to (p2vctl cutover web1), start the virtual machine web1, unless told not to (--no-start)."
    )
    assert steps(THIN)[-1].startswith("Define the virtual machine web1")
    files = 'hypervisor = "kubevirt"\ndirectory = "/srv/vms"\nnodes = "n1"\n'
    assert steps(started + files)[-1].startswith("Define the virtual machine web1 for kubevirt by files")


def test_a_conversion_is_a_step_and_so_are_files() -> None:
    converted = THIN + '[rule.domain]\nconversion = "virt-v2v-in-place"\n'
    manual = converted.replace("[rule.match]", 'cutover = "manual"\n[rule.match]')
    steps = make_plan(REQUEST, make_inventory(), make_policies(manual)).steps
    assert steps[4] == (
        "When told to (p2vctl cutover web1), convert the guest by virt-v2v-in-place, after an undo point of "
        "each volume."
    )
    assert steps[5].startswith("When told to (p2vctl cutover web1), define the virtual machine web1 at qemu")
    files = THIN + '[rule.domain]\nhypervisor = "xl"\ndirectory = "/srv/xl"\n'
    last = make_plan(REQUEST, make_inventory(), make_policies(files)).steps[-1]
    assert last.startswith("Define the virtual machine web1 for xl by files in /srv/xl: ")
