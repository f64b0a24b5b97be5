"""Records of physical machines as text for people. Pure."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from p2vd.cli.client import Object
from p2vd.cli.layout import facts, table
from p2vd.model.passport import ClockOffset, Nic, Passport, PassportDisk
from p2vd.model.passport_diff import PassportDifference
from p2vd.model.plan import Firmware
from p2vd.model.size import format_size

_UNKNOWN = "not known"
_CLOCKS = {ClockOffset.UTC: "UTC", ClockOffset.LOCAL: "local time", None: _UNKNOWN}
_LOADERS = {True: "there", False: "missing: does not start without boot entries", None: _UNKNOWN}
_DISK = ("DISK", "SIZE", "SECTOR", "WWID", "SERIAL", "MODEL", "TRANSPORT", "TABLE", "BOOTS", "SEEN")
_NIC = ("NIC", "KIND", "MAC", "DRIVER", "SPEED", "MTU", "ADDRESSES", "OF")


def passports(objects: Sequence[Object], seen: Collection[str]) -> str:
    """One line a machine. `seen`: WWIDs of the disks that p2vd sees."""
    rows = [
        (
            item["Name"],
            str(item["Cpus"]),
            format_size(item["Memory"]) if item["Memory"] else "-",
            item["Firmware"] or "-",
            f"{sum(disk['Wwid'] in seen for disk in item['Disks'])}/{len(item['Disks'])}",
            str(len(item["Nics"])),
            item["System"] or "-",
            "by hand" if item["WrittenByHand"] else _time(item["CollectedTime"]),
        )
        for item in objects
    ]
    return table(("NAME", "CPUS", "MEMORY", "FIRMWARE", "DISKS SEEN", "NICS", "SYSTEM", "COLLECTED"), rows)


def passport(value: Passport, seen: Collection[str]) -> str:
    """Everything about a machine, its disks, NICs and routes as tables. `seen`: as in `passports`."""
    parts = [facts(_facts(value))]
    if value.disks:
        parts.append(table(_DISK, [_disk(disk, seen) for disk in value.disks]))
    if value.nics:
        parts.append(table(_NIC, [_nic(nic) for nic in value.nics]))
    if value.routes:
        rows = [(route.destination, route.gateway or "-", route.nic) for route in value.routes]
        parts.append(table(("ROUTE", "GATEWAY", "NIC"), rows))
    return "\n\n".join(parts)


def passport_differences(before: str, after: str, found: Sequence[PassportDifference]) -> str:
    """One line a fact that differs."""
    rows = [(one.place, one.before or "-", one.after or "-") for one in found]
    return table(("WHAT", before, after), rows)


def _facts(value: Passport) -> Iterator[tuple[str, str]]:
    cpu, dmi, system = value.cpu, value.dmi, value.system
    yield "Name", value.name
    yield "Collected", "written by hand" if value.written_by_hand else _time(value.collected_us)
    yield "Machine", _words(dmi.vendor, dmi.product, dmi.serial and f"serial {dmi.serial}")
    yield "Processors", f"{cpu.count}: {cpu.sockets} x {cpu.cores} cores x {cpu.threads} threads"
    yield "Model", _words(cpu.model or cpu.vendor)
    yield "Memory", format_size(value.memory_bytes) if value.memory_bytes else _UNKNOWN
    secure = "Secure Boot on" if value.secure_boot else ""
    yield "Firmware", _words(value.firmware.value if value.firmware else _UNKNOWN, secure, dmi.bios_version)
    if value.firmware is Firmware.UEFI:
        yield "Fallback loader", _LOADERS[value.fallback_loader]
    yield "System", _words(system.name or system.id, system.kernel and f"kernel {system.kernel}")
    yield "Guest agents", ", ".join(system.agents) or "none"
    yield "Virtual drivers", ", ".join(system.drivers) or "none known"
    none = "none" if system.boot_drivers_known else "none known"
    yield "At boot", ", ".join(system.boot_drivers) or none
    yield "Clock", _CLOCKS[value.clock]
    yield "DNS", ", ".join(value.dns) or "none"


def _words(*words: str) -> str:
    return ", ".join(filter(None, words)) or _UNKNOWN


def _disk(disk: PassportDisk, seen: Collection[str]) -> tuple[str, ...]:
    return (
        disk.name,
        format_size(disk.size_bytes),
        str(disk.sector_size),
        disk.wwid or "-",
        disk.serial or "-",
        disk.model or "-",
        disk.transport or "-",
        disk.partition_table or "-",
        "yes" if disk.boots else "no",
        "yes" if disk.wwid in seen else "no",
    )


def _nic(nic: Nic) -> tuple[str, ...]:
    of = " ".join(nic.members) or (f"{nic.parent}, VLAN {nic.vlan_id}" if nic.vlan_id else "-")
    return (
        nic.name,
        f"{nic.kind.value} {nic.bond_mode}".strip(),
        nic.mac or "-",
        nic.driver or "-",
        f"{nic.speed_mbps} Mbit/s" if nic.speed_mbps else "-",
        str(nic.mtu),
        " ".join(nic.addresses) or "-",
        of,
    )


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6).astimezone().isoformat(" ", "minutes")
