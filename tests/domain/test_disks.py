"""Where a virtual machine finds its disks, in which order, and why."""

from dataclasses import replace

import pytest

from p2vd.domain.definition import DomainDisk
from p2vd.model.domain import Conversion
from p2vd.model.passport import GuestSystem, Passport
from p2vd.model.plan import DiskBus, DomainOptions
from tests.domain.machines import CENTOS_5, DEBIAN, WEB, WINDOWS, WINDOWS_2019, disk, record, wwid
from tests.domain.making import XEN, choice, guest, made, refusal


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


RHEL = {"id": "rhel", "kernel": "5.14.0", "drivers": ("ahci", "virtio_blk")}


@pytest.mark.parametrize(
    ("known", "bus", "why", "told"),
    [
        (False, DiskBus.AUTO, "but whether when it looks for its root is not known", ""),
        (True, DiskBus.AUTO, "has no driver for any bus", '--add-drivers "ahci"'),
        (True, DiskBus.VIRTIO, "The policy says so", '--add-drivers "virtio_pci virtio_blk"'),
        (False, DiskBus.VIRTIO, "The policy says so", ""),
    ],
)
def test_an_initramfs_that_is_known_to_have_no_driver_is_warned_of(
    known: bool, bus: DiskBus, why: str, told: str
) -> None:
    """Made for the old machine's HBA alone, it leaves the guest in dracut's shell."""
    definition = made(guest(**RHEL, boot_drivers_known=known), bus=bus)
    assert why in choice(definition, "disk-bus").why
    assert [told in warning for warning in definition.warnings] == [True] * bool(told)
    if told:
        assert "may not find its root" in definition.warnings[0]
        assert "virt-v2v-in-place" in definition.warnings[0]


def test_large_sectors_say_what_is_known_of_their_driver() -> None:
    large = disk("web1", sector=4096)
    assert "whether the guest has one is not known" in choice(made(guest(**RHEL), large), "disk-bus").why
    lacking = made(guest(**RHEL, boot_drivers_known=True), large)
    assert "the guest has no driver." in choice(lacking, "disk-bus").why
    assert "virtio_pci virtio_blk" in lacking.warnings[0]


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
    many = tuple(disk(f"d{n}", n) for n in range(201))
    assert "200 virtio disks, the machine has 201" in str(refusal(None, *many, bus=DiskBus.VIRTIO))


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


TWINS = tuple(
    DomainDisk(f"/dev/vg/{n}", serial)
    for n, serial in enumerate(
        ("/srv/rack1/images/database-server.img", "/srv/rack2/images/database-server.img", wwid(1))
    )
)
"""Disks of which two have names that end alike, as images and exports of one server do."""


def test_no_two_disks_of_a_machine_have_one_serial_number() -> None:
    """Else a guest takes them for paths to one disk (multipathd), or mixes up their names (by-id)."""
    definition = made(None, *TWINS)
    one, other, single = (disk.serial for disk in definition.disks)
    assert (one, other) == ("98b67970b800163fee1f", "1016fd16ccf4067fb885")
    assert single == wwid(1)[-20:]
    told = choice(definition, "disk-serial")
    assert told.value == f"{one}, {other}, {single}"
    assert "a digest of the whole" in told.why
    assert "a digest of the whole" not in choice(made(None, *TWINS[1:]), "disk-serial").why


@pytest.mark.parametrize("hypervisor", ["qemu:///system", "proxmox", "kubevirt"])
def test_the_serial_numbers_that_a_plan_tells_are_those_that_are_defined(hypervisor: str) -> None:
    passport = replace(WEB, disks=(record("sda", 1, boots=True),))
    definition = made(passport, *TWINS, base=DomainOptions(hypervisor, nodes=("n1",)))
    assert [disk.serial for disk in definition.disks] == [
        choice(definition, "disk-serial").value.split(", ")[n] for n in (2, 0, 1)
    ]
    assert len({disk.serial for disk in definition.disks}) == 3


def test_discard_is_for_thin_volumes() -> None:
    assert choice(made(), "disk-discard").value == "unmap"
    thick = made(None, disk("web1", thin=False))
    assert not thick.disks[0].discard
    assert "thick" in choice(thick, "disk-discard").why
