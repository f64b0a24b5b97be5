"""Makes the guest's initrd: busybox and the modules that the root disk and the network need, nothing else."""

import shutil
import subprocess
import tempfile
from pathlib import Path

WANTED = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "virtio_net")

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t devtmpfs d /dev; $B mount -t proc p /proc; $B mount -t sysfs s /sys
for m in /m/*; do $B insmod $m; done
n=0; while [ ! -b /dev/vda ] && [ $n -lt 200 ]; do $B usleep 50000; n=$((n+1)); done
$B mount -t ext4 -o noatime /dev/vda /new || exec $B sh
$B mount --move /dev /new/dev; $B umount /proc /sys
exec $B switch_root /new /sbin/init
"""


def kernel_release(tree: Path) -> str:
    """Return the release of the one kernel in an unpacked distribution."""
    (kernel,) = sorted((tree / "boot").glob("vmlinuz-*"))
    return kernel.name.removeprefix("vmlinuz-")


def modules(tree: Path, release: str) -> list[Path]:
    """Return the files of the wanted modules and of what they need, in loading order."""
    found: list[Path] = []
    for name in WANTED:
        shown = subprocess.run(
            ["/sbin/modprobe", "-d", str(tree), "-S", release, "--show-depends", name],
            check=True,
            capture_output=True,
            text=True,
        )
        # Built-in modules say "builtin NAME".
        found += [Path(line.split()[1]) for line in shown.stdout.splitlines() if line.startswith("insmod")]
    return list(dict.fromkeys(found))


def make(tree: Path, initrd: Path) -> None:
    """Write the initrd for the kernel in `tree`."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for directory in ("bin", "dev", "proc", "sys", "new", "m"):
            (root / directory).mkdir()
        shutil.copy(tree / "bin/busybox", root / "bin/busybox")
        (root / "bin/sh").symlink_to("busybox")
        for number, module in enumerate(modules(tree, kernel_release(tree)), 10):
            shutil.copy(module, root / "m" / f"{number}-{module.name}")
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        listing = "\0".join(sorted(str(path.relative_to(root)) for path in root.rglob("*"))) + "\0"
        with initrd.open("wb") as out:
            subprocess.run(
                ["cpio", "--null", "--quiet", "-o", "-H", "newc"],
                cwd=root,
                input=listing.encode(),
                stdout=out,
                check=True,
            )
