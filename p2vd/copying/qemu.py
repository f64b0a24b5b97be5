"""QEMU's own tools around one image file, which they get as an open descriptor.

qemu-nbd serves the image on a Unix socket in a directory of its own, which is removed when all
connections are made; so nobody else can come. It has no privileges and limits on memory, open files and,
reading, on what it may write at all. It ends when the last connection closes, and with this process.
"""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2vd.copying.controls import Interrupted
from p2vd.copying.errors import CopyError
from p2vd.copying.nbd_connection import Connection
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.nbd_pool import Connections
from p2vd.model.forms import SourceFormat
from p2vd.system import sandbox
from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, CommandTimedOut, Result
from p2vd.system.sandbox import Limits, Sandboxed, User

_START_WITHIN_S = 60.0
_START_POLL_S = 0.02
_END_WITHIN_S = 60.0
_QUERY_S = 60.0
_CHECK_S = 3600.0
_HAS_PARENTS = {SourceFormat.QCOW2, SourceFormat.VMDK}
# A reader has nothing to write but what it says on standard error.
READING = Limits(file_bytes=64 << 10)
WRITING = Limits()
Refuse = Callable[[str], CopyError]
"""Makes the error of a problem."""


def node(kind: SourceFormat, fd: int, *, direct: bool) -> dict[str, Any]:
    """The block node of an image on a descriptor, as QEMU's JSON: a given format, and no other file."""
    file = {
        "driver": "file",
        "filename": f"/proc/self/fd/{fd}",
        "cache": {"direct": direct},
        "aio": "threads",
        "discard": "unmap",
    }
    disk: dict[str, Any] = {"driver": kind.value, "file": file, "discard": "unmap"}
    if kind in _HAS_PARENTS:
        disk["backing"] = None
    return disk


def name_of(image: Mapping[str, Any]) -> str:
    """The node as a file name of QEMU's tools."""
    return "json:" + json.dumps(image)


def query(
    words: list[str],
    image: Mapping[str, Any],
    fd: int,
    user: User | None,
    ok: tuple[int, ...] = (0,),
    *,
    limits: Limits = READING,
    ended: Callable[[], bool] = lambda: False,
) -> Result:
    """Run `qemu-img` with some words and the image. Raises CommandFailed, CommandTimedOut.

    One that only reads may be given up: Interrupted once `ended` says so.
    """
    within_s = _CHECK_S if words[0] == "check" else _QUERY_S
    argv = ["qemu-img", *words, name_of(image)]
    try:
        return sandbox.run(argv, [fd], limits, timeout_s=within_s, ok=ok, user=user, ended=ended)
    except sandbox.GivenUp as error:
        raise Interrupted from error


def explained(error: CommandFailed | CommandTimedOut) -> str:
    """Why QEMU refused, without our own command line."""
    if isinstance(error, CommandNotStarted | CommandKilled):
        return f"{error.argv[0]} {error.why}"
    if isinstance(error, CommandTimedOut):
        return f"{error.argv[0]} gave no answer in {error.seconds:g} s"
    if error.returncode == 127:
        return f"{error.argv[0]} cannot be run ({error.stderr}): install qemu-utils"
    return reason(error.stderr) or f"{error.argv[0]} ended with status {error.returncode}"


def reason(said: str) -> str:
    """The last of what QEMU says: before it stand our own words."""
    text = " ".join(said.split())
    return text.rsplit("': ", 1)[-1].removeprefix("qemu-img: ").removeprefix("qemu-nbd: ").rstrip(".")


@dataclass
class ImageServer:
    """A running qemu-nbd, and the sockets that are connected to it."""

    child: Sandboxed
    peers: list[socket.socket]

    def connections(self, speak: Callable[[socket.socket], Connection], refuse: Refuse) -> Connections:
        """Speak NBD on the sockets; those that the server does not want are closed.

        Raises what `refuse` makes of it, if there is none.
        """

        def connect() -> Connection:
            if not self.peers:
                raise Lost("qemu-nbd ended")
            return speak(self.peers.pop(0))

        try:
            connections = Connections(connect, len(self.peers))
        except Lost as error:
            raise self.refusal(error, refuse) from error
        while self.peers:
            self.peers.pop().close()
        return connections

    def refusal(self, error: Lost, refuse: Refuse) -> CopyError:
        """What `refuse` makes of a connection that was lost: it is no server's of somebody else."""
        return refuse(f"QEMU does not serve it: {reason(self.child.said()) or error}.")

    def expect_alive(self) -> None:
        """Raises ProcessLookupError where it ended."""
        if (code := self.child.poll()) is not None:
            raise ProcessLookupError(
                0, f"it ended with status {code}: {self.child.said() or 'it said nothing'}"
            )

    def end(self) -> None:
        """Have it close the image, and wait for that."""
        with contextlib.suppress(TimeoutError):
            self.child.end(_END_WITHIN_S)


def serve(
    image: Mapping[str, Any], fd: int, *, writable: bool, connections: int, user: User | None, refuse: Refuse
) -> ImageServer:
    """Start qemu-nbd with an image and connect to it.

    Raises what `refuse` makes of a failure, and CommandNotStarted, which is none of the image's.
    """
    directory = Path(tempfile.mkdtemp(prefix="p2vd-nbd-"))
    try:
        if user is not None:
            os.chown(directory, user.uid, user.gid)
        path = str(directory / "socket")
        argv = ["qemu-nbd", f"--socket={path}", f"--shared={connections}", "--discard=unmap"]
        argv += [] if writable else ["--read-only"]
        try:
            limits = WRITING if writable else READING
            limits = replace(limits, open_files=limits.open_files + connections)
            child = sandbox.start([*argv, name_of(image)], [fd], limits, user)
        except CommandFailed as error:
            raise refuse(f"{explained(error)}.") from error
        try:
            return ImageServer(child, [_connect(path, child, refuse) for _ in range(connections)])
        except BaseException:
            child.end(_END_WITHIN_S)
            raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _connect(path: str, child: Sandboxed, refuse: Refuse) -> socket.socket:
    """Connect to the child's socket, which appears when it has opened the image."""
    until = time.monotonic() + _START_WITHIN_S
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    while True:
        try:
            peer.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if child.poll() is not None:
                peer.close()
                raise refuse(
                    f"QEMU does not open it: {reason(child.said()) or 'it does not say why'}."
                ) from None
            if time.monotonic() >= until:
                peer.close()
                raise refuse(f"QEMU has not opened it in {_START_WITHIN_S:g} s.") from None
            time.sleep(_START_POLL_S)
        else:
            return peer
