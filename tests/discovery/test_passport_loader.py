"""Whether the machine's EFI system partition has what firmware without boot entries starts."""

from pathlib import Path

import pytest

from p2vd.discovery.passport.loader import fallback_loader
from tests.discovery.machine_tree import Machine

DEBIAN = "/EFI/debian/shimx64.efi"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.write("/sys/firmware/efi/fw_platform_size", "64")
    return machine


def mounted(machine: Machine, *places: str, kind: str = "vfat") -> None:
    lines = (f"{n} 1 8:{n} / {place} rw - {kind} /dev/sda{n} rw\n" for n, place in enumerate(places, 30))
    machine.write("/proc/self/mountinfo", "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n" + "".join(lines))


@pytest.mark.parametrize("place", ["/boot/efi", "/efi", "/boot"])
@pytest.mark.parametrize(
    ("files", "there"),
    [
        ([DEBIAN, "/EFI/BOOT/BOOTX64.EFI"], True),
        (["/efi/debian/shimx64.efi", "/efi/boot/bootx64.efi"], True),
        ([DEBIAN], False),
        ([DEBIAN, "/EFI/BOOT/fbx64.efi"], False),
        ([DEBIAN, "/EFI/BOOT/BOOTIA32.EFI"], False),
    ],
)
def test_it_is_there_or_missing(machine: Machine, place: str, files: list[str], there: bool) -> None:
    mounted(machine, place)
    for file in files:
        machine.write(place + file)
    host = machine.host()
    assert fallback_loader(host, live=False) is there
    assert host.problems == []


def test_one_of_two_mirrored_partitions_suffices(machine: Machine) -> None:
    mounted(machine, "/boot/efi", "/efi")
    machine.write(f"/boot/efi{DEBIAN}")
    machine.write("/efi/EFI/BOOT/BOOTX64.EFI")
    assert fallback_loader(machine.host(), live=False) is True


def test_without_the_partition_it_is_not_known(machine: Machine) -> None:
    """Packages leave files below /boot/efi where nothing is mounted; nothing starts by these."""
    machine.write("/boot/efi/EFI/BOOT/BOOTX64.EFI")
    host = machine.host()
    assert fallback_loader(host, live=False) is None
    (problem,) = host.problems
    assert problem.startswith(
        "Whether the machine starts without its firmware's boot entries is not known: no EFI"
    )
    mounted(machine, "/boot", kind="ext4")
    assert fallback_loader(machine.host(), live=False) is None


def test_what_cannot_be_listed_is_not_known(machine: Machine) -> None:
    mounted(machine, "/boot/efi")
    machine.write("/boot/efi/EFI", "root may read everything: a file fails for root, too")
    assert fallback_loader(machine.host(), live=False) is None


def test_a_machine_that_boots_by_bios_has_no_problem_without(tmp_path: Path) -> None:
    host = Machine(tmp_path).host()
    assert fallback_loader(host, live=False) is None
    assert host.problems == []


def test_in_a_rescue_system_the_machines_own_counts(machine: Machine) -> None:
    mounted(machine, "/boot/efi", "/mnt/boot/efi")
    machine.write("/boot/efi/EFI/BOOT/BOOTX64.EFI")
    machine.write(f"/mnt/boot/efi{DEBIAN}")
    assert fallback_loader(machine.host(), live=True) is None
    assert fallback_loader(machine.host("/mnt"), live=False) is False
