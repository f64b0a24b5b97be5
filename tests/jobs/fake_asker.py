"""A helper that looks into image files, as a thread, and what it is told to say."""

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.copying import asking
from p2vd.copying.asking import Answer, AskRequest
from p2vd.system.descriptors import SeqpacketChannel


class FakeChild:
    """What is asked of a child."""

    pid = 0

    def __init__(self) -> None:
        self.status: int | None = 0

    def poll(self) -> int | None:
        return self.status

    def wait(self, timeout_s: float | None = None) -> int:
        return 0


@dataclass
class FakeAsker:
    """Says of each image what `sizes` says, a size or a problem; it ends at one of which it says nothing.

    Before the first word it waits for the gate: where `hangs` names images, only if it was asked for one.
    """

    sizes: dict[str, int | str | Answer] = field(default_factory=dict)
    hangs: frozenset[str] = frozenset()
    requests: list[AskRequest] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    broken: bool = False
    status: int | None = 0
    """Of the helpers that are started, as soon as they are; None: they run."""
    children: list[FakeChild] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        if self.broken:
            raise OSError(12, "Cannot allocate memory")
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        self.children.append(FakeChild())
        self.children[-1].status = self.status
        threading.Thread(target=self._run, args=(channel,), daemon=True).start()
        self.started.release()
        return self.children[-1]

    def _run(self, channel: SeqpacketChannel) -> None:
        with channel, contextlib.suppress(BrokenPipeError):  # nobody waited for it
            packet = channel.receive()
            assert packet is not None
            request = asking.decode_request(packet[0])
            self.requests.append(request)
            if not self.hangs or self.hangs & {image.path for image in request.images}:
                self.gate.wait()
            for image in request.images:
                said = self.sizes.get(image.path)
                if said is None:
                    return
                answer = said if isinstance(said, Answer) else Answer(image.path, problem=str(said))
                channel.send(asking.encode(Answer(image.path, said) if isinstance(said, int) else answer))
