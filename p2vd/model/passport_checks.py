"""What in a machine's record cannot be, however well it is written: each with its place. Pure."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

from p2vd.model.names import machine_name_problem
from p2vd.model.passport import Cpu, IpRoute, Nic, NicKind, Passport, PassportDisk

MAX_CPUS = 8192
"""NR_CPUS of the kernel at most."""

_MAX_MTU = (1 << 32) - 1
_MAX_VLAN = 4094
_SECTOR_SIZES = (512, 1024, 2048, 4096)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5,19}")  # InfiniBand's have 20 bytes


def mistakes(passport: Passport) -> Iterator[str]:
    """Yield what is wrong in a record, a sentence each."""
    if problem := machine_name_problem(passport.name):
        yield f"name: {problem}"
    yield from _cpu(passport.cpu)
    yield from _twice("disks", "name", [disk.name for disk in passport.disks])
    yield from _twice("disks", "wwid", [disk.wwid for disk in passport.disks])
    for index, disk in enumerate(passport.disks):
        yield from _disk(f"disks[{index}]", disk)
    names = [nic.name for nic in passport.nics]
    yield from _twice("nics", "name", names)
    for index, nic in enumerate(passport.nics):
        yield from _nic(f"nics[{index}]", nic, names)
    for index, route in enumerate(passport.routes):
        yield from _route(f"routes[{index}]", route, names)
    for index, server in enumerate(passport.dns):
        yield from _is(f"dns[{index}]", ipaddress.ip_address, server, "an address")


def _cpu(cpu: Cpu) -> Iterator[str]:
    for key in ("sockets", "cores", "threads"):
        if not getattr(cpu, key):
            yield f"cpu.{key}: must be 1 or more."
    if cpu.count > MAX_CPUS:
        yield f"cpu: {cpu.count} processors are more than Linux knows; the most are {MAX_CPUS}."


def _disk(place: str, disk: PassportDisk) -> Iterator[str]:
    if not disk.name:
        yield f"{place}.name: must not be empty."
    if not disk.size_bytes:
        yield f"{place}.size_bytes: must be more than 0."
    if disk.sector_size not in _SECTOR_SIZES:
        allowed = ", ".join(map(str, _SECTOR_SIZES))
        yield f"{place}.sector_size: must be one of {allowed}, not {disk.sector_size}."


def _nic(place: str, nic: Nic, names: list[str]) -> Iterator[str]:
    if not nic.name:
        yield f"{place}.name: must not be empty."
    if nic.mac and not _MAC.fullmatch(nic.mac):
        yield f"{place}.mac: must be as 52:54:00:12:34:56, not {nic.mac!r}."
    if not 0 < nic.mtu <= _MAX_MTU:
        yield f"{place}.mtu: must be from 1 to {_MAX_MTU}."
    for index, address in enumerate(nic.addresses):
        if "/" not in address:
            yield f"{place}.addresses[{index}]: must have its prefix length, as 10.1.2.3/24, not {address!r}."
        else:
            yield from _is(f"{place}.addresses[{index}]", ipaddress.ip_interface, address, "as 10.1.2.3/24")
    for index, member in enumerate(nic.members):
        if member not in names or member == nic.name:
            yield f"{place}.members[{index}]: there is no other NIC {member!r} in this record."
    if nic.kind is NicKind.VLAN:
        # A parent in another network namespace is none of this machine's own.
        if nic.parent and nic.parent not in names:
            yield f"{place}.parent: there is no NIC {nic.parent!r} in this record."
        if not 0 < nic.vlan_id <= _MAX_VLAN:
            yield f"{place}.vlan_id: must be from 1 to {_MAX_VLAN}."


def _route(place: str, route: IpRoute, names: list[str]) -> Iterator[str]:
    if route.nic not in names:
        yield f"{place}.nic: there is no NIC {route.nic!r} in this record."
    if route.destination != "default":
        yield from _is(
            f"{place}.destination", ipaddress.ip_network, route.destination, '"default" or a network'
        )
    if route.gateway:
        yield from _is(f"{place}.gateway", ipaddress.ip_address, route.gateway, "an address")


def _is(place: str, parse: Callable[[str], object], text: str, what: str) -> Iterator[str]:
    try:
        parse(text)
    except ValueError:
        yield f"{place}: must be {what}, not {text!r}."


def _twice(place: str, key: str, values: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value and value in seen:
            yield f"{place}[{index}].{key}: {value!r} is there twice."
        seen.add(value)
