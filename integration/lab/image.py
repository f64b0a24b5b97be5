"""Builds the guest's bootable image from the recipe, once per recipe."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from integration.lab import bootstrap, initrd
from integration.lab.machine import ROOT, SRV
from integration.lab.recipe import GUEST_TREE, image_key, lab_dir, tree_key

KEPT = 2
"""Images kept: this recipe's and the one used before it."""

ENABLED = ("lab-net", "lab-ready", "lab-journal", "lab-san", "iscsid", "multipathd")
DISABLED = (
    *("libvirtd", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirt-guests"),
    *("virtlogd.socket", "virtlockd.socket", "open-iscsi", "nbd-client", "e2scrub_reap"),
)
MASKED = (
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "fstrim.timer",
    ),
    *("logrotate.timer", "mdcheck_start.timer", "mdcheck_continue.timer", "mdmonitor-oneshot.timer"),
    *(
        "systemd-networkd.service",
        "systemd-networkd-wait-online.service",
        "systemd-network-generator.service",
    ),
    *("getty@tty1.service", "getty-static.service", "serial-getty@ttyS0.service", "systemd-pstore.service"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-firstboot.service"),
    *("systemd-machine-id-commit.service", "systemd-udev-settle.service", "systemd-binfmt.service"),
    *("proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount"),
    "var-lib-machines.mount",
)
"""Work by the clock and waits of a boot that no test looks at."""


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of that name: engineers and test runs share the cache."""
    directory = lab_dir()
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ssh_key() -> Path:
    """Return the private key that opens every guest of this cache; made when missing."""
    key = lab_dir() / "key"
    with locked("key"):
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key


def ensure() -> Path:
    """Return this recipe's image: a directory of root.img, srv.img, vmlinuz, initrd. Built when missing."""
    image = lab_dir() / f"image-{image_key()}"
    key = ssh_key()
    with locked("image"):
        if not image.exists():
            started = time.monotonic()
            tree = lab_dir() / f"tree-{tree_key()}"
            if not tree.exists():
                print("lab: unpacking Debian for the guest (once, about three minutes)", flush=True)
                bootstrap.unpack(tree)
            print("lab: making the guest's image (once)", flush=True)
            _build(tree, key, image)
            print(f"lab: image made in {time.monotonic() - started:.0f} s", flush=True)
            _forget_old(image, tree)
        os.utime(image)
    return image


def _build(tree: Path, key: Path, image: Path) -> None:
    partial = image.with_name(image.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    root = partial / "root"
    subprocess.run(["cp", "-a", str(tree), str(root)], check=True)
    _configure(root, key)
    initrd.make(root, partial / "initrd")
    shutil.copy(root / "boot" / f"vmlinuz-{initrd.kernel_release(root)}", partial / "vmlinuz")
    disk = partial / "root.img"
    subprocess.run(["truncate", "-s", ROOT.size, str(disk)], check=True)
    options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,nodiscard", "-d", str(root)]
    subprocess.run(["/sbin/mkfs.ext4", *options, str(disk)], check=True)
    shutil.rmtree(root)
    array = partial / "srv.img"
    subprocess.run(["truncate", "-s", SRV.size, str(array)], check=True)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", str(array)], check=True)
    partial.rename(image)


def _configure(root: Path, key: Path) -> None:
    subprocess.run(["cp", "-a", "--no-preserve=ownership", f"{GUEST_TREE}/.", str(root)], check=True)
    _chroot(root, "passwd", "-d", "root")
    # polkit tests ask as this one; no sudo, no group that may more (Debian has one named operator).
    _chroot(root, "useradd", "--create-home", "--gid", "users", "--shell", "/bin/bash", "operator")
    keys = root / "root/.ssh"
    keys.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key.with_suffix(".pub"), keys / "authorized_keys")
    lvm = root / "etc/lvm/lvm.conf"
    text = lvm.read_text()
    # An administrator of storage that several hosts see gives each volume group its host (lvmsystemid(7)).
    changed = text.replace('# system_id_source = "none"', 'system_id_source = "machineid"')
    if changed == text:
        raise RuntimeError("lvm.conf has no system_id_source line to change")
    lvm.write_text(changed)
    for verb, units in (("enable", ENABLED), ("disable", DISABLED), ("mask", MASKED)):
        subprocess.run(["systemctl", f"--root={root}", "--quiet", verb, *units], check=verb != "disable")


def _chroot(root: Path, *argv: str) -> None:
    subprocess.run(["chroot", str(root), *argv], check=True, stdout=subprocess.DEVNULL)


def _forget_old(image: Path, tree: Path) -> None:
    """Drop images beyond the last few used, with their snapshots, unless a machine runs on them."""
    directory = lab_dir()
    images = sorted(directory.glob("image-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in images[KEPT:]:
        if old != image and not _in_use(old):
            shutil.rmtree(old)
    for old in directory.glob("tree-*"):
        if old != tree and time.time() - old.stat().st_mtime > 86400:
            shutil.rmtree(old)


def _in_use(image: Path) -> bool:
    return any(
        (vm / "image").exists() and (vm / "image").resolve() == image for vm in (lab_dir() / "vms").glob("*")
    )
