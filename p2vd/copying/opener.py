"""The disposable helper: proves who two devices are, opens them, hands them over, ends.

`python -m p2vd.copying.opener --channel FD`. Everything that can hang on a sick disk happens here,
in a process the daemon can do without. It speaks once, as `opening` says.
"""

import argparse
import errno
import logging
import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2vd.copying.emptiness import check_empty
from p2vd.copying.errors import OpenFailed
from p2vd.copying.identity import check_identity
from p2vd.copying.opening import OpenError, OpenReply, OpenRequest, SourceToOpen, TargetToOpen
from p2vd.copying.reservation import check_reservation
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import DeviceAbsent, DeviceInUse, IdentityChanged, P2vdError
from p2vd.model.inquiry import clean_inquiry
from p2vd.system import block
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.command import CommandFailed, Commands, CommandTimedOut, SystemCommands
from p2vd.system.descriptors import SeqpacketChannel, close_all

log = logging.getLogger(__name__)

_SCSI_ID = "/lib/udev/scsi_id"
_NVME = "nvme"
_PATIENCE_S = 5.0
_PAUSE_S = 0.25
_ABSENT = {errno.ENOENT, errno.ENXIO, errno.ENODEV}


@dataclass
class Opener:
    """Opens the devices of a request.

    `proc` is where mounts are looked up for a refusal's sentence, `sysfs` where disks without paths are
    asked who they are.
    """

    commands: Commands
    proc: Path = Path("/proc")
    sysfs: Path = block.SYSFS
    clock: Clock = field(default_factory=SystemClock)
    _never: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: OpenRequest) -> tuple[OpenReply, list[int]]:
        """Return the reply and the descriptors that go with it; refusals are replies."""
        fds: list[int] = []
        source, target, allowed = request.source, request.target, request.previous_open_count
        silent: tuple[str, ...] = ()
        try:
            if source is not None:
                silent = self.check_wwid(source)
                self.check_identity(source)
                self.check_reservation(source, silent)
            if target is not None:
                silent += self.check_target(target)
            if source is not None and (target is not None or request.source_alone):
                fds.append(self.open_patiently(source, os.O_RDONLY, "source", allowed))
            if target is not None:
                fds.append(self.open_patiently(target, os.O_RDWR, "target", allowed))
                if target.must_be_empty:
                    check_empty(self.commands, self.clock, fds[-1], target.devnode)
        except P2vdError as error:
            close_all(fds)
            return OpenReply(ok=False, error=OpenError(error.name, str(error))), []
        return OpenReply(ok=True, silent_paths=silent), fds

    def check_target(self, target: TargetToOpen) -> tuple[str, ...]:
        """Ask every path of a whole LUN who it is, and who has reserved it; return those that are silent.

        Raises as the source's checks.
        """
        silent: tuple[str, ...] = ()
        if target.wwid:
            silent = self.check_wwid(target)
            self.check_reservation(target, silent)
        return silent

    def check_wwid(self, source: SourceToOpen | TargetToOpen) -> tuple[str, ...]:
        """Read the WWID from every path by INQUIRY (sysfs caches it). Return paths that did not answer.

        Raises IdentityChanged, and DeviceAbsent where no path answers.
        """
        silent = []
        for name in source.path_devices if source.wwid else ():
            try:
                wwid = clean_inquiry(self._path_wwid(name))
            except (CommandFailed, CommandTimedOut, OSError):
                silent.append(name)
                continue
            if wwid != clean_inquiry(source.wwid):
                raise IdentityChanged(f"/dev/{name}", "WWID", source.wwid, wwid or "empty")
        if silent and len(silent) == len(source.path_devices):
            raise DeviceAbsent(source.devnode, f"No path ({', '.join(silent)}) of the source answers:")
        return tuple(silent)

    def _path_wwid(self, name: str) -> str:
        if name.startswith(_NVME):  # not SCSI; the kernel itself asks again, and drops what became another
            return (self.sysfs / "class/block" / name / "wwid").read_text()
        return self.commands.query([_SCSI_ID, "-g", "-u", "-d", f"/dev/{name}"], timeout_s=15).stdout

    def check_identity(self, source: SourceToOpen) -> None:
        """Read what names a source without WWID. Raises IdentityChanged, DeviceAbsent, OpenFailed."""
        if not source.id or source.path_devices:
            return
        fd = self._open(source.devnode, os.O_PATH, "source")
        try:
            self._check_identity(source, fd)
        finally:
            os.close(fd)

    def _check_identity(self, source: SourceToOpen, fd: int) -> None:
        try:
            check_identity(self.commands, source, fd, self.sysfs)
        except OSError as error:
            raise OpenFailed(source.devnode, error.strerror or str(error)) from error

    def check_reservation(self, source: SourceToOpen | TargetToOpen, silent: Sequence[str] = ()) -> None:
        """See that no host has reserved a LUN, by its paths but the silent ones. Raises as `reservation`."""
        scsi = (path for path in source.path_devices if not path.startswith(_NVME) and path not in silent)
        check_reservation(self.commands, source.devnode, source.wwid, scsi)

    def open_patiently(
        self, device: SourceToOpen | TargetToOpen, access: int, what: str, allowed: int = 0
    ) -> int:
        """As `open`, but wait some seconds for somebody else's short use to end."""
        # udev's probers have a device open for moments after it appeared or was last closed.
        deadline = self.clock.monotonic() + _PATIENCE_S
        while True:
            try:
                return self.open(device, access, what, allowed)
            except DeviceInUse:
                if self.clock.monotonic() >= deadline:
                    raise
                self.clock.sleep(_PAUSE_S, self._never)

    def open(self, device: SourceToOpen | TargetToOpen, access: int, what: str, allowed: int) -> int:
        """Open one device exclusively and check on the descriptor that it is the one that is meant."""
        image = device.image
        before = self._open_count(device)
        if before > allowed:
            raise DeviceInUse(device.devnode, self._users(device.devnode))
        fd = self._open(device.devnode, access | (os.O_NOFOLLOW if image else os.O_EXCL), what)
        try:
            self._check(fd, device)
            # Ours is the one more: anybody else who came in between would show here.
            if before >= 0 and (after := self._open_count(device)) != before + 1:
                raise DeviceInUse(device.devnode, f"{self._users(device.devnode)} (open count {after})")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open(self, devnode: str, access: int, what: str) -> int:
        direct = 0 if access & os.O_PATH else os.O_DIRECT
        try:
            return os.open(devnode, access | direct | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EINVAL and not access & os.O_EXCL:
                # Only an image is opened so; its filesystem has no direct I/O.
                log.warning("%s: its filesystem has no direct I/O", devnode)
                return os.open(devnode, access | os.O_CLOEXEC)
            if error.errno in _ABSENT:
                raise DeviceAbsent(devnode, f"The {what}") from error
            if error.errno == errno.EBUSY:
                raise DeviceInUse(devnode, self._users(devnode)) from error
            raise OpenFailed(
                devnode, f"{error.strerror} ({errno.errorcode.get(error.errno or 0)})"
            ) from error

    def _check(self, fd: int, device: SourceToOpen | TargetToOpen) -> None:
        image = device.image
        if block.is_block(fd) is image:
            kind = "a file", "a block device"
            raise IdentityChanged(device.devnode, "kind", kind[not image], kind[image])
        try:
            size, sector, uuid = block.size_bytes(fd), block.sector_size(fd), block.dm_uuid(fd)
        except OSError as error:
            raise OpenFailed(device.devnode, error.strerror or str(error)) from error
        if image:
            uuid, sector = device.dm_uuid, device.sector_size
        if uuid != device.dm_uuid:
            raise IdentityChanged(device.devnode, "device-mapper UUID", device.dm_uuid, uuid or "none")
        if device.size_bytes and size != device.size_bytes:
            raise IdentityChanged(device.devnode, "size in bytes", str(device.size_bytes), str(size))
        if isinstance(device, TargetToOpen) and size < device.min_size_bytes:
            raise IdentityChanged(
                device.devnode, "size in bytes", f"at least {device.min_size_bytes}", str(size)
            )
        if sector != device.sector_size:
            raise IdentityChanged(device.devnode, "sector size", str(device.sector_size), str(sector))
        if isinstance(device, SourceToOpen) and device.id and not device.path_devices:
            self._check_identity(device, fd)
        if (
            isinstance(device, TargetToOpen)
            and device.image
            and (found := block.file_id(fd)) != device.file_id
        ):
            raise IdentityChanged(device.devnode, "file", device.file_id, found)
        if image and not device.locked_by_user:
            self._hold(fd, device.devnode, alone=isinstance(device, TargetToOpen))

    def _hold(self, fd: int, path: str, *, alone: bool) -> None:
        try:
            if not block.hold_file(fd, alone=alone):
                raise DeviceInUse(
                    path, "a process that has locked it, as QEMU locks a running machine's image"
                )
        except OSError as error:
            log.warning("%s cannot be locked (%s): writers would not be noticed", path, error.strerror)

    def _open_count(self, device: SourceToOpen | TargetToOpen) -> int:
        """How often the dm device is open now; -1: not a device-mapper device."""
        if not device.dm_uuid:
            return -1
        uuid = ["-u", device.dm_uuid]
        try:
            answer = self.commands.query(["dmsetup", "info", "-c", "--noheadings", "-o", "open", *uuid])
        except CommandFailed as error:
            raise DeviceAbsent(device.devnode, f"The device-mapper device {device.dm_uuid}") from error
        count = answer.stdout.strip()
        if not count.isdigit():
            raise OpenFailed(device.devnode, f"dmsetup does not tell its open count, but {count!r}")
        return int(count)

    def _users(self, devnode: str) -> str:
        """Who has it, as far as one can tell: mounts, then devices upon it, then nobody by name."""
        try:
            status = Path(devnode).stat()
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            if not stat.S_ISBLK(status.st_mode):
                return "another process"
            mountinfo = (self.proc / "1/mountinfo").read_text()
            if points := block.mounts(frozenset({number}), mountinfo):
                return "the filesystem mounted at " + ", ".join(points)
            if names := block.holders_of(number):
                return "the device " + ", ".join(names)
        except OSError as error:
            return f"somebody ({error})"
        return "another process"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one request on the inherited channel."""
    parser = argparse.ArgumentParser(prog="p2vd-copy-opener", description=__doc__)
    parser.add_argument("--channel", type=int, required=True)
    with SeqpacketChannel.from_fd(parser.parse_args(arguments).channel) as channel:
        packet = channel.receive()
        if packet is None:
            return 1
        request = from_dict(OpenRequest, packet[0])
        reply, fds = Opener(SystemCommands()).answer(request)
        try:
            channel.send(to_dict(reply), fds)
        except BrokenPipeError:
            return 1  # the daemon did not wait for us: the exclusive opens end with this process
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
