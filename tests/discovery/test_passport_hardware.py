"""Processors, memory, firmware and DMI, where the kernel tells much, little, or nonsense."""

import struct
from pathlib import Path

import pytest

from p2vd.discovery.passport.hardware import cpu, dmi, firmware, memory_bytes
from tests.discovery.machine_tree import Machine

MIB = 1 << 20
CPUINFO = (
    "processor\t: {n}\nvendor_id\t: GenuineIntel\n"
    "model name\t: Intel(R)  Xeon(R)\nflags\t\t: vmx sse4_2 avx2\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def processors(machine: Machine, siblings: list[str], packages: list[str]) -> None:
    text = "\n".join(CPUINFO.format(n=n) for n in range(len(siblings)))
    machine.write("/proc/cpuinfo", text)
    for number, (cores, sockets) in enumerate(zip(siblings, packages, strict=True)):
        place = f"/sys/devices/system/cpu/cpu{number}/topology"
        machine.write(f"{place}/thread_siblings_list", cores)
        machine.write(f"{place}/core_siblings_list", sockets)


def test_sockets_cores_and_threads(machine: Machine) -> None:
    processors(machine, ["0,4", "1,5", "2,6", "3,7"] * 2, ["0-1,4-5", "0-1,4-5", "2-3,6-7", "2-3,6-7"] * 2)
    machine.write("/sys/devices/system/cpu/cpu8/online", "0")  # offline: without topology
    machine.write("/sys/devices/system/cpu/cpufreq/policy0/x", "0")
    host = machine.host()
    assert cpu(host) == {
        "model": "Intel(R) Xeon(R)",
        "vendor": "GenuineIntel",
        "sockets": 2,
        "cores": 2,
        "threads": 2,
        "flags": ["avx2", "sse4_2", "vmx"],
    }
    assert host.problems == []


@pytest.mark.parametrize(
    ("siblings", "packages", "counted"),
    [
        (["0-1", "0-1", "2"], ["0-2"] * 3, (1, 3, 1)),  # cores of two kinds
        (["0", "1", "2"], ["0-1", "0-1", "2"], (1, 3, 1)),  # one offline
        (["0-1", "0-1", "2", "3"], ["0-1", "0-1", "2-3", "2-3"], (2, 2, 1)),
    ],
)
def test_processors_that_are_not_alike_keep_their_number(
    machine: Machine, siblings: list[str], packages: list[str], counted: tuple[int, ...]
) -> None:
    processors(machine, siblings, packages)
    host = machine.host()
    found = cpu(host)
    assert (found["sockets"], found["cores"], found["threads"]) == counted
    assert "are not alike" in host.problems[0]


def test_without_topology_processors_are_counted(machine: Machine) -> None:
    machine.write("/proc/cpuinfo", "\n".join(CPUINFO.format(n=n) for n in range(3)))
    host = machine.host()
    assert (cpu(host)["cores"], len(host.problems)) == (3, 1)


def test_a_silent_kernel_is_named(machine: Machine) -> None:
    host = machine.host()
    assert cpu(host)["cores"] == 1
    assert memory_bytes(host) == 0
    assert [problem.split(" is not known")[0] for problem in host.problems if "not known" in problem]
    assert len(host.problems) == 3


def module(size: int, extended: int = 0, kind: int = 0x1A, technology: int = 3) -> bytes:
    """An SMBIOS memory device with two strings."""
    body = bytearray(0x54)
    struct.pack_into("<BBH", body, 0, 17, len(body), 0x1100)
    struct.pack_into("<H", body, 0x0C, size)
    body[0x12] = kind
    struct.pack_into("<I", body, 0x1C, extended)
    body[0x28] = technology
    return bytes(body) + b"DIMM_A1\0Samsung\0\0"


OTHER = bytes([1, 4, 0, 0]) + b"\0\0"
END = bytes([127, 4, 0, 0]) + b"\0\0"


@pytest.mark.parametrize(
    ("table", "installed"),
    [
        (OTHER + module(16384) + module(16384) + module(0) + END, 32768 * MIB),
        (module(0x7FFF, 65536) + END, 65536 * MIB),  # too big for the old field
        (module(0x8000 | 0x4000) + module(30720) + END, 16 * MIB + 30720 * MIB),  # in KiB
        (module(30720) + module(16, kind=0x09) + END, 30720 * MIB),  # the firmware's own flash
        (module(30720) + module(0x7FFF, 131072, technology=7) + END, 30720 * MIB),  # persistent memory
        (module(32768)[:0x15] + b"\0\0" + END, 0),
    ],
    ids=["two modules and an empty slot", "extended", "KiB", "flash", "persistent", "cut off"],
)
def test_installed_memory_is_the_firmwares_sum(machine: Machine, table: bytes, installed: int) -> None:
    machine.write("/proc/meminfo", "MemTotal:       30000000 kB\nMemFree: 1 kB\n")
    machine.write("/sys/firmware/dmi/tables/DMI", table)
    host = machine.host()
    if installed:
        assert memory_bytes(host) == installed
        assert host.problems == []
    else:
        assert memory_bytes(host) == 30 << 30
        assert "do not tell how much memory is installed" in host.problems[0]


@pytest.mark.parametrize(
    ("total_kib", "installed_gib"),
    [
        (16_300_000, 16),
        (263_700_000, 256),
        (395_000_000, 384),
        (98_700_000, 96),
        (2_020_000, 2),
        (8_388_608, 8),
    ],
)
def test_what_the_system_has_is_rounded_to_what_modules_add_up_to(
    machine: Machine, total_kib: int, installed_gib: int
) -> None:
    machine.write("/proc/meminfo", f"MemTotal: {total_kib} kB\n")
    assert memory_bytes(machine.host()) == installed_gib << 30


@pytest.mark.parametrize("garbage", [b"", b"\x11", b"\x11\x00\x00\x00", b"\x11\xff" * 40, bytes(range(256))])
def test_garbled_firmware_tables_end(machine: Machine, garbage: bytes) -> None:
    machine.write("/proc/meminfo", "MemTotal: 1000000 kB\n")
    machine.write("/sys/firmware/dmi/tables/DMI", garbage)
    assert memory_bytes(machine.host()) == 1 << 30


EFIVARS = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(("value", "on"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False)])
def test_secure_boot(machine: Machine, value: bytes, on: bool) -> None:
    machine.write(EFIVARS, value)
    host = machine.host()
    assert firmware(host) == {"firmware": "uefi", "secure_boot": on}
    assert host.problems == []


