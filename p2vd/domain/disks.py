"""The guest's disks: where it finds them, in which order, by which name."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from p2vd.domain.definition import Chosen, DefinedDisk, DomainDisk, Hypervisor, chosen
from p2vd.domain.errors import DomainImpossible
from p2vd.domain.guest import Guest
from p2vd.domain.limits import LIMITS, Limits
from p2vd.model.domain import Conversion
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.plan import DiskBus, DomainOptions

SERIAL_LENGTH = 20
"""A virtio disk's serial number has 20 bytes (VIRTIO_BLK_ID_BYTES)."""

_SMALL_SECTOR = 512
_NOT_IN_SERIAL = re.compile(r"[^A-Za-z0-9_.+-]")
_PREFIX = {
    DiskBus.VIRTIO: "vd",
    DiskBus.SATA: "sd",
    DiskBus.SCSI: "sd",
    DiskBus.IDE: "hd",
    DiskBus.XEN: "xvd",
}
_WINDOWS_8 = (6, 2)

_DRIVERS = (
    (DiskBus.VIRTIO, "virtio_blk"),
    (DiskBus.SCSI, "virtio_scsi"),
    (DiskBus.SATA, "ahci"),
    (DiskBus.IDE, "ata_piix"),
)
"""By which driver the guest finds a disk; the better bus first."""

_VIRTIO = frozenset({DiskBus.VIRTIO, DiskBus.SCSI})

_WWID_PREFIX = re.compile(r"^(naa\.|eui\.|0x|t10\.|[123](?=[0-9a-f]{16}))")


def disk_serial(wwid: str) -> str:
    """Return the serial number by which the guest knows the disk: the end of its WWID."""
    return _NOT_IN_SERIAL.sub("_", wwid)[-SERIAL_LENGTH:]


def disk_serials(disks: Sequence[DomainDisk]) -> Chosen[tuple[str, ...]]:
    """Return the serial numbers of a machine's disks, in their order, no two of them the same.

    Where ids end alike, as paths of images and exports do, those disks have a digest of the whole id. A guest
    takes disks of one serial number for paths to one disk.
    """
    short = [disk_serial(disk.serial) for disk in disks]
    taken = Counter(short)
    serials = tuple(
        serial if taken[serial] == 1 else hashlib.sha256(disk.serial.encode()).hexdigest()[:SERIAL_LENGTH]
        for disk, serial in zip(disks, short, strict=True)
    )
    why = "The end of the old disk's WWID, by which a guest that asks for it knows the disk again"
    alike = sum(taken[serial] > 1 for serial in short)
    why += f"; of {alike} disks that end alike, a digest of the whole." if alike else "."
    return chosen("disk-serial", serials, why, ", ".join(serials))


def sector_size(disk: DomainDisk, options: DomainOptions) -> int:
    """Return the sector size that the guest is to see where it is not 512, else 0."""
    size = disk.sector_size or options.logical_block_size
    return size if size != _SMALL_SECTOR else 0


def bus(
    name: str, hypervisor: Hypervisor, guest: Guest, disks: Sequence[DomainDisk], options: DomainOptions
) -> Chosen[DiskBus]:
    """Return where the guest finds its disks. Raises DomainImpossible.

    By itself only what the guest is known to boot from, else what every system can: no disk of an unconverted
    guest goes where its system may not find it.
    """
    limits = LIMITS[hypervisor]
    large = any(sector_size(disk, options) for disk in disks)
    if large and not limits.large_sectors:
        raise DomainImpossible(
            name, "hypervisor", f"{limits.label} shows sectors of 512 bytes only, and the source has 4096."
        )
    if options.bus is not DiskBus.AUTO:
        _refuse(name, hypervisor, options.bus, len(disks), large)
        return chosen("disk-bus", options.bus, "The policy says so.")
    if hypervisor.is_xen:
        why = "A guest without Xen's drivers finds four disks on IDE; one with them uses those instead."
        return chosen("disk-bus", DiskBus.IDE, why)
    found = _auto(limits, guest, len(disks), large, options)
    _refuse(name, hypervisor, found.value, len(disks), large)
    return found


def _auto(limits: Limits, guest: Guest, count: int, large: bool, options: DomainOptions) -> Chosen[DiskBus]:
    if options.conversion is Conversion.VIRT_V2V:
        return chosen("disk-bus", DiskBus.VIRTIO, "virt-v2v-in-place gives the guest virtio drivers.")
    for candidate, driver in _DRIVERS:
        takes = candidate in (limits.large_sectors if large else limits.buses)
        if driver in guest.boot_drivers and takes and count <= limits.buses[candidate]:
            return chosen("disk-bus", candidate, f"{guest.label} has {driver} when it looks for its root.")
    if large:
        whether = "the guest has no driver" if guest.boot_known else "whether the guest has one is not known"
        why = f"Only virtio disks have sectors of 4096 bytes; {whether}."
        return chosen("disk-bus", DiskBus.VIRTIO, why)
    if guest.windows and guest.older_than(*_WINDOWS_8) and count <= limits.buses.get(DiskBus.IDE, 0):
        why = f"{guest.label} finds IDE disks by itself, and SATA disks only if it was installed on them."
        return chosen("disk-bus", DiskBus.IDE, why)
    if guest.windows:
        return chosen("disk-bus", DiskBus.SATA, f"{guest.label} has no virtio drivers, as far as is known.")
    if guest.boot_known:
        why = f"When it looks for its root, {guest.label} has no driver for any bus that takes its disks."
        return chosen("disk-bus", DiskBus.SATA, why)
    if "virtio_blk" in guest.drivers:
        why = f"{guest.label} has virtio drivers, but whether when it looks for its root is not known."
        return chosen("disk-bus", DiskBus.SATA, why)
    return chosen("disk-bus", DiskBus.SATA, "Nothing is known of virtio drivers in the guest.")


