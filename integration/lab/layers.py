"""The snapshots, each made once per recipe from the one below it: booted, SAN up, p2vd installed."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from integration.lab import image as images
from integration.lab.recipe import PROJECT, base_key, lab_dir, p2vd_key, project_files, san_key
from integration.lab.vm import Vm

LUNS = ("boot1:32M", "boot2:24M:4096", "pv1:2G", "pv2:1G:4096")
"""Two LUNs that physical machines boot from, and the two physical volumes of the targets."""

VOLUME_GROUPS = (("vg_san", "pv1", "1200M"), ("vg_san4k", "pv2", "512M"))
"""Each with a thin pool `pool0` of that size, which zeroes new blocks; the rest is for thick volumes."""

KEPT = 4
IN_USE_S = 7200.0


def ensure(layer: str) -> Path:
    """Return the snapshot of a layer ("base", "san", "p2vd"), made when missing."""
    key, below, fill = {
        "base": (base_key, "", _fill_base),
        "san": (san_key, "base", _fill_san),
        "p2vd": (p2vd_key, "san", _fill_p2vd),
    }[layer]
    image = images.ensure()
    parent = ensure(below) if below else None
    snapshot = image / "snapshots" / f"{layer}-{key()}"
    with images.locked(f"layer-{layer}"):
        if not snapshot.exists():
            _make(layer, image, parent, snapshot, fill)
            _forget_old(snapshot)
        os.utime(snapshot)
    return snapshot


def up(name: str, layer: str = "p2vd", *, cache: str = "unsafe", tied: bool = True) -> Vm:
    """Start a machine restored from a layer's snapshot; `cache="writeback"` when its power will be cut."""
    return restore(name, ensure(layer), cache=cache, tied=tied)


def restore(name: str, snapshot: Path, *, cache: str = "unsafe", tied: bool = True) -> Vm:
    """Start a machine from a snapshot that `ensure` returned, whatever has changed in the checkout since."""
    return Vm.start(name, snapshot.parent.parent, snapshot, cache=cache, tied=tied)


def _make(layer: str, image: Path, parent: Path | None, snapshot: Path, fill: Callable[[Vm], None]) -> None:
    print(f"lab: making the snapshot `{layer}`", flush=True)
    started = time.monotonic()
    vm = Vm.start(f"build-{layer}-{os.getpid()}", image, parent, cache="unsafe", freezable=True)
    try:
        fill(vm)
        vm.freeze(snapshot)
    finally:
        vm.down()
    print(f"lab: `{layer}` made in {time.monotonic() - started:.0f} s", flush=True)


def _fill_base(vm: Vm) -> None:
    """Nothing: the machine as it booted."""


def _fill_san(vm: Vm) -> None:
    vm.run(f"lab-san up {' '.join(LUNS)}")
    for group, lun, pool in VOLUME_GROUPS:
        vm.run(f'vgcreate -q -y {group} "$(lab-san device {lun})"')
        vm.run(f"lvcreate -q -y --type thin-pool -Zy -L {pool} -n pool0 {group}")
    vm.run("systemctl start polkit libvirtd && virsh -q version && virsh -q capabilities > /dev/null")
    # What Python must load is read once here: the file cache is part of the snapshot.
    modules = "dbus gi pyudev pyroute2 libvirt cattrs rich xxhash zstandard systemd sqlite3".replace(
        " ", ", "
    )
    vm.run(f"python3 -c 'import {modules}'")


def _fill_p2vd(vm: Vm) -> None:
    vm.push(PROJECT, "/usr/src/p2vd", project_files())
    vm.run("cd /usr/src/p2vd && python3 setup.py -q install_host", timeout_s=600)


def _forget_old(newest: Path) -> None:
    """Drop this layer's snapshots beyond the last few, unless used lately or under a machine."""
    layer = newest.name.split("-")[0]
    siblings = [
        path for path in newest.parent.glob(f"{layer}-*") if path != newest and path.suffix != ".partial"
    ]
    siblings.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    under = {(vm / "snapshot").resolve() for vm in (lab_dir() / "vms").glob("*")}
    for old in siblings[KEPT:]:
        if old.resolve() not in under and time.time() - old.stat().st_mtime > IN_USE_S:
            shutil.rmtree(old)
