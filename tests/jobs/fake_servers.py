"""A helper that asks NBD servers, as a thread, and what it is told to say."""

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.copying.nbd_asking import ExportAnswer, ExportsRequest
from p2vd.model.codec import from_dict, to_dict
from p2vd.system.descriptors import SeqpacketChannel
from tests.jobs.fake_asker import FakeChild


@dataclass
class FakeServers:
    """Says of each export, by URI, what `answers` says; one of which it says nothing ends it.

    Those in `hangs` are silent until `say` has the helper that was asked first say something. `running`: how
    many helpers there are; `most`: how many there were at once.
    """

    answers: dict[str, ExportAnswer] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    requests: list[ExportsRequest] = field(default_factory=list)
    broken: bool = False
    children: list[FakeChild] = field(default_factory=list)
    running: int = 0
    most: int = 0
    silent: list[tuple[str, SeqpacketChannel]] = field(default_factory=list)
    heard: threading.Condition = field(default_factory=threading.Condition)

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        if self.broken:
            raise OSError(12, "Cannot allocate memory")
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        with self.heard:
            self.running += 1
            self.most = max(self.most, self.running)
            child = FakeChild()
            self.children.append(child)
        threading.Thread(target=self._run, args=(channel,), daemon=True).start()
        return child

    def say(self, answer: ExportAnswer) -> None:
        """Answer the oldest question of a server that hangs."""
        with self.heard:
            found = next(each for each in self.silent if each[0] == answer.uri)
            self.silent.remove(found)
        found[1].send(to_dict(answer))

    def until_asked(self, uri: str, times: int, within_s: float) -> None:
        """Wait until helpers were asked for it so often."""
        with self.heard:
            assert self.heard.wait_for(lambda: self.count(uri) >= times, within_s)

    def until_none(self, within_s: float) -> None:
        """Wait until no helper runs."""
        with self.heard:
            assert self.heard.wait_for(lambda: self.running == 0, within_s)

    def count(self, uri: str) -> int:
        """How often helpers were asked for it."""
        return sum(uri in asked for asked in self.asked)

    def _run(self, channel: SeqpacketChannel) -> None:
        with channel, contextlib.suppress(BrokenPipeError):  # nobody waited for it
            while (packet := channel.receive()) is not None:
                if not self._answer(from_dict(ExportsRequest, packet[0]), channel):
                    break
        with self.heard:
            self.silent = [each for each in self.silent if each[1] is not channel]
            self.running -= 1
            self.heard.notify_all()

    def _answer(self, request: ExportsRequest, channel: SeqpacketChannel) -> bool:
        """Return whether the helper goes on."""
        with self.heard:
            self.requests.append(request)
            silent = [server.uri for server in request.servers if server.uri in self.hangs]
            self.silent += [(uri, channel) for uri in silent]
            self.heard.notify_all()
        for server in request.servers:
            if server.uri in silent:
                continue
            if server.uri not in self.answers:
                return False
            channel.send(to_dict(self.answers[server.uri]))
        return True

    @property
    def asked(self) -> list[list[str]]:
        """Which exports each request was for."""
        return [[server.uri for server in request.servers] for request in self.requests]
