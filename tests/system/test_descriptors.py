"""Messages and descriptors over a socket pair."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from p2vd.system.descriptors import SeqpacketChannel, close_all


def raw(channel: SeqpacketChannel) -> socket.socket:
    return socket.socket(fileno=os.dup(channel.fileno()))


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_message_arrives_whole() -> None:
    ours, theirs = SeqpacketChannel.pair()
    ours.send({"type": "hello", "text": "ä" * 1000})
    ours.send({"type": "second"})
    assert theirs.receive(1) == ({"type": "hello", "text": "ä" * 1000}, [])
    assert theirs.receive(1) == ({"type": "second"}, [])


def test_descriptors_arrive_as_copies_that_no_child_inherits() -> None:
    ours, theirs = SeqpacketChannel.pair()
    with tempfile.TemporaryFile() as file:
        ours.send({}, [file.fileno(), file.fileno()])
        packet = theirs.receive(1)
        assert packet is not None
        _, fds = packet
        assert len(fds) == 2
        assert all(os.fstat(fd).st_ino == os.fstat(file.fileno()).st_ino for fd in fds)
        assert not any(os.get_inheritable(fd) for fd in fds)
        close_all(fds)
        close_all(fds)  # closed already: no error


def test_silence_times_out() -> None:
    ours, _theirs = SeqpacketChannel.pair()
    with pytest.raises(TimeoutError):
        ours.receive(0.01)


def test_the_end_is_told_after_what_was_sent() -> None:
    ours, theirs = SeqpacketChannel.pair()
    ours.send({"last": 1})
    ours.close()
    assert theirs.receive(1) == ({"last": 1}, [])
    assert theirs.receive(1) is None
    with pytest.raises(BrokenPipeError):
        theirs.send({})


def test_a_peer_that_dies_with_our_messages_unread_is_an_end() -> None:
    ours, theirs = SeqpacketChannel.pair()
    ours.send({})
    theirs.close()
    assert ours.receive(1) is None


def test_what_a_peer_sent_before_it_left_our_messages_unread_arrives() -> None:
    """A worker's report, while the daemon's last word is under way to it: without it, WorkerFailed."""
    ours, theirs = SeqpacketChannel.pair()
    ours.send({"type": "credit"})
    theirs.send({"type": "progress"})
    theirs.send({"type": "report"})
    theirs.close()
    assert ours.receive(1) == ({"type": "progress"}, [])
    assert ours.receive(1) == ({"type": "report"}, [])
    assert ours.receive(1) is None


@pytest.mark.parametrize("packet", [b"{", b"[]", b'"x"', b"\xff\xfe", b"{}" + bytes(300), b"[" * 99_999])
def test_garbage_is_an_error_and_its_descriptors_are_closed(packet: bytes) -> None:
    ours, theirs = SeqpacketChannel.pair()
    with tempfile.TemporaryFile() as file, raw(ours) as sender:
        before = open_descriptors()
        socket.send_fds(sender, [packet], [file.fileno()])
        with pytest.raises(ValueError):
            theirs.receive(1)
        assert open_descriptors() == before


def test_a_packet_that_is_too_long_is_an_error() -> None:
    ours, theirs = SeqpacketChannel.pair()
    with pytest.raises(ValueError, match="does not fit"):
        ours.send({"x": "y" * (200 << 10)})
    with raw(ours) as sender:
        sender.send(b"{" + b" " * (150 << 10) + b"}")
        with pytest.raises(ValueError, match="cut off"):
            theirs.receive(1)


def test_a_peer_that_never_reads_times_out() -> None:
    ours, _theirs = SeqpacketChannel.pair()

    def flood() -> None:
        for _ in range(1000):
            ours.send({"x": "y" * 50_000}, timeout_s=0.01)

    with pytest.raises(TimeoutError):
        flood()
