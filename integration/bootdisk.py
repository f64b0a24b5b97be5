"""A small disk that boots as real ones do: GRUB, a kernel, and a busybox that prints a marker.

Made without a loop device or a mount. A disk boots by BIOS and by UEFI; the partition table is a choice.
"""

import enum
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

MARKER = "LAB-BOOT-MARKER"
SIZE_BYTES = 128 << 20
SECTOR_BYTES = 512

_EMBEDDED_SECTOR = 2048
"""Where GRUB's core image lies: a partition of its own (GPT), or the gap before the first one (MBR)."""

_FILES_SECTOR = 4096
_GPT_BACKUP_SECTORS = 34
_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ESP_MBR = "ef"

_GRUB_MODULES = (
    *("part_gpt", "part_msdos", "fat", "search", "search_fs_file", "linux"),
    *("normal", "serial", "terminal", "echo"),
)
_GRUB_LIBRARY = Path("/usr/lib/grub/i386-pc")

_GRUB_CONFIG = """\
serial --unit=0 --speed=115200
terminal_output serial
set timeout=0
search --no-floppy --set=root --file /lab/vmlinuz
linux /lab/vmlinuz console=ttyS0 quiet panic=1
initrd /lab/initrd
boot
"""

_INIT = """\
#!/bin/sh
B=/bin/busybox
$B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev
[ -d /sys/firmware/efi ] && F=UEFI || F=BIOS
for m in /m/*; do [ -e $m ] && $B insmod $m; done
{work}
echo "{marker} firmware=$F" > /dev/console
# Whoever has seen it ends the machine.
$B sleep 3600
$B poweroff -f
"""


class Table(enum.Enum):
    """The kind of partition table."""

    GPT = "gpt"
    MBR = "mbr"


def make(
    disk: Path,
    table: Table,
    kernel: Path,
    *,
    modules: Sequence[Path] = (),
    work: str = "",
) -> None:
    """Write the disk. Its init loads `modules` in that order, does `work`, prints the marker, and waits."""
    with tempfile.TemporaryDirectory() as name:
        parts = Path(name)
        _initrd(parts, modules, _INIT.format(work=work, marker=MARKER))
        (parts / "grub.cfg").write_text(_GRUB_CONFIG)
        _grub(parts, "x86_64-efi", "BOOTX64.EFI")
        _grub(parts, "i386-pc", "core.img", "biosdisk")
        disk.unlink(missing_ok=True)
        _run("truncate", "-s", str(SIZE_BYTES), str(disk))
        _partition(disk, table)
        _files(parts, kernel)
        _run(
            *("dd", f"if={parts / 'files'}", f"of={disk}", "bs=1M", "conv=notrunc,sparse", "status=none"),
            *("oflag=seek_bytes", f"seek={_FILES_SECTOR * SECTOR_BYTES}"),
        )
        _boot_sectors(disk, (parts / "core.img").read_bytes())


def _run(*argv: str, text: str = "") -> None:
    subprocess.run(argv, check=True, input=text.encode(), stdout=subprocess.DEVNULL)


def _initrd(parts: Path, modules: Sequence[Path], init: str) -> None:
    root = parts / "root"
    for directory in ("bin", "dev", "proc", "sys", "m"):
        (root / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    for number, module in enumerate(modules, 10):
        shutil.copy(module, root / "m" / f"{number}-{module.name}")
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    listing = "\0".join(sorted(str(path.relative_to(root)) for path in root.rglob("*"))) + "\0"
    with (parts / "initrd").open("wb") as out:
        subprocess.run(
            ["cpio", "--null", "--quiet", "-o", "-H", "newc"],
            cwd=root,
            input=listing.encode(),
            stdout=out,
            check=True,
        )


def _grub(parts: Path, platform: str, image: str, *modules: str) -> None:
    options = ["-O", platform, "-o", str(parts / image), "-p", "/lab", "-c", str(parts / "grub.cfg")]
    _run("grub-mkimage", *options, *modules, *_GRUB_MODULES)


def _partition(disk: Path, table: Table) -> None:
    if table is Table.GPT:
        script = (
            f"label: gpt\nstart={_EMBEDDED_SECTOR},size=2048,type={_BIOS_BOOT}\n"
            f"start={_FILES_SECTOR},type={_ESP}\n"
        )
    else:
        script = f"label: dos\nstart={_FILES_SECTOR},type={_ESP_MBR},bootable\n"
    _run("sfdisk", "-q", str(disk), text=script)


def _files(parts: Path, kernel: Path) -> None:
    """Make the one file system: FAT, as UEFI wants it, with the kernel for both firmwares."""
    image = str(parts / "files")
    # A MiB less than there is room: the backup of a GPT lies behind.
    size = SIZE_BYTES - (_FILES_SECTOR + _GPT_BACKUP_SECTORS) * SECTOR_BYTES - (1 << 20)
    _run("truncate", "-s", str(size), image)
    _run("mkfs.vfat", "-F", "32", "-n", "LABESP", image)
    _run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT", "::/lab")
    _run("mcopy", "-i", image, str(parts / "BOOTX64.EFI"), "::/EFI/BOOT/")
    _run("mcopy", "-i", image, str(kernel), "::/lab/vmlinuz")
    _run("mcopy", "-i", image, str(parts / "initrd"), "::/lab/initrd")


def _boot_sectors(disk: Path, core: bytes) -> None:
    """Install GRUB for BIOS as grub-install does: offsets of boot.S and diskboot.S in GRUB 2.06."""
    boot = bytearray((_GRUB_LIBRARY / "boot.img").read_bytes())
    image = bytearray(core)
    assert len(image) <= (_FILES_SECTOR - _EMBEDDED_SECTOR) * SECTOR_BYTES
    boot[0x5C:0x64] = struct.pack("<Q", _EMBEDDED_SECTOR)  # kernel_sector
    boot[0x66:0x68] = b"\x90\x90"  # boot_drive_check: take the drive that the BIOS names
    sectors = -(-len(image) // SECTOR_BYTES) - 1
    # The block list that diskboot.img reads the rest by: start, length, segment.
    image[0x1F4:0x200] = struct.pack("<QHH", _EMBEDDED_SECTOR + 1, sectors, 0x820)
    with disk.open("r+b") as file:
        table = file.read(SECTOR_BYTES)[0x1B8:]
        file.seek(0)
        file.write(bytes(boot[:0x1B8]) + table)
        file.seek(_EMBEDDED_SECTOR * SECTOR_BYTES)
        file.write(image)
