"""Unpacks the distribution: the slow first stage of the image (minutes, network)."""

import shutil
import subprocess
from pathlib import Path

from integration.lab.recipe import PACKAGES, SUITE

LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")

# The guest boots by the lab's own small initrd: Debian's would take half a minute to make and would never be used.
NO_INITRAMFS = (
    'chroot "$1" dpkg-divert --quiet --local --rename --add /usr/sbin/update-initramfs && '
    'ln -s /bin/true "$1/usr/sbin/update-initramfs"'
)


def unpack(tree: Path) -> None:
    """Unpack the packages of the recipe into `tree`, which appears only when it is complete."""
    partial = tree.with_name(tree.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--essential-hook={NO_INITRAMFS}", SUITE, str(partial)]
    subprocess.run(command, check=True)
    partial.rename(tree)
