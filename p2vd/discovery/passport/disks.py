"""The machine's disks: each once, with what names it wherever it is attached."""

import re
from pathlib import PurePosixPath
from typing import Any, Dict, Iterable, List, Set, Tuple

from p2vd.discovery.identity import scsi_wwid, vpd_serial
from p2vd.discovery.passport.reading import Host, Mount, fields, mounts, number
from p2vd.model.inquiry import clean_inquiry

# The paths of an NVMe disk with several are named nvme0c0n1, and are no disks of their own.
_DISK = re.compile(r"[shv]d[a-z]+$|xvd[a-z]+$|nvme\d+n\d+$|mmcblk\d+$")
_SECTOR = 512  # what `size` counts, whatever the disk's sectors are
_BOOT_MOUNTS = ("/", "/boot", "/boot/efi", "/efi")
_TABLES = {"gpt": "gpt", "dos": "mbr"}
_BOOT_PARTITIONS = {  # GPT types: EFI system, BIOS boot
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
    "21686148-6449-6e6f-744e-656564454649",
}
_ACTIVE = "0x80"  # of an MBR's partition

# Where in /sys/devices a disk hangs, and what that means; the first that fits.
_TRANSPORTS = (
    (r"/session\d+/", "iscsi"),
    (r"/rport-\d", "fc"),
    (r"/usb\d", "usb"),
    (r"/end_device-\d", "sas"),
    (r"/ata\d+/", "sata"),
    (r"/virtio\d+/", "virtio"),
    (r"/nvme", "nvme"),
    (r"/mmc\d", "mmc"),
    (r"/vbd-\d", "xen"),
    (r"/target\d", "scsi"),
)


def disks(host: Host, boot_names: Set[str]) -> List[Dict[str, Any]]:
    """Return the disks in the order of their names: the record's list `disks`.

    `boot_names`: of the kernel's devices that the machine boots from, see `boot_devices`.
    """
    links = _by_id(host)
    maps = _maps(host)
    found: Dict[str, Dict[str, Any]] = {}
    for name in sorted(filter(_DISK.match, host.names("/sys/block")), key=_natural):
        if host.text(f"/sys/block/{name}/removable") == "1":
            host.problem(f"{name} is left out: a removable medium.")
            continue
        disk = _disk(host, name, links.get(name, []))
        holder = maps.get(name, {})
        if holder:
            disk["name"], disk["wwid"] = holder["name"], holder["wwid"]
            disk["partition_table"] = _partition_table(_udev(host, holder["device"]))
        if not disk["size_bytes"]:
            continue
        if not disk["wwid"] and not disk["serial"]:
            host.problem(
                f"{name} has neither a WWID nor a serial number: nothing tells it from another disk."
            )
        # A LUN with several paths is one disk, whether a map holds them or not.
        disk = found.setdefault(disk["wwid"] or name, disk)
        disk["boots"] = disk.get("boots", False) or bool(boot_names & {name, holder.get("device", name)})
    if not found:
        host.problem("There are no disks.")
    return list(found.values())


def boot_devices(host: Host, live: bool) -> Set[str]:
    """Return the kernel's names of the whole disks and multipath maps that the machine boots from.

    `live`: this is a rescue system with nothing of the machine mounted; then what partition tables say.
    """
    if live:
        return _bootable(host)
    found: Set[str] = set()
    prefix = host.system_root[len(host.root) :]
    wanted = {prefix + place if place != "/" else prefix or "/" for place in _BOOT_MOUNTS}
    for mount in mounts(host):
        # Where systemd mounts at the first look, nothing is mounted before.
        if mount.place not in wanted or mount.kind == "autofs":
            continue
        name = _device(host, mount)
        if name:
            found |= _under(host, name)
        else:
            host.problem(f"The disk under {mount.place} is not known: it is on {mount.source}.")
    if not found:
        host.problem("The disk that the machine boots from is not known.")
    return found


def _device(host: Host, mount: Mount) -> str:
    """Return the kernel's name of what is mounted."""
    link = host.link(f"/sys/dev/block/{mount.number}")
    if not link and mount.source.startswith("/dev/"):
        # btrfs has numbers of its own. /dev/mapper/X and /dev/disk/by-id/X are links to ../dm-0.
        link = host.link(mount.source) or mount.source
    return link.rpartition("/")[2]


def _under(host: Host, name: str) -> Set[str]:
    """Return the disks that a device lies on: itself, or what a partition, volume or array is made of."""
    if host.text(f"/sys/class/block/{name}/partition"):
        return _under(host, PurePosixPath(host.link(f"/sys/class/block/{name}")).parent.name)
    below = host.names(f"/sys/class/block/{name}/slaves")
    if not below or host.text(f"/sys/class/block/{name}/dm/uuid").startswith("mpath-"):
        return {name}
    return {disk for slave in below for disk in _under(host, slave)}


