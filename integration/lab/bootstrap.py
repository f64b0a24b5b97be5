"""Unpacks the distribution: the slow first stage of the image (minutes, network)."""

import shutil
import subprocess
from pathlib import Path

from integration.lab.recipe import LEFT_OUT, NO_INITRAMFS, PACKAGES, SUITE


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
