"""What is no answer of a helper or worker ends as an error that says so, and leaves nothing open."""

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from p2vd.copying import verification
from p2vd.copying.opening import OpenReply, OpenRequest, SourceToOpen
from p2vd.copying.protocol import Phase, Start, encode
from p2vd.copying.terms import Binding, TargetTraits
from p2vd.copying.verification import VERSION, VerifyProgress, VerifyStart
from p2vd.discovery.examining import READY, ExamineRequest
from p2vd.jobs import examiner_helper
from p2vd.jobs.session import ProtocolError, WorkerSession, ask_opener
from p2vd.jobs.verify_errors import VerifyFailed
from p2vd.jobs.verify_worker import read_again
from p2vd.model.codec import to_dict
from p2vd.system.descriptors import SeqpacketChannel
from tests.jobs.fake_asker import FakeChild

LONG_S = 10.0
REQUEST = OpenRequest(SourceToOpen("/dev/mapper/x", 4096, 512), source_alone=True)


@dataclass
class Helper:
    """Says one thing, and hands over the end of a pipe whose other end tells whether it is still open."""

    said: dict[str, Any]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        self._read_end, write_end = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(channel, write_end), daemon=True)
        self._thread.start()
        return FakeChild()

    def _run(self, channel: SeqpacketChannel, write_end: int) -> None:
        with channel:
            packet = channel.receive(LONG_S)
            assert packet is not None
            self.asked.append(packet[0])
            channel.send(self.said, [write_end])
            os.close(write_end)

    def nothing_is_open(self) -> bool:
        """Whether all copies of the descriptor are closed."""
        self._thread.join(LONG_S)
        with os.fdopen(self._read_end, "rb") as pipe:
            os.set_blocking(pipe.fileno(), False)
            return pipe.read() == b""


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"ok": "yes"}, r"not a valid OpenReply: ok: 'yes' is no bool"),
        ({}, "ok is missing"),
        ({"ok": True, "error": {"name": "OpenFailed"}}, r"error\.message is missing"),
        ({"ok": False}, "neither"),
    ],
)
def test_an_answer_that_does_not_fit_keeps_no_device_open(said: dict[str, Any], problem: str) -> None:
    """A disk that stays open here would be in use for every later job, until p2vd is restarted."""
    helper = Helper(said)
    with pytest.raises(ProtocolError, match=problem):
        ask_opener(helper.spawn, REQUEST, lambda _: True)
    assert helper.asked == [to_dict(REQUEST)]
    assert helper.nothing_is_open()


def test_an_answer_that_fits_brings_the_device_and_the_paths_that_were_silent() -> None:
    helper = Helper(to_dict(OpenReply(ok=True, silent_paths=("sdb",))))
    opened = ask_opener(helper.spawn, REQUEST, lambda _: True)
    assert opened.silent_paths == ("sdb",)
    (fd,) = opened.descriptors
    os.close(fd)
    assert helper.nothing_is_open()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"type": "progres"}, "unknown message type 'progres'"),
        ({"type": "phase", "phase": 3}, "not a valid Phase: phase: 3 is no str"),
        ({"type": "hello", "version": 9, "pid": 1}, "speaks version 9"),
    ],
)
def test_a_worker_that_says_what_is_not_understood_is_told_of(said: dict[str, Any], problem: str) -> None:
    ours, theirs = SeqpacketChannel.pair()
    with ours, theirs:
        theirs.send(said)
        with pytest.raises(ProtocolError, match=problem):
            WorkerSession(FakeChild(), ours).receive()


class SentAlong:
    """The end of a pipe to send along; its other end tells whether a copy of it is open."""

    def __enter__(self) -> Self:
        self._read_end, self.fd = os.pipe()
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._read_end)

    def expect_closed(self) -> None:
        os.close(self.fd)
        os.set_blocking(self._read_end, False)
        assert os.read(self._read_end, 1) == b""


def start_worker(fds: list[int]) -> None:
    start = Start(1, Binding("job", 1, "source", 4096, 512, "target"), "/nowhere", TargetTraits(4096, 512))
    WorkerSession.start(no_process, start, fds)


def start_verifier(fds: list[int]) -> None:
    start = VerifyStart(VERSION, "job", 1, 4096, 4096, "xxh3:0", "")
    read_again(no_process, "vg/lv", start, fds, threading.Event(), lambda *_: None)


def no_process(argv: Sequence[str], channel_fd: int) -> FakeChild:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.mark.parametrize("start", [start_worker, start_verifier])
@pytest.mark.parametrize("lacks", ["process", "channel"])
def test_where_no_process_can_be_started_no_device_stays_open(
    start: Callable[[list[int]], None], lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the daemon itself has open to itself alone it would meet at every attempt after this one."""

    def no_channel() -> tuple[SeqpacketChannel, SeqpacketChannel]:
        raise OSError(errno.EMFILE, "Too many open files")

    if lacks == "channel":
        monkeypatch.setattr(SeqpacketChannel, "pair", no_channel)
    opened = [os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)]
    with pytest.raises(OSError, match=r"Too many|temporarily"):
        start(opened)
    for fd in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("said", [encode(Phase("copying")), {"type": "progres"}])
def test_what_a_worker_sends_along_is_not_kept_open(said: dict[str, Any]) -> None:
    ours, theirs = SeqpacketChannel.pair()
    with ours, theirs, SentAlong() as along:
        theirs.send(said, [along.fd])
        with contextlib.suppress(ProtocolError):
            WorkerSession(FakeChild(), ours).receive()
        along.expect_closed()


def test_what_one_that_looks_at_disks_sends_along_is_not_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(_: Sequence[str], channel_fd: int, *, also: Sequence[int]) -> FakeChild:
        assert len(also) == 1
        with SeqpacketChannel.from_fd(os.dup(channel_fd)) as channel:
            channel.send(READY, [along.fd])
        return FakeChild()

    monkeypatch.setattr(examiner_helper, "spawn", spawn)
    with SentAlong() as along:
        helper = examiner_helper.ExaminerHelper()
        with pytest.raises(EOFError):
            helper.examine(ExamineRequest("/dev/null", 0, 512), lambda _: True)
        helper.close()
        along.expect_closed()


def test_what_one_that_reads_a_volume_again_sends_along_is_not_kept_open() -> None:
    helper = Helper(verification.encode(VerifyProgress(1)))
    start = VerifyStart(VERSION, "job", 1, 4096, 4096, "xxh3:0", "")
    with pytest.raises(VerifyFailed, match="without a report"):
        read_again(helper.spawn, "vg/lv", start, [], threading.Event(), lambda *_: None)
    assert helper.nothing_is_open()