def _bootable(host: Host) -> Set[str]:
    """Return the disks with a partition that is made to boot from, as udev saw it."""
    found: Set[str] = set()
    for name in filter(_DISK.match, host.names("/sys/block")):
        for part in host.names(f"/sys/block/{name}"):
            if part.startswith(name) and host.has(f"/sys/block/{name}/{part}/partition"):
                udev = _udev(host, f"{name}/{part}")
                kind = udev.get("E:ID_PART_ENTRY_TYPE", "")
                if kind in _BOOT_PARTITIONS or udev.get("E:ID_PART_ENTRY_FLAGS") == _ACTIVE:
                    found.add(name)
    return found


def _disk(host: Host, name: str, links: Iterable[str]) -> Dict[str, Any]:
    place = f"/sys/block/{name}"
    names = (host.text(f"{place}/device/vendor"), host.text(f"{place}/device/model"))
    # Virtio devices have a number there, and every SATA disk is of the vendor "ATA".
    model = " ".join(part for part in names if part not in ("", "ATA") and not part.startswith("0x"))
    udev = _udev(host, name)
    return {
        "name": name,
        "size_bytes": number(host.text(f"{place}/size")) * _SECTOR,
        "wwid": _wwid(host, place, links),
        "serial": _serial(host, place) or clean_inquiry(udev.get("E:ID_SCSI_SERIAL", "")),
        "model": clean_inquiry(model),
        "transport": _transport(host, place),
        "sector_size": number(host.text(f"{place}/queue/logical_block_size")) or _SECTOR,
        "partition_table": _partition_table(udev),
    }


def _partition_table(udev: Dict[str, str]) -> str:
    # Of a map's paths udev says nothing: it looks at what is on the map.
    return _TABLES.get(udev.get("E:ID_PART_TABLE_TYPE", ""), "")


def _wwid(host: Host, place: str, links: Iterable[str]) -> str:
    """Return the WWID as p2vd and multipath name it; "" where the disk has none."""
    wwid = clean_inquiry(host.raw(f"{place}/wwid"))  # NVMe
    # Its blanks count: not cleaned here.
    wwid = wwid or scsi_wwid(host.raw(f"{place}/device/wwid").decode("utf-8", "replace"))
    if wwid:
        return wwid
    # Kernels before 3.15 do not tell; udev asked the disk.
    for link in sorted(links):
        if re.match(r"scsi-[123][0-9a-zA-Z]", link):
            return link[len("scsi-") :]
        if re.match(r"wwn-0x[2356][0-9a-f]+$", link):
            return "3" + link[len("wwn-0x") :]
    return ""


def _serial(host: Host, place: str) -> str:
    return (
        vpd_serial(host.raw(f"{place}/device/vpd_pg80"))
        or clean_inquiry(host.text(f"{place}/serial"))
        or clean_inquiry(host.text(f"{place}/device/serial"))
    )


def _transport(host: Host, place: str) -> str:
    link = host.link(place)
    return next((name for pattern, name in _TRANSPORTS if re.search(pattern, link)), "")


def _maps(host: Host) -> Dict[str, Dict[str, str]]:
    """Return the multipath map (name, WWID, kernel's device) that holds a disk, by the disk's name."""
    found: Dict[str, Dict[str, str]] = {}
    for device in host.names("/sys/block"):
        uuid = host.text(f"/sys/block/{device}/dm/uuid") if device.startswith("dm-") else ""
        if uuid.startswith("mpath-"):
            one = {
                "name": host.text(f"/sys/block/{device}/dm/name"),
                "wwid": clean_inquiry(uuid[len("mpath-") :]),
                "device": device,
            }
            found.update((path, one) for path in host.names(f"/sys/block/{device}/slaves"))
    return found


def _by_id(host: Host) -> Dict[str, List[str]]:
    """Return udev's links to each device by the device's name."""
    found: Dict[str, List[str]] = {}
    for link in host.names("/dev/disk/by-id"):
        name = host.link(f"/dev/disk/by-id/{link}").rpartition("/")[2]
        found.setdefault(name, []).append(link)
    return found


def _udev(host: Host, name: str) -> Dict[str, str]:
    numbers = host.text(f"/sys/block/{name}/dev")
    return fields(host.text(f"/run/udev/data/b{numbers}"), "=") if numbers else {}


def _natural(name: str) -> Tuple[str, int, str, List[int]]:
    """Sort as the kernel counts: sdz before sdaa, nvme2n1 before nvme10n1."""
    letters = re.sub(r"\d", "", name)
    return letters[:2], len(letters), letters, [int(part) for part in re.findall(r"\d+", name)]