def test_what_it_boots_by(machine: Machine) -> None:
    host = machine.host()
    assert firmware(host) == {"firmware": "bios", "secure_boot": False}
    machine.write("/sys/firmware/efi/fw_platform_size", "64")
    assert firmware(host)["firmware"] == "uefi"
    assert "mount -t efivarfs" in host.problems[0]


def test_what_is_no_pc_boots_by_what_is_not_known(machine: Machine) -> None:
    machine.write("/sys/firmware/devicetree/base/model", "x")
    host = machine.host()
    assert firmware(host)["firmware"] is None
    assert len(host.problems) == 1


def test_dmi_strings_are_cleaned(machine: Machine) -> None:
    strings: dict[str, str | bytes] = {
        "sys_vendor": "Dell Inc.  \n",
        "product_name": b"R640\x00\xff",
        "bios_version": "2.1",
    }
    for name, value in strings.items():
        machine.write(f"/sys/class/dmi/id/{name}", value)
    found = dmi(machine.host())
    assert (found["vendor"], found["product"], found["bios_version"]) == ("Dell Inc.", "R640 \ufffd", "2.1")
    assert found["serial"] == ""


def test_what_cannot_be_read_is_named_and_the_rest_recorded(machine: Machine) -> None:
    processors(machine, ["0", "1"], ["0-1", "0-1"])
    (machine.root / "proc/cpuinfo").unlink()
    machine.write("/proc/cpuinfo/x")  # root may read everything: this fails for root, too
    host = machine.host()
    assert cpu(host)["cores"] == 2
    assert "/proc/cpuinfo cannot be read: Is a directory." in host.problems
