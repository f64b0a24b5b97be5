"""What operating system the machine has, what virtual hardware it can drive, and its clock."""

from pathlib import Path

import pytest

from p2vd.discovery.passport.system import clock, is_live, own_name, system
from tests.discovery.machine_tree import Machine

KERNEL = "6.1.0-18-amd64"

# As lsinitrd begins, of RHEL 9: the microcode, then all files.
DRACUT = (
    "drwxr-xr-x   2 root     root            0 Jan  1  1970 kernel/x86/microcode\n"
    "lrwxrwxrwx   1 root     root           23 Jan  1  1970 init -> usr/lib/systemd/systemd\n"
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.write("/proc/sys/kernel/osrelease", KERNEL + "\n")
    machine.write("/proc/sys/kernel/hostname", "erp1.example.org\n")
    machine.write(
        "/usr/lib/os-release",
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n# x=y\nID=debian\nVERSION_ID="12"\n',
    )
    machine.link("/etc/os-release", "../usr/lib/os-release")
    machine.write(
        f"/lib/modules/{KERNEL}/modules.dep",
        "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n"
        "kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz\n"
        "kernel/drivers/net/e1000e/e1000e.ko.xz:\n"
        "kernel/drivers/block/xen-blkfront.ko: \n"
        "kernel/sound/snd.ko:\n",
    )
    machine.write(
        f"/lib/modules/{KERNEL}/modules.builtin", "kernel/drivers/ata/ahci.ko\nkernel/fs/ext4/ext4.ko\n"
    )
    return machine


def test_a_system_and_its_drivers(machine: Machine) -> None:
    machine.write(f"/boot/initrd.img-{KERNEL}", b"07070100")
    listing = "init\nusr/lib/modules/x/kernel/drivers/block/virtio_blk.ko.xz\nusr/lib/modules/x/ext4.ko\n"
    machine.answers[f"lsinitramfs /boot/initrd.img-{KERNEL}"] = (listing, "")
    machine.write("/usr/sbin/qemu-ga")
    host = machine.host()
    assert system(host) == {
        "id": "debian",
        "name": "Debian GNU/Linux 12 (bookworm)",
        "version": "12",
        "kernel": KERNEL,
        "drivers": ["ahci", "e1000e", "virtio_blk", "virtio_net", "xen_blkfront"],
        "boot_drivers": ["ahci", "virtio_blk"],
        "boot_drivers_known": True,
        "agents": ["qemu-ga"],
    }
    assert host.problems == []


def test_draccuts_initramfs_is_listed_by_its_own_tool(machine: Machine) -> None:
    machine.write(f"/boot/initramfs-{KERNEL}.img", b"x")
    listing = DRACUT + (
        "-rw-r--r-- 1 root root 9 Jan 1 1970 usr/lib/modules/x/kernel/drivers/scsi/virtio_scsi.ko.xz\n"
    )
    machine.answers[f"lsinitrd /boot/initramfs-{KERNEL}.img"] = (listing, "")
    assert system(machine.host())["boot_drivers"] == ["ahci", "virtio_scsi"]


def test_an_initramfs_with_none_of_them_is_known_to_have_none(machine: Machine) -> None:
    """As dracut makes it for the one machine: with its HBA's driver and no other."""
    machine.write(f"/boot/initramfs-{KERNEL}.img", b"x")
    machine.write(f"/lib/modules/{KERNEL}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    listing = DRACUT + "-rw-r--r-- 1 root root 9 Jan 1 1970 usr/lib/modules/x/kernel/scsi/qla2xxx.ko\n"
    machine.answers[f"lsinitrd /boot/initramfs-{KERNEL}.img"] = (listing, "")
    host = machine.host()
    found = system(host)
    assert (found["boot_drivers"], found["boot_drivers_known"]) == ([], True)
    assert host.problems == []


def test_an_initramfs_that_is_not_there_is_said(machine: Machine) -> None:
    """In a rescue system /boot may be a filesystem that nobody mounted."""
    host = machine.host()
    found = system(host)
    assert (found["boot_drivers"], found["boot_drivers_known"]) == (["ahci"], False)
    assert host.problems == [
        "Which drivers the system has when it starts, is not known: /boot has no initramfs of the kernel "
        f"{KERNEL}. If /boot is a filesystem of its own, mount it."
    ]


@pytest.mark.parametrize("listing", ["", "Image: /boot/initramfs: 30M\nkernel/x86/microcode/AMD.bin\n"])
def test_a_list_that_ends_before_init_says_nothing(machine: Machine, listing: str) -> None:
    """As lsinitrd has it where what unpacks the rest is not installed."""
    machine.write(f"/boot/initramfs-{KERNEL}.img", b"x")
    machine.answers[f"lsinitrd /boot/initramfs-{KERNEL}.img"] = (listing, "")
    host = machine.host()
    assert system(host)["boot_drivers_known"] is False
    assert "lsinitrd: its list has no init" in host.problems[0]


def test_an_old_kernel_does_not_say_what_is_built_in(machine: Machine) -> None:
    (machine.root / f"lib/modules/{KERNEL}/modules.builtin").unlink()
    machine.write(f"/boot/initramfs-{KERNEL}.img", b"x")
    machine.answers[f"lsinitrd /boot/initramfs-{KERNEL}.img"] = (DRACUT, "")
    found = system(machine.host())
    assert (found["boot_drivers"], found["boot_drivers_known"]) == ([], False)


def test_an_initramfs_that_nobody_can_list_is_said(machine: Machine) -> None:
    machine.write(f"/boot/initrd.img-{KERNEL}", b"x")
    host = machine.host()
    found = system(host)
    assert (found["boot_drivers"], found["boot_drivers_known"]) == (["ahci"], False)
    (problem,) = host.problems
    assert f"/boot/initrd.img-{KERNEL} cannot be listed (lsinitramfs: No such file" in problem


def test_without_modules_nothing_is_claimed(machine: Machine) -> None:
    machine.write("/proc/sys/kernel/osrelease", "6.9.0-own")
    host = machine.host()
    found = system(host)
    assert (found["drivers"], found["boot_drivers"]) == ([], [])
    assert host.problems == [
        "Which drivers the system has, is not known: there is no /lib/modules/6.9.0-own."
    ]


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("CentOS release 6.10 (Final)\n", ("centos", "6.10")),
        ("Red Hat Enterprise Linux Server release 6.9 (Santiago)", ("rhel", "6.9")),
    ],
)
def test_systems_before_os_release(machine: Machine, text: str, release: tuple[str, str]) -> None:
    (machine.root / "etc/os-release").unlink()
    (machine.root / "usr/lib/os-release").unlink()
    machine.write("/etc/redhat-release", text)
    found = system(machine.host())
    assert (found["id"], found["version"]) == release
    assert found["name"] == text.strip()


