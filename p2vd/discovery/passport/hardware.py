"""Processors, memory, firmware, and who made the machine."""

import re
from typing import Any, Dict, Iterator, Tuple

from p2vd.discovery.passport.reading import Host, fields, number
from p2vd.model.inquiry import clean_inquiry

_CPUS = "/sys/devices/system/cpu"
_SECURE_BOOT = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

_DMI_IDS = {
    "vendor": "sys_vendor",
    "product": "product_name",
    "serial": "product_serial",
    "uuid": "product_uuid",
    "board": "board_name",
    "bios_version": "bios_version",
}

# DMTF DSP0134 (SMBIOS 3), 7.18: memory device.
_MEMORY_DEVICE = 17
_END_OF_TABLE = 127
_SIZE, _TYPE, _EXTENDED_SIZE, _TECHNOLOGY = 0x0C, 0x12, 0x1C, 0x28
_SIZE_UNKNOWN, _SIZE_IS_EXTENDED, _SIZE_IN_KIB = 0xFFFF, 0x7FFF, 0x8000
_ROM_TYPES = range(0x08, 0x0D)
_PERSISTENT = range(0x04, 0x08)
_MIB, _KIB = 1 << 20, 1 << 10


def cpu(host: Host) -> Dict[str, Any]:
    """Return the processors: the record's table `cpu`."""
    text = host.text("/proc/cpuinfo")
    first = fields(text.split("\n\n")[0], ":")
    if not text:
        host.problem("The processor's model and flags are not known: /proc/cpuinfo says nothing.")
    sockets, cores, threads = _topology(host) or _flat(host, text)
    return {
        "model": clean_inquiry(first.get("model name") or first.get("cpu") or first.get("Processor") or ""),
        "vendor": clean_inquiry(first.get("vendor_id") or first.get("CPU implementer") or ""),
        "sockets": sockets,
        "cores": cores,
        "threads": threads,
        "flags": sorted(set((first.get("flags") or first.get("Features") or "").split())),
    }


def _topology(host: Host) -> Tuple[int, ...]:
    """Return sockets, cores a socket and threads a core; nothing where the kernel does not say."""
    places = [
        f"{_CPUS}/{name}/topology" for name in host.names(_CPUS) if re.match(r"cpu\d+$", name)
    ]  # a processor that is offline has none
    siblings = [text for text in (host.text(f"{place}/thread_siblings_list") for place in places) if text]
    packages = {text for text in (host.text(f"{place}/core_siblings_list") for place in places) if text}
    if not siblings or not packages:
        return ()
    sockets, cores, count = len(packages), len(set(siblings)), len(siblings)
    if count % cores == 0 and cores % sockets == 0:
        return sockets, cores // sockets, count // cores
    host.problem(
        f"The processors are not alike (some offline, or cores of two kinds): {count} of them on {cores} "
        f"cores in {sockets} sockets are recorded as cores of one thread."
    )
    return (sockets, count // sockets, 1) if count % sockets == 0 else (1, count, 1)


def _flat(host: Host, cpuinfo: str) -> Tuple[int, int, int]:
    count = len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or 1
    host.problem(f"Sockets and cores are not known: {count} processors are recorded as cores of one socket.")
    return 1, count, 1


def memory_bytes(host: Host) -> int:
    """Return what is installed, as the firmware says; else what the system has, rounded up to what fits."""
    total = number(fields(host.text("/proc/meminfo"), ":").get("MemTotal", "").split(" ")[0]) * _KIB
    installed = sum(_installed(host.raw("/sys/firmware/dmi/tables/DMI")))
    if installed >= total > 0:
        return installed
    if not total:
        host.problem("How much memory there is, is not known: /proc/meminfo says nothing.")
        return installed
    rounded = _plausible(total)
    host.problem(
        f"The firmware's tables do not tell how much memory is installed: {rounded // _MIB} MiB is recorded, "
        f"which is the system's {total // _MIB} MiB rounded up to what memory modules add up to."
    )
    return rounded


def _plausible(total: int) -> int:
    # The kernel keeps some hundredths for itself; modules add up to sixteenths of a power of two.
    step = (1 << (total - 1).bit_length()) // 16
    return -(-total // step) * step


def _installed(table: bytes) -> Iterator[int]:
    """Yield the bytes of each memory module in an SMBIOS table."""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        if kind == _END_OF_TABLE or length < 4:
            return
        if kind == _MEMORY_DEVICE:
            yield _module(table[at : at + length])
        # Strings follow, and two zeros end them.
        end = table.find(b"\0\0", at + length)
        if end < 0:
            return
        at = end + 2


def _module(device: bytes) -> int:
    size = _word(device, _SIZE, 2)
    if size in (0, _SIZE_UNKNOWN) or _word(device, _TYPE, 1) in _ROM_TYPES:
        return 0
    if _word(device, _TECHNOLOGY, 1) in _PERSISTENT:
        return 0
    if size == _SIZE_IS_EXTENDED:
        return (_word(device, _EXTENDED_SIZE, 4) & 0x7FFFFFFF) * _MIB
    if size & _SIZE_IN_KIB:
        return (size & ~_SIZE_IN_KIB) * _KIB
    return size * _MIB


def _word(device: bytes, at: int, size: int) -> int:
    return int.from_bytes(device[at : at + size], "little") if at + size <= len(device) else 0


def firmware(host: Host) -> Dict[str, Any]:
    """Return what this system was booted by: the record's keys `firmware` and `secure_boot`."""
    if host.has("/sys/firmware/efi"):
        return {"firmware": "uefi", "secure_boot": _secure_boot(host)}
    if host.has("/sys/firmware/devicetree"):
        host.problem("What the machine boots by is not known: it is no PC.")
        return {"firmware": None, "secure_boot": False}
    return {"firmware": "bios", "secure_boot": False}


def _secure_boot(host: Host) -> bool:
    # efivarfs puts four bytes of attributes before the one that counts; the older sysfs files do not.
    for path in (f"/sys/firmware/efi/efivars/{_SECURE_BOOT}", f"/sys/firmware/efi/vars/{_SECURE_BOOT}/data"):
        value = host.raw(path)
        if value:
            return value[-1] == 1
    if not host.names("/sys/firmware/efi/efivars") and not host.names("/sys/firmware/efi/vars"):
        host.problem(
            "Whether Secure Boot is on is not known: mount -t efivarfs efivarfs /sys/firmware/efi/efivars"
        )
    return False


def dmi(host: Host) -> Dict[str, Any]:
    """Return who made the machine: the record's table `dmi`."""
    found = {key: clean_inquiry(host.text(f"/sys/class/dmi/id/{name}")) for key, name in _DMI_IDS.items()}
    if not host.has("/sys/class/dmi/id"):
        host.problem("Maker, model and serial number are not known: the firmware has no DMI tables.")
    return found
