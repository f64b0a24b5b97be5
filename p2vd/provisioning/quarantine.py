"""Markers that keep the host's own rules away from a guest's disks (design: §4.11).

A marker is an empty file; units/59-p2vd-quarantine.rules and units/62-p2vd-quarantine-disks.rules
look for it at every event of udev. It outlives the daemon and the host's boot, and stays after the
job: the LV then holds a guest's disk for good.

    DM_UUID         a multipath map (mpath-WWID) with its paths, or an LV (LVM-...)
    disk-KEY        a disk without device-mapper: its ID_SERIAL, or ID_PATH where it has none
    unknown-maps    every multipath map, seen or not, but for host/DM_UUID
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from p2vd.model.disk import Source, Transport
from p2vd.model.lvm import Lv, Vg
from p2vd.provisioning.errors import MarkerUnwritable
from p2vd.system.durable import sync_directory

log = logging.getLogger(__name__)

DIRECTORY = Path("/etc/p2vd/quarantine.d")

_UNKNOWN_MAPS = "unknown-maps"
_HOST = "host"
_DM_PREFIXES = ("mpath-", "LVM-")

# What udev's string_escape=replace does not leave in a value (systemd: udev_replace_chars). It takes
# UTF-8 and the start of an escaped byte, \x, for good.
_UNSAFE = re.compile(r"(\\x)|[^A-Za-z0-9#+\-.:=@_\u0080-\U0010ffff]")


def marker_name(key: str) -> str:
    """Return the marker's file name for a DM UUID, or for an ID_SERIAL, ID_WWN or ID_PATH.

    Raises ValueError for an empty key: its marker would be the directory itself.
    """
    if not key.strip():
        raise ValueError("a device without identity cannot be quarantined")
    name = _UNSAFE.sub(lambda match: match.group(1) or "_", key.rstrip())
    return name if name.startswith(_DM_PREFIXES) else f"disk-{name}"


def source_keys(source: Source) -> tuple[str, ...]:
    """Return what udev may know the source by; none for what udev does not assemble from (a loop)."""
    if source.dm_uuid:
        return (source.dm_uuid,)
    if source.transport is Transport.LOOP:
        return ()
    if source.transport is Transport.VIRTIO:
        return (source.serial,) if source.serial else ()
    if not source.wwid:
        return ()
    # A SCSI disk's WWID is its ID_SERIAL, but for ATA: there ID_SERIAL is model and serial number, as
    # in a t10 WWID, and a NAA WWID without its type digit is ID_WWN_WITH_EXTENSION.
    if source.wwid.startswith("1ATA_"):
        return (source.wwid.removeprefix("1ATA_"),)
    by_name = (f"0x{source.wwid[1:]}",) if re.fullmatch(r"3[0-9a-f]{16,32}", source.wwid) else ()
    return (source.wwid, *by_name)


class Quarantine:
    """The markers. Thread-safe: each is a file of its own, and repeating a step changes nothing.

    A device that is already there gets an event, so that udev takes its links to the guest's
    filesystems away; what was assembled or activated from it before stays: a plan refuses such
    a source. Methods raise MarkerUnwritable.
    """

    def __init__(self, directory: Path = DIRECTORY, sysfs: Path = Path("/sys")) -> None:
        self._directory = directory
        self._sysfs = sysfs

    def add(self, key: str) -> bool:
        """Quarantine a device by its DM UUID or ID_SERIAL; False where it already was."""
        return self._create(self._directory / marker_name(key))

    def remove(self, key: str) -> bool:
        """End a device's quarantine; the next event of udev shows it again. False where there was none."""
        return self._unlink(self._directory / marker_name(key))

    def add_source(self, source: Source) -> None:
        """Quarantine a source: its map and paths, or the disk with its partitions."""
        self.add_sources([source])

    def add_sources(self, sources: Iterable[Source]) -> None:
        """Quarantine sources. All markers are written before udev hears of any of them."""
        new = [source for source in sources if True in {self._make(key) for key in source_keys(source)}]
        if new:
            with _told(self._directory):
                sync_directory(self._directory)
        for device in (device for source in new for device in _devices(source)):
            self._announce(device)

    def _make(self, key: str) -> bool:
        """Write a device's marker, not yet durable; False where it was there."""
        return self._create(self._directory / marker_name(key), sync=False)

    def remove_source(self, source: Source) -> None:
        """End a source's quarantine."""
        self._each(self.remove, source_keys(source), _devices(source))

    def add_lv(self, vg: Vg, lv: Lv) -> None:
        """Quarantine an LV, for as long as it exists."""
        self._each(self.add, (vg.dm_uuid(lv),), self._by_dm_uuid(vg.dm_uuid(lv)))

    def remove_lv(self, vg: Vg, lv: Lv) -> None:
        """Forget an LV that was removed."""
        self._each(self.remove, (vg.dm_uuid(lv),), ())

    def keeps_unknown(self) -> bool:
        """Whether every map that is not the host's own is quarantined."""
        return (self._directory / _UNKNOWN_MAPS).exists()

    def quarantine_unknown(self, host_maps: Collection[str]) -> None:
        """Quarantine every multipath map but those of the host itself, by DM UUID.

        The host's own are written first: a map is never taken from the host in between. Those named
        before stay: a LUN of the host that is away for a while is still the host's when it is back.
        """
        for uuid in sorted(host_maps):
            self._create(self._directory / _HOST / marker_name(uuid))
        self._create(self._directory / _UNKNOWN_MAPS)

    def release_unknown(self) -> None:
        """Quarantine only what has a marker of its own."""
        self._unlink(self._directory / _UNKNOWN_MAPS)

    def _each(self, step: Callable[[str], bool], keys: Iterable[str], devices: Iterable[str]) -> None:
        changed = {step(key) for key in keys}
        if True in changed:
            for device in devices:
                self._announce(device)

    def _create(self, path: Path, *, sync: bool = True) -> bool:
        with _told(path):
            if path.exists():
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            # An empty file has nothing that could be torn: it is there or not.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            if sync:
                sync_directory(path.parent)
            return True

    def _unlink(self, path: Path) -> bool:
        with _told(path):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            sync_directory(path.parent)
            return True

    def _announce(self, device: str) -> None:
        """Have udev look at a device and its partitions again; one that is gone needs none."""
        block = self._sysfs / "class/block" / device
        try:
            partitions = sorted(name for name in os.listdir(block) if name.startswith(device))  # noqa: PTH208
        except OSError:  # it is gone: writing to it says so
            partitions = []
        for directory in (block, *(block / name for name in partitions)):
            try:
                with (directory / "uevent").open("w") as file:
                    file.write("change")
            except OSError as error:
                log.info("%s got no event: %s", directory.name, error)

    def _by_dm_uuid(self, dm_uuid: str) -> Iterable[str]:
        for path in self._sysfs.glob("class/block/dm-*/dm/uuid"):
            with contextlib.suppress(OSError):  # a map may go while we look
                if path.read_text().strip() == dm_uuid:
                    yield path.parent.parent.name


def _devices(source: Source) -> tuple[str, ...]:
    paths = tuple(path.device for path in source.paths if path.device != source.device)
    return (source.device, *paths)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MarkerUnwritable(str(path), str(error)) from error