def test_a_system_that_says_nothing_is_said(machine: Machine) -> None:
    (machine.root / "etc/os-release").unlink()
    (machine.root / "usr/lib/os-release").unlink()
    host = machine.host()
    assert system(host)["id"] == ""
    assert "there is no /etc/os-release" in host.problems[0]


@pytest.mark.parametrize(
    ("adjtime", "kept"),
    [
        ("0.0 0 0.0\n0\nLOCAL\n", "local"),
        ("0.0 0 0.0\n0\nUTC\n", "utc"),
        ("0.0 0 0.0\n", "utc"),
        (None, "utc"),
    ],
)
def test_the_clock(machine: Machine, adjtime: str | None, kept: str) -> None:
    if adjtime is not None:
        machine.write("/etc/adjtime", adjtime)
    assert clock(machine.host()) == kept


def test_its_name_is_without_its_domain(machine: Machine) -> None:
    assert own_name(machine.host()) == "erp1"


def mounted(machine: Machine, kind: str) -> None:
    machine.write(
        "/proc/self/mountinfo",
        f"22 1 0:20 / / rw - {kind} {kind} rw\n30 22 8:1 / /mnt ro - ext4 /dev/sda1 ro\n",
    )


@pytest.mark.parametrize(
    ("kind", "live"), [("overlay", True), ("squashfs", True), ("tmpfs", True), ("xfs", False)]
)
def test_a_live_system_is_told_by_its_root(machine: Machine, kind: str, live: bool) -> None:
    mounted(machine, kind)
    assert is_live(machine.host()) == live
    assert not is_live(machine.host("/mnt"))


def test_in_a_rescue_system_the_machines_own_is_recorded(machine: Machine) -> None:
    mounted(machine, "overlay")
    machine.write("/mnt/etc/hostname", "erp1.example.org\n")
    machine.write("/mnt/usr/lib/os-release.real", "ID=rhel\n")
    machine.link("/mnt/etc/os-release", "/usr/lib/os-release.real")  # as that system sees it
    for kernel in ("4.18.0-80.el8", "4.18.0-553.el8", "4.18.0-99.el8"):
        machine.write(f"/mnt/lib/modules/{kernel}/modules.dep", "kernel/drivers/block/virtio_blk.ko.xz:\n")
    host = machine.host("/mnt")
    found = system(host)
    assert (found["id"], found["kernel"], found["drivers"]) == ("rhel", "4.18.0-553.el8", ["virtio_blk"])
    assert own_name(host) == "erp1"
