"""Unpacks the distribution: the slow first stage of the image (minutes, network)."""

import shutil
import subprocess
from pathlib import Path

from integration.lab.recipe import LEFT_OUT, NO_INITRAMFS, PACKAGES, SUITE


def unpack(tree: Path) -> None:
    """Unpack the packages of the recipe into `tree`, which appears only when it is complete."""
    partial = tree.with_name(tree.name + ".partial")
    if partial.exists():
        _must_hold_no_mount(partial)
        shutil.rmtree(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    # In a mount namespace of its own: /proc and /sys are mounted into the tree meanwhile, and a
    # run that is interrupted must not leave them there.
    command = ["unshare", "--mount", "--propagation", "private", "--"]
    command += ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
    command += [f"--include={','.join(PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--essential-hook={NO_INITRAMFS}", SUITE, str(partial)]
    subprocess.run(command, check=True)
    partial.rename(tree)


def _must_hold_no_mount(directory: Path) -> None:
    """Raise where something is mounted below `directory`: deleting would reach into it."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    below = [point for point in points if point.startswith(f"{directory.resolve()}/")]
    if below:
        raise RuntimeError(f"an interrupted run left mounts behind; unmount first: {', '.join(below)}")
