"""Each choice about a virtual machine, and why."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.domain.define import define, hypervisor_of
from p2vd.domain.definition import Definition, DomainDisk, NetworkKind
from p2vd.domain.errors import DomainImpossible
from p2vd.domain.guest import Family, guest_of
from p2vd.model.codec import from_json, to_json
from p2vd.model.domain import (
    Conversion,
    CpuMode,
    DomainChoice,
    MacChoice,
    MachineType,
    NetworkRule,
    NicModel,
    Video,
)
from p2vd.model.passport import Cpu, GuestSystem, Nic, NicKind, Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType
from p2vd.model.size import GIB, MIB, TIB
from tests.domain.machines import (
    BONDED,
    CENTOS_5,
    DEBIAN,
    UUID,
    WEB,
    WINDOWS,
    WINDOWS_2019,
    disk,
    record,
    wwid,
)

XEN = DomainOptions("xen:///system")


def made(
    passport: Passport | None = None, *disks: DomainDisk, base: DomainOptions | None = None, **options: Any
) -> Definition:
    """A machine of one disk, or those given, with these options."""
    return define(
        "web1", UUID, passport, disks or (disk("web1"),), replace(base or DomainOptions(), **options)
    )


def guest(**system: Any) -> Passport:
    """A passport that tells of the system only."""
    return Passport("web1", system=GuestSystem(**system))


def choice(definition: Definition, key: str) -> DomainChoice:
    (found,) = [one for one in definition.choices if one.key == key]
    return found


def refusal(passport: Passport | None = None, *disks: DomainDisk, **options: Any) -> DomainImpossible:
    with pytest.raises(DomainImpossible) as caught:
        made(passport, *disks, **options)
    assert f"domain.{caught.value.key}" in str(caught.value)
    return caught.value


def test_each_choice_says_why_in_a_sentence() -> None:
    for definition in (made(), made(BONDED, network="lan"), made(WINDOWS, base=XEN)):
        keys = [one.key for one in definition.choices]
        assert len(set(keys)) == len(keys)
        for one in definition.choices:
            assert one.value
            assert one.why[0].isupper()
            assert one.why.endswith((".", "EFI"))


def test_an_older_record_of_options_still_loads() -> None:
    old = (
        '{"bus":"virtio","firmware":"uefi","logical_block_size":0,"memory_bytes":2147483648,"network":"",'
        '"uri":"qemu:///system","vcpus":2,"virt_type":"kvm"}'
    )
    options = from_json(DomainOptions, old)
    assert options == DomainOptions(memory_bytes=2 * GIB, vcpus=2, firmware=Firmware.UEFI, bus=DiskBus.VIRTIO)
    full = replace(options, networks=(NetworkRule("lan", vlan=3),), nodes=("n",))
    assert from_json(DomainOptions, to_json(full)) == full


def test_a_hypervisor_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="esx"):
        hypervisor_of(DomainOptions("esx://"))


# ---- memory and processors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passport", "asked", "size", "why"),
    [
        (None, 0, 2 * GIB, "the default"),
        (WEB, 0, 16 * GIB, "by its passport"),
        (WEB, 3 * GIB, 3 * GIB, "policy"),
        (replace(WEB, memory_bytes=0), 0, 2 * GIB, "the default"),
        (replace(WEB, memory_bytes=GIB + 1), 0, GIB + MIB, "by its passport"),
    ],
)
def test_memory(passport: Passport | None, asked: int, size: int, why: str) -> None:
    definition = made(passport, memory_bytes=asked)
    assert definition.memory_bytes == size
    assert why in choice(definition, "memory").why


@pytest.mark.parametrize(
    ("cpu", "asked", "topology", "why"),
    [
        (None, 0, (1, 2, 1), "Neither policy nor passport"),
        (None, 6, (1, 6, 1), "limited by sockets"),
        (Cpu(sockets=2, cores=8, threads=2), 0, (2, 8, 2), "by its passport"),
        (Cpu(sockets=2, cores=8, threads=2), 16, (1, 8, 2), "as large as the old machine's"),
        (Cpu(sockets=2, cores=8, threads=2), 12, (1, 12, 1), "in one socket"),
        (Cpu(sockets=4, cores=60, threads=2), 0, (4, 60, 1), "without the second threads"),
        (Cpu(sockets=8, cores=60, threads=2), 0, (8, 31, 1), "fewer cores in each socket"),
        (Cpu(sockets=300), 0, (1, 255, 1), "in one socket"),
    ],
)
def test_processors(cpu: Cpu | None, asked: int, topology: tuple[int, int, int], why: str) -> None:
    definition = made(Passport("web1", cpu=cpu) if cpu else None, vcpus=asked)
    found = definition.topology
    assert (found.sockets, found.cores, found.threads) == topology
    assert why in choice(definition, "vcpus").why


def test_more_than_a_hypervisor_gives_is_refused() -> None:
    assert refusal(vcpus=256).key == "vcpus"
    assert "255 CPUs at most" in str(refusal(vcpus=256))
    assert "128 CPUs" in str(refusal(base=XEN, vcpus=129))
    assert "32 TiB" in str(refusal(memory_bytes=33 * TIB))
    assert refusal(replace(WEB, memory_bytes=2 * TIB), base=XEN).key == "memory"


@pytest.mark.parametrize(("memory", "bits"), [(976 * GIB, 0), (977 * GIB, 41), (2 * TIB, 42), (32 * TIB, 46)])
def test_much_memory_needs_wide_addresses(memory: int, bits: int) -> None:
    """As QEMU 7.2 refuses and takes it: 976 GiB with its 40 bits, 2 TiB with 42 and not with 41."""
    definition = made(memory_bytes=memory)
    assert definition.address_bits == bits
    assert any(one.key == "cpu-address-bits" for one in definition.choices) is bool(bits)


@pytest.mark.parametrize(
    ("options", "mode", "why"),
    [
        (DomainOptions(), CpuMode.HOST_MODEL, "same kind"),
        (DomainOptions(virt_type=VirtType.QEMU), CpuMode.MAXIMUM, "emulated"),
        (DomainOptions(cpu_mode=CpuMode.HOST_PASSTHROUGH), CpuMode.HOST_PASSTHROUGH, "policy"),
        (XEN, CpuMode.HOST_PASSTHROUGH, "Xen has no model"),
        (DomainOptions("proxmox"), CpuMode.HOST_PASSTHROUGH, "no model"),
    ],
)
def test_cpu_mode(options: DomainOptions, mode: CpuMode, why: str) -> None:
    definition = made(base=options)
    assert definition.cpu_mode is mode
    assert why in choice(definition, "cpu-mode").why


def test_a_processor_that_is_not_there() -> None:
    assert refusal(base=XEN, cpu_mode=CpuMode.HOST_MODEL).key == "cpu_mode"
    assert refusal(virt_type=VirtType.QEMU, cpu_mode=CpuMode.HOST_PASSTHROUGH).key == "cpu_mode"


# ---- disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "bus", "why"),
    [
        (GuestSystem(), DiskBus.SATA, "Nothing is known of virtio drivers in the guest."),
        (DEBIAN, DiskBus.VIRTIO, "has virtio_blk when it looks for its root"),
        (GuestSystem(id="x", boot_drivers=("virtio_scsi", "ahci")), DiskBus.SCSI, "virtio_scsi"),
        (GuestSystem(id="x", boot_drivers=("ahci", "ata_piix")), DiskBus.SATA, "ahci"),
        (CENTOS_5, DiskBus.IDE, "ata_piix"),
        (GuestSystem(id="x", drivers=("virtio-blk",)), DiskBus.SATA, "but whether when it looks"),
        (WINDOWS_2019, DiskBus.SATA, "no virtio drivers"),
        (replace(WINDOWS_2019, boot_drivers=("viostor",)), DiskBus.VIRTIO, "virtio_blk"),
        (GuestSystem(id="windows", name="Windows XP"), DiskBus.IDE, "finds IDE disks by itself"),
        (GuestSystem(id="windows", name="Windows Server 2008 R2"), DiskBus.IDE, "finds IDE disks by itself"),
    ],
)
def test_disk_bus_by_what_the_guest_can(system: GuestSystem, bus: DiskBus, why: str) -> None:
    definition = made(Passport("web1", system=system))
    assert {one.bus for one in definition.disks} == {bus}
    assert why in choice(definition, "disk-bus").why


def test_disk_bus_by_policy_and_conversion() -> None:
    definition = made(bus=DiskBus.VIRTIO)
    assert definition.disks[0].bus is DiskBus.VIRTIO
    assert choice(definition, "disk-bus").why == "The policy says so."
    converted = made(WINDOWS, conversion=Conversion.VIRT_V2V)
    assert converted.disks[0].bus is DiskBus.VIRTIO
    assert "virt-v2v" in choice(converted, "disk-bus").why
    assert not any("may not find its root" in warning for warning in converted.warnings)


def test_a_guest_that_lacks_the_driver_of_its_disks_is_warned_of() -> None:
    (warning,) = made(guest(id="x", boot_drivers=("megaraid_sas",))).warnings
    assert "not known to have a driver for sata disks (ahci)" in warning
    (warning, _) = made(WINDOWS, bus=DiskBus.VIRTIO, network="lan").warnings
    assert "virt-v2v-in-place" in warning
    assert made(guest(id="x", boot_drivers=("virtio_blk",))).warnings == ()


def test_large_sectors_go_where_they_can_be_shown() -> None:
    large = disk("web1", sector=4096)
    definition = made(None, large)
    assert (definition.disks[0].bus, definition.disks[0].sector_size) == (DiskBus.VIRTIO, 4096)
    assert "4096" in choice(definition, "disk-bus").why
    assert choice(definition, "disk-sectors").value == "4096"
    assert refusal(None, large, bus=DiskBus.SATA).key == "bus"
    assert refusal(None, large, base=XEN).key == "hypervisor"
    assert refusal(None, large, base=DomainOptions("proxmox")).key == "hypervisor"


def test_more_disks_than_the_bus_takes() -> None:
    seven = tuple(disk(f"d{n}", n) for n in range(7))
    assert "6 sata disks" in str(refusal(None, *seven, base=DomainOptions("proxmox")))
    assert "4 ide disks" in str(refusal(None, *seven, bus=DiskBus.IDE))
    assert refusal(base=XEN, bus=DiskBus.VIRTIO).key == "bus"


def test_where_a_bus_is_not_there_or_too_small_the_next_is_taken() -> None:
    seven = tuple(disk(f"d{n}", n) for n in range(7))
    old = Passport("x", system=CENTOS_5)
    for definition in (made(old, *seven), made(old, base=DomainOptions("kubevirt"))):
        assert {one.bus for one in definition.disks} == {DiskBus.SATA}
        assert "driver for sata disks (ahci)" in definition.warnings[0]
    windows = made(guest(id="windows", name="Windows Server 2008 R2"), *seven)
    assert {one.bus for one in windows.disks} == {DiskBus.SATA}


def test_xen_has_four_disks_on_ide_and_more_of_its_own() -> None:
    definition = made(None, *(disk(f"d{n}", n) for n in range(6)), base=XEN)
    assert [one.target for one in definition.disks] == ["hda", "hdb", "hdc", "hdd", "xvde", "xvdf"]
    assert "from the fifth on" in definition.warnings[0]
    assert made(base=XEN, bus=DiskBus.XEN).disks[0].target == "xvda"


def test_disks_keep_the_old_order_and_the_first_boots() -> None:
    passport = replace(WEB, disks=(record("sda", 1), record("sdb", 2, boots=True), record("sdc", 3)))
    given = (disk("c", 3), disk("x", 9), disk("a", 1), disk("b", 2))
    definition = made(passport, *given)
    assert [one.devnode[-1] for one in definition.disks] == ["b", "a", "c", "x"]
    assert [one.boot_order for one in definition.disks] == [1, 2, 3, 4]
    assert choice(definition, "disk-order").why.endswith("1 that the passport does not name come last.")
    assert [one.devnode[-1] for one in made(None, *given).disks] == ["c", "x", "a", "b"]


def test_a_disk_of_the_old_machine_that_is_not_there() -> None:
    passport = replace(WEB, disks=(record("sda", 1, boots=True), record("sdb", 2)))
    (warning,) = made(passport, network="lan").warnings
    assert warning.startswith("The disk sdb of the old machine (naa.")


@pytest.mark.parametrize("written", ["naa." + wwid(1)[1:], wwid(1), wwid(1).upper(), "0x" + wwid(1)[1:]])
def test_a_wwid_is_the_same_however_it_is_written(written: str) -> None:
    passport = replace(WEB, disks=(replace(record("sda"), wwid=written),))
    assert made(passport, network="lan").warnings == ()


def test_discard_is_for_thin_volumes() -> None:
    assert choice(made(), "disk-discard").value == "unmap"
    thick = made(None, disk("web1", thin=False))
    assert not thick.disks[0].discard
    assert "thick" in choice(thick, "disk-discard").why


# ---- board ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passport", "options", "kind", "why"),
    [
        (None, {}, MachineType.Q35, "PCI Express"),
        (guest(id="debian", kernel="3.16.0-4-amd64"), {}, MachineType.PC, "older than 4.0"),
        (guest(id="debian", kernel="4.19.0"), {}, MachineType.Q35, "PCI Express"),
        (guest(id="windows", version="5.2.3790"), {}, MachineType.PC, "IDE"),
        (guest(id="windows", version="5.2"), {"bus": DiskBus.SATA}, MachineType.PC, "older than PCI Express"),
        (None, {"machine_type": MachineType.PC}, MachineType.PC, "policy"),
        (None, {"base": XEN}, MachineType.PC, "one chipset"),
    ],
)
def test_machine_type(
    passport: Passport | None, options: dict[str, Any], kind: MachineType, why: str
) -> None:
    definition = made(passport, **options)
    assert definition.machine_type is kind
    assert why in choice(definition, "machine-type").why


def test_chipsets_that_cannot_be() -> None:
    assert refusal(machine_type=MachineType.Q35, bus=DiskBus.IDE).key == "machine_type"
    assert refusal(base=DomainOptions("kubevirt"), machine_type=MachineType.PC).key == "machine_type"
    secure = replace(WEB, firmware=Firmware.UEFI, secure_boot=True)
    assert "Secure Boot" in str(refusal(secure, machine_type=MachineType.PC, firmware=Firmware.UEFI))


def test_firmware_says_whence_it_is_known() -> None:
    assert "passport" in choice(made(WEB), "firmware").why
    assert (
        "though the old machine booted by bios" in choice(made(WEB, firmware=Firmware.UEFI), "firmware").why
    )
    uefi = made(firmware=Firmware.UEFI)
    assert "on the disk" in choice(uefi, "firmware").why
    assert choice(uefi, "nvram").value == "new"
    assert not any(one.key == "nvram" for one in made().choices)


def test_secure_boot_where_it_was_and_can_be() -> None:
    passport = replace(WEB, firmware=Firmware.UEFI, secure_boot=True)
    definition = made(passport, firmware=Firmware.UEFI)
    assert definition.secure_boot
    assert any("TPM" in warning for warning in definition.warnings)
    on_xen = made(passport, base=XEN, firmware=Firmware.UEFI)
    assert not on_xen.secure_boot
    assert any("without it" in warning for warning in on_xen.warnings)
    assert not made(passport, firmware=Firmware.BIOS).secure_boot


def test_video() -> None:
    assert made().video is Video.VGA
    assert made(video=Video.NONE).video is Video.NONE
    assert made(base=XEN, video=Video.VIRTIO).video is Video.VGA


def test_clock() -> None:
    assert choice(made(), "clock").value == "utc"
    assert choice(made(WINDOWS), "clock").value == "local"
    assert "RealTimeIsUniversal" in choice(made(guest(id="windows")), "clock").why
    on_kubevirt = made(WINDOWS, base=DomainOptions("kubevirt"))
    assert choice(on_kubevirt, "clock").value == "utc"
    assert any("local time" in warning for warning in on_kubevirt.warnings)


def test_small_devices_where_the_guest_has_use_for_them() -> None:
    linux, unknown = made(WEB), made()
    assert (linux.rng, linux.guest_agent, linux.hyperv) == (True, True, False)
    assert (unknown.rng, unknown.guest_agent, unknown.hyperv) == (False, False, False)
    assert made(WINDOWS).hyperv
    assert not made(WINDOWS, virt_type=VirtType.QEMU).hyperv
    assert not made(guest(id="windows", name="Windows Server 2003")).hyperv
    xen = made(WEB, base=XEN)
    assert (xen.rng, xen.guest_agent) == (False, False)


# ---- NICs ----------------------------------------------------------------------------------------


def test_a_bond_is_one_nic_and_its_vlans_stay_inside() -> None:
    definition = made(BONDED, network="lan")
    assert [(nic.old, nic.mac) for nic in definition.nics] == [
        ("bond0", "00:25:90:ab:cd:01"),
        ("eth2", "00:25:90:ab:cd:03"),
    ]
    why = choice(definition, "nic bond0").why
    assert "One NIC for the bond of eth0, eth1" in why
    assert "VLANs 10, 20, 30 stay inside the guest" in why
    assert "bridge br20 stays" in why
    assert choice(definition, "nic eth3").value == "none"


@pytest.mark.parametrize(
    ("rule", "networks"),
    [
        (NetworkRule("a", nic="eth2"), ["lan", "a"]),
        (NetworkRule("a", nic="bond0.2?"), ["a", "lan"]),
        (NetworkRule("a", mac="00:25:90:*:03"), ["lan", "a"]),
        (NetworkRule("a", prefix="10.20.0.0/16"), ["a", "lan"]),
        (NetworkRule("a", prefix="192.168.0.0/16", vlan=20), ["lan", "lan"]),
        (NetworkRule("a", vlan=30), ["a", "lan"]),
        (NetworkRule("bridge:br7", vlan=30), ["br7", "lan"]),
    ],
)
def test_networks_by_policy(rule: NetworkRule, networks: list[str]) -> None:
    definition = made(BONDED, network="lan", networks=(rule,))
    assert [nic.network for nic in definition.nics] == networks
    bridged = [nic.kind is NetworkKind.BRIDGE for nic in definition.nics]
    assert bridged == [network == "br7" for network in networks]


def test_a_nic_without_a_network_is_left_out_and_told() -> None:
    definition = made(BONDED, networks=(NetworkRule("lan", nic="eth2"),))
    assert [nic.old for nic in definition.nics] == ["eth2"]
    assert "bond0 of the old machine has no counterpart" in definition.warnings[0]


def test_addresses_of_cards() -> None:
    new = made(WEB, network="lan", mac=MacChoice.NEW)
    assert new.nics[0].mac.startswith("52:54:00:")
    assert new == made(WEB, network="lan", mac=MacChoice.NEW)
    assert (
        define("x", "other", WEB, (disk("x"),), DomainOptions(network="lan", mac=MacChoice.NEW)).nics
        != new.nics
    )
    for mac in ("", "00:00:00:00:00:00", "01:00:5e:00:00:01", "nonsense"):
        odd = made(replace(WEB, nics=(replace(WEB.nics[0], mac=mac),)), network="lan")
        assert odd.nics[0].mac.startswith("52:54:00:")
        assert "gets a new address" in odd.warnings[0]


def test_a_plan_does_not_show_an_address_that_is_not_made_yet() -> None:
    planned = define("x", "", None, (disk("x"),), DomainOptions(network="lan"))
    assert choice(planned, "nics").value == "lan, a new address"


def test_cards_of_a_record_without_links_are_all_kept() -> None:
    passport = Passport("x", nics=(Nic("a", mac="00:25:90:ab:cd:01"), Nic("b", mac="00:25:90:ab:cd:02")))
    assert [nic.old for nic in made(passport, network="lan").nics] == ["a", "b"]


def test_a_bond_whose_cards_are_not_named() -> None:
    passport = Passport("x", nics=(Nic("bond0", NicKind.BOND, "00:25:90:ab:cd:01", members=("p1",)),))
    definition = made(passport, network="lan")
    assert definition.nics[0].mac == "00:25:90:ab:cd:01"
    assert "does not name" in choice(definition, "nic bond0").why


@pytest.mark.parametrize(
    ("system", "options", "card"),
    [
        (GuestSystem(), {}, NicModel.E1000E),
        (DEBIAN, {}, NicModel.VIRTIO),
        (CENTOS_5, {}, NicModel.E1000),
        (GuestSystem(id="x", drivers=("8139cp",)), {}, NicModel.RTL8139),
        (WINDOWS_2019, {}, NicModel.E1000E),
        (GuestSystem(id="windows", name="Windows Server 2008 R2"), {}, NicModel.E1000),
        (GuestSystem(id="windows", name="Windows Server 2003"), {}, NicModel.RTL8139),
        (WINDOWS_2019, {"conversion": Conversion.VIRT_V2V}, NicModel.VIRTIO),
        (DEBIAN, {"nic_model": NicModel.RTL8139}, NicModel.RTL8139),
        (DEBIAN, {"base": XEN}, NicModel.E1000),
        (GuestSystem(), {"base": XEN}, NicModel.E1000),
    ],
)
def test_card_by_what_the_guest_can(system: GuestSystem, options: dict[str, Any], card: NicModel) -> None:
    definition = made(Passport("x", nics=WEB.nics, system=system), network="lan", **options)
    assert definition.nics[0].model is card


def test_a_card_that_is_not_there() -> None:
    assert refusal(base=XEN, nic_model=NicModel.VIRTIO).key == "nic_model"


# ---- the guest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("Windows Server 2003 R2", (5, 2)),
        ("Windows XP Professional", (5, 1)),
        ("Windows 7 Professional", (6, 1)),
        ("Windows Server 2008 R2 Standard", (6, 1)),
        ("Windows Server 2008", (6, 0)),
        ("Windows Server 2012 R2", (6, 3)),
        ("Windows Server 2012", (6, 2)),
        ("Windows 10 Pro", (10, 0)),
        ("Microsoft Windows Server 2022", (10, 0)),
        ("Windows", None),
    ],
)
def test_windows_by_name(name: str, version: tuple[int, int] | None) -> None:
    found = guest_of(guest(id="windows", name=name))
    assert (found.family, found.version) == (Family.WINDOWS, version)


def test_a_system_that_nobody_wrote_down() -> None:
    assert guest_of(guest()).family is Family.UNKNOWN
    assert guest_of(None).label == "the guest's system"
