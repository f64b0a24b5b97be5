"""A qcow2 file as the target, written by QEMU's own qemu-nbd, so that it resumes by the usual checkpoint.

The rules, besides those of every target:

- The file is created with O_EXCL, and its id is durable in the checkpoint before qemu-img makes a qcow2 in
  it. As long as the checkpoint knows of no region that was touched, the qcow2 is made anew: a crash
  in between leaves nothing to believe. A touched region is noted durably before the first write into it.
- The barrier is NBD_CMD_FLUSH: QEMU writes its tables, then has the file flushed; then the checkpoint is
  committed. What a checkpoint claims is in the qcow2 after a power cut.
- Before a resumed run, `qemu-img check` must find no errors. A server that was killed leaves clusters that
  nobody counts: these leaks are freed (`-r leaks`), which touches no guest data. Errors refuse the file.
- What this copy never wrote is not allocated and reads as zero, and is skipped. Elsewhere zeros are
  NBD_CMD_WRITE_ZEROES, which may free clusters and reads as zero whatever was there.
- A compressed cluster is written once: QEMU refuses to compress over one that is there, and loses the
  space of one that was compressed. So where anything is, the range is first zeroed, which frees it. Runs
  of data are multiples of 64 KiB, so compressed clusters have 64 KiB at most: each is written whole.
"""

import contextlib
import errno
import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tenacity

from p2vd.copying import qemu
from p2vd.copying.checkpoint import Checkpoint, Header
from p2vd.copying.controls import Controls, Gauge, Interrupted
from p2vd.copying.devices import TargetSink
from p2vd.copying.errors import OpenFailed, PoolFull, TargetLocked, TargetRefused, WriteFailed
from p2vd.copying.forms import Asked, Handed, OpenSource, OpenTarget
from p2vd.copying.image_forms import has_direct_io
from p2vd.copying.layout import SUB_BLOCK
from p2vd.copying.nbd_connection import Connection
from p2vd.copying.nbd_device import NbdTarget
from p2vd.copying.nbd_dialer import over
from p2vd.copying.opened import name_of
from p2vd.copying.store import open_checkpoint
from p2vd.copying.terms import Binding, TargetForm
from p2vd.model.forms import Compression, SourceFormat
from p2vd.model.size import KIB, MIB
from p2vd.system import block, durable
from p2vd.system.command import CommandFailed, CommandNotStarted, CommandTimedOut
from p2vd.system.sandbox import User, run

log = logging.getLogger(__name__)

LEAST_CLUSTER, MOST_CLUSTER = 64 * KIB, 2 * MIB
_SECTOR = 512
_CORRUPT, _LEAKS = 2, 3
_UNLOCKED_WITHIN_S = 30.0
_MAKE_S = 120.0
# QEMU 7.2, block/file-posix.c: what it says to the lock of a process that is no QEMU, and to one that is.
_LOCKED = re.compile(r'Failed to (lock byte|get (shared )?"[^"]+" lock)')