def missing_driver(guest: Guest, where: DiskBus, conversion: Conversion) -> str:
    """Return what to tell where the guest is known to lack the driver for its disks; "" else."""
    driver = dict(_DRIVERS).get(where, "")
    known = guest.boot_known or (guest.windows and where in _VIRTIO)
    found = guest.boot_drivers if guest.boot_known else guest.drivers
    if conversion is not Conversion.NONE or not (driver and known) or driver in found:
        return ""
    return (
        f"{guest.label} is not known to have a driver for {where.value} disks ({driver}) when it starts: it "
        f"may not find its root. Add it in the old machine{_how(guest, where, driver)}, or have the guest "
        'converted: domain.conversion = "virt-v2v-in-place".'
    )


def _how(guest: Guest, where: DiskBus, driver: str) -> str:
    """Return by which commands a driver comes into an initramfs: dracut(8), initramfs.conf(5)."""
    if guest.windows:
        return ""
    drivers = f"virtio_pci {driver}" if where in _VIRTIO else driver
    return (
        f' (dracut --force --add-drivers "{drivers}"; Debian: the same names in '
        "/etc/initramfs-tools/modules, a line each, then update-initramfs -u), collect its record again"
    )


def _refuse(name: str, hypervisor: Hypervisor, wanted: DiskBus, count: int, large: bool) -> None:
    limits = LIMITS[hypervisor]
    if wanted not in limits.buses:
        others = ", ".join(f'"{one.value}"' for one in limits.buses)
        raise DomainImpossible(
            name, "bus", f'{limits.label} has no "{wanted.value}" disks; it has {others}, or write "auto".'
        )
    spills = hypervisor.is_xen and wanted is DiskBus.IDE
    if count > limits.buses[wanted] and not spills:
        raise DomainImpossible(
            name,
            "bus",
            f"{limits.label} takes {limits.buses[wanted]} {wanted.value} disks, the machine has {count}. "
            'Convert the guest to virtio drivers and write "scsi".',
        )
    if large and wanted not in limits.large_sectors:
        raise DomainImpossible(
            name,
            "bus",
            f"{wanted.value} disks have sectors of 512 bytes, and the source has 4096. Write "
            f"{' or '.join(one.value for one in limits.large_sectors)}.",
        )


def ordered(disks: Sequence[DomainDisk], passport: Passport | None) -> Chosen[tuple[DomainDisk, ...]]:
    """Return the disks as the guest finds them: the one it boots from, then as the old machine had them.

    Where the passport does not say which that is, it is the first of `disks`.
    """
    given = tuple(disks)
    records = passport.disks if passport is not None else ()
    places = {plain_wwid(record.wwid): n for n, record in enumerate(records) if record.wwid}
    first = {plain_wwid(record.wwid) for record in records if record.boots}
    first = first & {plain_wwid(disk.serial) for disk in given} or {plain_wwid(given[0].serial)}

    def place(disk: DomainDisk) -> tuple[bool, int]:
        wwid = plain_wwid(disk.serial)
        return wwid not in first, places.get(wwid, len(records))

    result = tuple(sorted(given, key=place))
    unknown = sum(plain_wwid(disk.serial) not in places for disk in given)
    if not records or unknown == len(given):
        why = "As they were given: no passport names them."
    else:
        boots = any(record.boots for record in records)
        why = "As in the old machine, by its passport"
        why += ", the one that it boots from first." if boots else "; which it boots from it does not say."
        if unknown:
            why += f" {unknown} that the passport does not name come last."
    return chosen("disk-order", result, why, ", ".join(disk.devnode for disk in result))


def unmatched(disks: Sequence[DomainDisk], passport: Passport | None) -> tuple[PassportDisk, ...]:
    """Return the old machine's disks, as far as they have a WWID, that the new one does not get."""
    given = {plain_wwid(disk.serial) for disk in disks}
    records = passport.disks if passport is not None else ()
    return tuple(record for record in records if record.wwid and plain_wwid(record.wwid) not in given)


def plain_wwid(wwid: str) -> str:
    """A WWID without the words in which sysfs, udev and multipath each put it."""
    return _WWID_PREFIX.sub("", wwid.strip().lower())


def device(where: DiskBus, index: int) -> str:
    """`vda` ... `vdz`, `vdaa`, as the kernel counts."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return _PREFIX[where] + letters


def defined(
    disks: Sequence[DomainDisk], where: DiskBus, hypervisor: Hypervisor, options: DomainOptions
) -> tuple[DefinedDisk, ...]:
    """Return the disks with their places. On Xen those that IDE does not take are Xen's own."""
    made = []
    serials = disk_serials(disks).value
    for index, disk in enumerate(disks):
        beyond = hypervisor.is_xen and where is DiskBus.IDE and index >= LIMITS[hypervisor].buses[DiskBus.IDE]
        own = DiskBus.XEN if beyond else where
        made.append(
            DefinedDisk(
                devnode=disk.devnode,
                kind=disk.kind,
                bus=own,
                target=device(own, index),
                serial=serials[index],
                discard=disk.thin,
                sector_size=sector_size(disk, options),
                size_bytes=disk.size_bytes,
                boot_order=index + 1,
                format=disk.format,
            )
        )
    return tuple(made)
