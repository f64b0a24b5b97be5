"""A helper that looks into image files, as a thread, and what it is told to say."""

import array
import contextlib
import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.copying import asking
from p2vd.copying.asking import Answer, AskRequest
from p2vd.model.codec import from_dict, to_dict
from p2vd.system.descriptors import SeqpacketChannel

_SIGN_S = 0.05


class FakeChild:
    """What is asked of a child."""

    pid = 0

    def __init__(self, *, runs: bool = False) -> None:
        self.ended = threading.Event()
        if not runs:
            self.ended.set()

    def poll(self) -> int | None:
        return 0 if self.ended.is_set() else None

    def wait(self, timeout_s: float | None = None) -> int:
        if not self.ended.wait(timeout_s):
            raise TimeoutError
        return 0


@dataclass
class FakeAsker:
    """Says of each image what `sizes` says, a size or a problem; it ends at one of which it says nothing.
    Of one that it is to read to its end: what `read` says, if it does.

    Before the first word it waits for the gate: where `hangs` names images, only if it was asked for one.
    `stuck`: it does so in the kernel, and ends no sooner. `reads`: it says meanwhile that it goes on.
    `packet`: what it sends before anything else.
    """

    sizes: dict[str, int | str | Answer] = field(default_factory=dict)
    read: dict[str, int | str | Answer] = field(default_factory=dict)
    hangs: frozenset[str] = frozenset()
    requests: list[AskRequest] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    stuck: bool = False
    reads: bool = False
    packet: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    children: list[FakeChild] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        if self.broken:
            raise OSError(12, "Cannot allocate memory")
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        child = FakeChild(runs=self.stuck)
        self.children.append(child)
        threading.Thread(target=self._run, args=(channel, child), daemon=True).start()
        self.started.release()
        return child

    def _run(self, channel: SeqpacketChannel, child: FakeChild) -> None:
        with channel:
            with contextlib.suppress(BrokenPipeError):  # nobody waited for it
                self._answer(channel)
            child.ended.set()

    def _answer(self, channel: SeqpacketChannel) -> None:
        packet = channel.receive()
        assert packet is not None
        request = from_dict(AskRequest, packet[0])
        self.requests.append(request)
        if not self.hangs or self.hangs & {image.path for image in request.images}:
            while not self.gate.wait(_SIGN_S if self.reads else None):
                channel.send(asking.GOES_ON)
        if self.packet:
            fds = array.array("i", self.descriptors)
            with socket.socket(fileno=os.dup(channel.fileno())) as raw:
                raw.sendmsg([self.packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
        for image in request.images:
            said = (self.sizes | (self.read if image.read_all else {})).get(image.path)
            if said is None:
                return
            answer = said if isinstance(said, Answer) else Answer(image.path, problem=str(said))
            channel.send(to_dict(Answer(image.path, said) if isinstance(said, int) else answer))
