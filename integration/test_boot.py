"""Disks that boot: migrated from an iSCSI LUN to a thin volume they still do; a boot test writes nothing."""

import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration import bootdisk, outside
from integration.bootdisk import MARKER, Table
from integration.host import Host, Properties
from integration.lab.vm import Vm
from p2vd.model.plan import DiskBus, Firmware

# A campaign: emulation within emulation takes a quarter of an hour a test.
pytestmark = [pytest.mark.lab, pytest.mark.campaign]

RULE = """
[[rule]]
name = "lab-boot"
match.transport = ["iscsi"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
target.autoactivate = {autoactivate}
domain.memory = "192 MiB"
domain.vcpus = 1
domain.type = "qemu"
domain.bus = "virtio"
"""

# An emulated machine in an emulated machine.
PATIENCE_S = 1200


@dataclass(frozen=True)
class Boots:
    """A disk that boots, as it was made, and the LUN that has become one."""

    image: Path
    digest: str
    wwid: str


@pytest.fixture
def kernel(installed: Path) -> Path:
    """The lab's own kernel boots on the small disks too."""
    return installed.parent.parent / "vmlinuz"


def boot_lun(host: Host, table: Table, kernel: Path, directory: Path, **init: object) -> Boots:
    """Add a LUN with a disk that boots on it."""
    image = directory / f"{table.value}.img"
    bootdisk.make(image, table, kernel, **init)  # type: ignore[arg-type]
    lun = host.san.add(table.value, f"{bootdisk.SIZE_BYTES >> 20}M")
    packed = directory / "packed"
    with image.open("rb") as data, gzip.open(packed, "wb", 1) as file:
        shutil.copyfileobj(data, file)
    host.vm.push(packed, "/tmp/packed")
    host.vm.run(
        f"zcat /tmp/packed | dd of={lun.backing} bs=1M conv=notrunc,sparse status=none; rm /tmp/packed"
    )
    digest = hashlib.sha256(image.read_bytes()).hexdigest()
    assert host.san.digest(table.value) == digest
    return Boots(image, digest, lun.wwid)


def start(host: Host, *, autoactivate: bool = True) -> None:
    host.vm.write(
        "/etc/p2vd/policy.d/50-lab.toml", RULE.format(autoactivate="true" if autoactivate else "false")
    )
    host.vm.run("systemctl start p2vd")


def volume_digest(host: Host, device: str) -> str:
    host.vm.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return host.vm.out(f"sha256sum < {device}").split()[0]


def test_gpt_and_mbr_boot_from_a_thin_volume_by_bios_and_uefi(vm: Vm, kernel: Path, tmp_path: Path) -> None:
    """Read back from the volumes: each of the four combinations prints its marker."""
    host = Host(vm)
    disks = {table: boot_lun(host, table, kernel, tmp_path) for table in Table}
    start(host)
    jobs = {table: host.migrate(disk.wwid, f"boots-{table.value}") for table, disk in disks.items()}
    for table, job in jobs.items():
        done = host.wait_registered(job, 600)
        assert volume_digest(host, done["Target"]) == disks[table].digest
        vm.run(f"gzip -1 < {done['Target']} > /srv/back.gz")
        packed, image = tmp_path / "back.gz", tmp_path / f"back-{table.value}.img"
        vm.pull("/srv/back.gz", packed)
        with gzip.open(packed) as data, image.open("wb") as file:
            shutil.copyfileobj(data, file)
    for table, bus in ((Table.GPT, DiskBus.VIRTIO), (Table.MBR, DiskBus.SATA)):
        image = tmp_path / f"back-{table.value}.img"
        for firmware in Firmware:
            report = outside.boot(image, firmware, bus, MARKER + r" firmware=\w+\n")
            assert report.booted, report
            assert f"{MARKER} firmware={firmware.name}" in report.seen, report
        assert hashlib.sha256(image.read_bytes()).hexdigest() == disks[table].digest


@pytest.mark.parametrize("bus", [DiskBus.VIRTIO, DiskBus.SATA, DiskBus.SCSI])
def test_a_machine_of_sixty_disks_boots_from_its_first(bus: DiskBus, kernel: Path, tmp_path: Path) -> None:
    """SeaBIOS has memory for about twenty disks: it has to start the first one first."""
    image = tmp_path / "first.img"
    bootdisk.make(image, Table.MBR, kernel)
    report = outside.boot(image, Firmware.BIOS, bus, MARKER, beside=59)
    assert report.booted, report


def boot_test(host: Host, machine: str, *options: str) -> tuple[int, Properties]:
    """Ask by p2vctl, as an administrator does; its exit status and what it printed as JSON."""
    done = host.vm.run(
        ["p2vctl", "boot-test", machine, "--json", *options], timeout_s=PATIENCE_S, check=False
    )
    assert done.stdout, done.stderr
    result: Properties = json.loads(done.stdout)
    return done.returncode, result


# A guest that ruins its disk: written and flushed, and zero when it is read again.
VANDAL = """\
n=0; while [ ! -b /dev/vda ] && [ $n -lt 6000 ]; do $B usleep 100000; n=$((n+1)); done
[ -b /dev/vda ] && $B dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync
echo 3 > /proc/sys/vm/drop_caches
LEFT=$($B dd if=/dev/vda bs=1M count=8 | $B tr -d '\\0' | $B wc -c)
[ -b /dev/vda ] && [ $LEFT = 0 ] && echo RUINED > /dev/console
"""


def disk_drivers(vm: Vm, directory: Path) -> list[Path]:
    """Return the kernel's modules for a virtio disk, as the lab's machine has them."""
    shown = vm.out("modprobe --show-depends virtio_pci; modprobe --show-depends virtio_blk").splitlines()
    files = dict.fromkeys(line.split()[1] for line in shown if line.startswith("insmod"))
    for file in files:
        vm.pull(file, directory / Path(file).name)
    return [directory / Path(file).name for file in files]


def test_a_boot_test_shows_the_marker_and_writes_nothing(vm: Vm, kernel: Path, tmp_path: Path) -> None:
    """Inside: the unit, its user, its device filter."""
    host = Host(vm)
    drivers = disk_drivers(vm, tmp_path)
    disk = boot_lun(host, Table.GPT, kernel, tmp_path, modules=drivers, work=VANDAL)
    start(host)
    job = host.wait_registered(host.migrate(disk.wwid, "erp1"), 600)
    status, seen = boot_test(host, "erp1", "--expect", MARKER, "--timeout", "900")
    assert (status, seen["State"], seen["Sign"]) == (0, "booted", "serial"), seen
    assert MARKER in seen["Seen"]
    assert "RUINED" in seen["Serial"], seen
    assert seen["Accelerator"] == "tcg"
    assert volume_digest(host, job["Target"]) == disk.digest
    assert "P   N   G" in vm.out(f"od -c -N 8 {seen['Screenshot']}")
    # systemd forgets a unit a moment after its end.
    left = (
        "systemctl list-units --all --plain --no-legend 'p2vd-boot-test-*'; "
        "ls /run | grep boot-test; ls /var/tmp | grep boot-test; true"
    )
    host.wait(lambda: vm.out(left) == "", "nothing left over of the boot test")
    # And the result is known to whoever asks later, also another daemon.
    vm.run("systemctl restart p2vd")
    machine = host.wait(lambda: host.machine("erp1"), "the machine after the restart")
    assert machine["BootTest"]["State"] == "booted"
