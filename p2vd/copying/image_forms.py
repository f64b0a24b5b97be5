"""Images of virtual machines as sources: qcow2, vmdk, vhdx, vdi and vpc files, read through QEMU's tools.

The form is said, never guessed. The header is looked at here first, then by `qemu-img info` and `check`:
an image that is cut off, damaged, or made of more than one file is refused before a byte is copied.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from p2vd.copying import image_headers, qemu
from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Source
from p2vd.copying.endpoints import Endpoint, file_id
from p2vd.copying.errors import OpenFailed, SourceRefused
from p2vd.copying.forms import Asked, Handed, OpenSource
from p2vd.copying.nbd_device import NbdDevice
from p2vd.copying.nbd_dialer import over
from p2vd.copying.opened import name_of
from p2vd.copying.qemu import ImageServer
from p2vd.model.forms import SourceFormat
from p2vd.system import block
from p2vd.system.command import CommandFailed, CommandNotStarted, CommandTimedOut
from p2vd.system.sandbox import User

_SECTOR = 512
# qemu-img(1), "check": errors, leaks, and a format that has no check.
_CORRUPT, _LEAKS, _NO_CHECK = 2, 3, 63


def open_source(asked: Asked) -> OpenSource:
    """Open the image that the command line names. Raises OpenFailed, SourceRefused, Interrupted."""
    path = Path(asked.source)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise OpenFailed(str(path), error.strerror or str(error)) from error
    kind = asked.source_form.format
    server, size = _serve(fd, str(path), kind, asked.threads, _owner(fd), asked.ended)
    device = _device(server, str(path), size, asked.controls, asked.gauge)

    def close() -> None:
        device.close()
        server.end()

    identity = f"{path.resolve()} {file_id(fd)} {kind.value}"
    return OpenSource(Endpoint(fd, identity, size, _SECTOR), device, close)


def handed_source(handed: Handed) -> Callable[[], Source]:
    """Start the image's server; what is returned speaks to it.

    Raises SourceRefused, OpenFailed, Interrupted.
    """
    try:
        block.set_direct(handed.fd, False)  # headers are looked at wherever they are; QEMU opens it anew
    except OSError as error:
        raise OpenFailed(name_of(handed.fd), error.strerror or str(error)) from error
    start, path = handed.start, name_of(handed.fd)
    user = User(start.worker_uid, start.worker_gid) if os.geteuid() == 0 else None
    server, size = _serve(handed.fd, path, start.source_form.format, start.queue_depth, user, handed.ended)
    return lambda: _device(server, path, size, handed.controls, handed.gauge)


def disk_size(
    fd: int,
    path: str,
    kind: SourceFormat,
    user: User | None = None,
    ended: Callable[[], bool] = lambda: False,
    *,
    thorough: bool = True,
) -> int:
    """Look at an image and return the size of the disk in it, in bytes.

    Raises SourceRefused, CommandNotStarted, Interrupted.

    `thorough`: have QEMU check all of its tables, too, which takes long for a large image on a slow store.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SourceRefused(path, f"--source-format {kind.value} is for files.")
    try:
        size = os.fstat(fd).st_size
        image_headers.check(kind, lambda at, length: os.pread(fd, length, at) if at < size else b"", size)
    except ValueError as error:
        raise SourceRefused(path, f"{error}.") from error
    image = qemu.node(kind, fd, direct=False)
    try:
        told = json.loads(qemu.query(["info", "--output=json"], image, fd, user).stdout)
        ok = (0, _CORRUPT, _LEAKS, _NO_CHECK)
        words = ["check", "--output=json"]
        checked = qemu.query(words, image, fd, user, ok, ended=ended) if thorough else None
    except CommandNotStarted:  # no fault of the image's
        raise
    except (CommandFailed, CommandTimedOut) as error:
        raise _refusal(path)(f"QEMU does not read it: {qemu.explained(error)}.") from error
    if checked is not None and checked.returncode == _CORRUPT:
        raise SourceRefused(path, f"it is damaged: {_damage(checked.stderr)}.")
    details = told.get("format-specific", {}).get("data", {})
    if others := [name for name in (told.get("backing-filename"), details.get("data-file")) if name]:
        raise SourceRefused(path, f"a part of it is in another file ({others[0]!r}).")
    return int(told["virtual-size"])


def _serve(
    fd: int, path: str, kind: SourceFormat, threads: int, user: User | None, ended: Callable[[], bool]
) -> tuple[ImageServer, int]:
    size = disk_size(fd, path, kind, user, ended)
    image = qemu.node(kind, fd, direct=has_direct_io(fd, os.O_RDONLY))
    server = qemu.serve(image, fd, writable=False, connections=threads, user=user, refuse=_refusal(path))
    return server, size


def _device(server: ImageServer, path: str, size: int, controls: Controls, gauge: Gauge) -> NbdDevice:
    connections = server.connections(lambda peer: over(peer, "", controls.ended.is_set), _refusal(path))
    device = NbdDevice(connections, path, gauge, controls, served_by="qemu-nbd")
    if device.size_bytes != size:
        raise SourceRefused(path, f"its disk has {size} bytes, and QEMU serves {device.size_bytes}.")
    return device


def has_direct_io(fd: int, access: int) -> bool:
    """Whether the filesystem of an open file has direct I/O."""
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", access | os.O_DIRECT | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _owner(fd: int) -> User | None:
    """Whom root lets read an image: its owner, where that is not root itself."""
    status = os.fstat(fd)
    return User(status.st_uid, status.st_gid) if os.geteuid() == 0 and status.st_uid else None


def _refusal(path: str) -> Callable[[str], SourceRefused]:
    def refuse(problem: str) -> SourceRefused:
        if "Permission denied" in problem:
            problem += " It is read without privileges: let the user of the copy read the file (setfacl -m)."
        return SourceRefused(path, problem)

    return refuse


def _damage(said: str) -> str:
    lines = [line.removeprefix("ERROR ") for line in said.splitlines() if line.startswith("ERROR")]
    if not lines:
        return "qemu-img check finds errors in it"
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    return f"qemu-img check says: {lines[0].strip()}{more}"
