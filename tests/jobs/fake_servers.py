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
    """Says of each export, by URI, what `answers` says; of one that is not there nothing, and ends."""

    answers: dict[str, ExportAnswer] = field(default_factory=dict)
    requests: list[ExportsRequest] = field(default_factory=list)
    broken: bool = False

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        if self.broken:
            raise OSError(12, "Cannot allocate memory")
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        threading.Thread(target=self._run, args=(channel,), daemon=True).start()
        return FakeChild()

    def _run(self, channel: SeqpacketChannel) -> None:
        with channel, contextlib.suppress(BrokenPipeError):  # nobody waited for it
            packet = channel.receive()
            assert packet is not None
            request = from_dict(ExportsRequest, packet[0])
            self.requests.append(request)
            for server in request.servers:
                if server.uri in self.answers:
                    channel.send(to_dict(self.answers[server.uri]))

    @property
    def asked(self) -> list[list[str]]:
        """Which exports each helper was asked for."""
        return [[server.uri for server in request.servers] for request in self.requests]