def size_of(source_bytes: int, form: TargetForm) -> int:
    """The size of the disk in the qcow2, in bytes: whole sectors, or whole clusters that are compressed."""
    unit = _SECTOR if form.compression is Compression.NONE else form.cluster_bytes
    return -(-source_bytes // unit) * unit


def check_form(form: TargetForm, name: str) -> None:
    """See that QEMU can make such clusters. Raises TargetRefused."""
    size = form.cluster_bytes
    most = MOST_CLUSTER if form.compression is Compression.NONE else SUB_BLOCK
    if size & (size - 1) or not LEAST_CLUSTER <= size <= most:
        which = "compressed clusters have 64 KiB" if most == SUB_BLOCK else "clusters have 64 KiB to 2 MiB"
        raise TargetRefused(name, f"{which}, a power of two, not {size} bytes.")


def open_target(asked: Asked, source: OpenSource) -> OpenTarget:
    """Create the qcow2 that the command line names, or go on with it.

    Raises TargetRefused, OpenFailed, and what opening the checkpoint raises.
    """
    path, form, begun = asked.target, asked.target_form, asked.checkpoint.exists()
    check_form(form, str(path))
    if not begun and os.path.lexists(path):
        raise TargetRefused(
            str(path), "it exists, and this checkpoint's copy did not make it. Name a new file."
        )
    size = size_of(source.endpoint.size_bytes, form)
    place = path.parent.resolve() / path.name
    kind = f"qcow2, clusters of {form.cluster_bytes}, compression {form.compression.value}"
    origin = source.endpoint
    binding = Binding("p2vd-copy", 1, origin.id, origin.size_bytes, origin.sector_size, f"{place} ({kind})")
    # The checkpoint first: it proves at the next run that a file found there is ours.
    checkpoint = open_checkpoint(asked.checkpoint, Header(binding, size, asked.digest), any_pass=True)
    with contextlib.ExitStack() as undone:
        undone.callback(checkpoint.close)
        fd = _open(str(path), checkpoint.header.target_file, begun=begun)
        undone.callback(os.close, fd)
        if not checkpoint.header.target_file:
            durable.sync_directory(path.parent)
            checkpoint.commit(target_file=block.file_id(fd))
        making = _Making(fd, str(path), form, size, checkpoint, asked.threads, None, asked.ended)
        sink, close = making.serve()(asked.controls, asked.gauge)
        undone.pop_all()
        return OpenTarget(sink, checkpoint, close)


def handed_target(handed: Handed) -> Callable[[], TargetSink]:
    """Make or check the qcow2 and start its server; what is returned speaks to it. Raises TargetRefused."""
    start, checkpoint = handed.start, handed.checkpoint
    if checkpoint is None:
        raise ValueError("a qcow2 needs its checkpoint to be open")
    name = name_of(handed.fd)
    check_form(start.target_form, name)
    size = start.target.size_bytes
    if size != size_of(size, start.target_form):
        raise TargetRefused(name, f"a qcow2 of that form cannot hold a disk of {size} bytes.")
    user = None
    if os.geteuid() == 0:
        user = User(start.worker_uid, start.worker_gid)
        try:
            os.fchown(handed.fd, user.uid, user.gid)
        except OSError as error:  # NFS that makes root nobody
            raise OpenFailed(name, f"it cannot be given to uid {user.uid}: {error.strerror}") from error
    making = _Making(
        handed.fd, name, start.target_form, size, checkpoint, start.queue_depth, user, handed.ended
    )
    speak = making.serve()
    return lambda: speak(handed.controls, handed.gauge)[0]


def _open(path: str, known: str, *, begun: bool) -> int:
    """The file of this copy, created where there is none yet."""
    access = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        if known:
            fd = os.open(path, access)
            if block.file_id(fd) != known:
                os.close(fd)
                raise TargetRefused(path, "it is another file than the one that this copy created.")
            return fd
        try:
            return os.open(path, access | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            fd = os.open(path, access)
            if begun and os.fstat(fd).st_size == 0:  # an earlier run was killed right after it
                return fd
            os.close(fd)
            raise TargetRefused(
                path, "it exists, and this checkpoint's copy did not make it. Name a new file."
            ) from None
    except OSError as error:
        raise OpenFailed(path, error.strerror or str(error)) from error


@dataclass
class _Making:
    """From an open file to a qcow2 that is served."""

    fd: int
    name: str
    form: TargetForm
    size: int
    checkpoint: Checkpoint
    threads: int
    user: User | None
    ended: Callable[[], bool]

    def serve(self) -> Callable[[Controls, Gauge], tuple[NbdTarget, Callable[[], None]]]:
        """Make or check the image and start its server."""
        if self.checkpoint.complete or self.checkpoint.begun or self.checkpoint.stale:
            self._check()
        else:
            self._make()
        image = self._node(direct=has_direct_io(self.fd, os.O_RDWR))
        if self.form.compression is not Compression.NONE:
            image = {"driver": "compress", "file": image, "discard": "unmap"}
        server = qemu.serve(
            image, self.fd, writable=True, connections=self.threads, user=self.user, refuse=self._refuse
        )

        def speak(controls: Controls, gauge: Gauge) -> tuple[NbdTarget, Callable[[], None]]:
            def begin(peer: socket.socket) -> Connection:
                connection = over(peer, "", controls.ended.is_set)
                connection.see_through()
                return connection

            connections = server.connections(begin, self._refuse)
            sink = NbdTarget(
                connections,
                self.name,
                gauge,
                controls,
                reading="read-back",
                cluster_bytes=self.form.cluster_bytes,
                once=self.form.compression is not Compression.NONE,
                admit=controls.admit,
                alive=server.expect_alive,
            )
            if sink.size_bytes != self.size:
                raise self._refuse(f"its disk has {sink.size_bytes} bytes, not {self.size}.")

            def close() -> None:
                sink.close()
                server.end()

            return sink, close

        return speak

    def _make(self) -> None:
        options = f"compat=1.1,cluster_size={self.form.cluster_bytes},lazy_refcounts=off,preallocation=off"
        if self.form.compression is not Compression.NONE:
            options += f",compression_type={self.form.compression.value}"
        place = f"/proc/self/fd/{self.fd}"
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, place, str(self.size)]
        try:
            run(argv, [self.fd], qemu.WRITING, timeout_s=_MAKE_S, user=self.user)
        except CommandNotStarted:  # no fault of the image's
            raise
        except (CommandFailed, CommandTimedOut) as error:
            raise self._refuse(f"QEMU does not make it: {qemu.explained(error)}.") from error
        self._sync()

    def _check(self) -> None:
        """Refuse a damaged image; free what a server that was killed has leaked."""
        try:
            found = tenacity.Retrying(
                # A server of the run before may still close the image, which holds its lock.
                retry=tenacity.retry_if_exception(_is_locked),
                stop=tenacity.stop_after_delay(_UNLOCKED_WITHIN_S),
                wait=tenacity.wait_fixed(0.5),
                sleep=self._sleep,
                reraise=True,
            )(self._query)
            if found.get("corruptions") or found.get("check-errors"):
                raise self._refuse(
                    "qemu-img check finds errors in it. Remove it and its checkpoint and begin again."
                )
            if leaks := found.get("leaks", 0):
                log.warning("%s: %d clusters that a killed QEMU left are freed", self.name, leaks)
                self._query("-r", "leaks", may_end=False)  # it writes
                self._sync()
        except CommandNotStarted:  # no fault of the image's
            raise
        except (CommandFailed, CommandTimedOut) as error:
            raise self._refuse(f"QEMU does not check it: {qemu.explained(error)}.") from error

    def _sync(self) -> None:
        """Raises WriteFailed, PoolFull."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            kind = PoolFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else WriteFailed
            raise kind(self.name, 0, 0, f"flush: {error.strerror}") from error

    def _sleep(self, seconds: float) -> None:
        if self.ended():
            raise Interrupted
        time.sleep(seconds)

    def _query(self, *words: str, may_end: bool = True) -> dict[str, Any]:
        answer = qemu.query(
            ["check", "--output=json", *words],
            self._node(direct=False),
            self.fd,
            self.user,
            ok=(0, _CORRUPT, _LEAKS),
            limits=qemu.WRITING,
            ended=self.ended if may_end else lambda: False,
        )
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def _node(self, *, direct: bool) -> dict[str, Any]:
        return qemu.node(SourceFormat.QCOW2, self.fd, direct=direct)

    def _refuse(self, problem: str) -> TargetRefused | TargetLocked:
        return TargetLocked(self.name) if _LOCKED.search(problem) else TargetRefused(self.name, problem)


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, CommandFailed) and bool(_LOCKED.search(error.stderr))
