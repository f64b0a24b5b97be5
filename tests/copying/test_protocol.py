"""What is said wrongly between daemon and worker, or not at all: each has a defined end."""

import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from p2vd.copying.layout import BLOCK
from p2vd.copying.protocol import (
    FORMS_VERSION,
    VERSION,
    Hello,
    Pause,
    ProgressReport,
    Start,
    Stop,
    decode,
    encode,
)
from p2vd.copying.terms import Report
from tests.copying.daemon import PATIENCE_S, Daemon

IMPATIENT = """
import sys
from p2vd.copying.under_daemon import run_under_daemon
sys.exit(run_under_daemon(int(sys.argv[2]), start_within_s=0.1))
"""


def say(daemon: Daemon, packet: bytes) -> None:
    """Send what no daemon would."""
    with socket.socket(fileno=os.dup(daemon.channel.fileno())) as raw:
        raw.send(packet)


def say_start(daemon: Daemon, fds: int = 2, changes: Mapping[str, object] = MappingProxyType({})) -> None:
    """Send a Start whose fields are `changes` of a good one, with that many descriptors."""
    opened = [os.open(daemon.source, os.O_RDONLY), *(os.open(daemon.target, os.O_RDWR) for _ in range(2))][
        :fds
    ]
    daemon.channel.send({**encode(daemon.start), **changes}, opened)
    for fd in opened:
        os.close(fd)


def refused(daemon: Daemon, name: str = "ProtocolMismatch") -> str:
    """Hear the worker refuse; return why. Nothing was made, nothing written."""
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == name
    assert not Path(daemon.start.checkpoint_path).exists()
    assert daemon.target.stat().st_blocks == 0
    return report.failure.message


@pytest.mark.parametrize("version", [FORMS_VERSION + 1, 0, "1", None])
def test_an_unknown_version_is_refused_whatever_its_fields_are(daemon: Daemon, version: object) -> None:
    daemon.spawn()
    daemon.channel.send({"type": "start", "version": version, "disks": ["a", "b"]})
    assert refused(daemon) == f"the daemon speaks version {version!r}, this worker {VERSION}"


@pytest.mark.parametrize(
    "packet",
    [
        *(b"not JSON", b"\xff\xfe", b"[]", b"7", b"null", b'{"type": "sta', b"{" * 5000),
        *(
            b'{"type": "start"}',
            b'{"type": "begin"}',
            b'{"x": 1}',
            b'{"type": ["start"]}',
            pytest.param(b"x" * 150_000, id="longer than a packet may be"),
        ),
    ],
)
def test_garbage_instead_of_a_start_is_refused(daemon: Daemon, packet: bytes) -> None:
    daemon.spawn()
    say(daemon, packet)
    refused(daemon)


@pytest.mark.parametrize("message", [Stop(), Pause(), Hello(VERSION, 1)])
def test_another_message_instead_of_a_start_is_refused(daemon: Daemon, message: Stop | Pause | Hello) -> None:
    daemon.spawn()
    daemon.channel.send(encode(message))
    assert refused(daemon) == f"a {type(message).__name__} came before Start"


@pytest.mark.parametrize("fds", [0, 1, 3])
def test_a_start_with_too_few_or_too_many_descriptors_is_refused(daemon: Daemon, fds: int) -> None:
    daemon.spawn()
    say_start(daemon, fds)
    assert f"brought {fds} descriptors" in refused(daemon)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("binding", []), ("binding", {"job": "j"}), ("target", None), ("target", "sda")),
        *(("checkpoint_path", None), ("checkpoint_path", 7), ("resume", "no"), ("resume", 1)),
        *(("queue_depth", "eight"), ("queue_depth", 2.5), ("queue_depth", 0), ("queue_depth", 10**6)),
        *(("bandwidth_bytes_per_s", -1), ("commit_interval_s", "1"), ("commit_interval_s", 0)),
        *(("verify", "perhaps"), ("digest", "md5"), ("digest", 3), ("bad_sectors", -1), ("worker_uid", None)),
    ],
)
def test_a_start_with_a_wrong_field_is_refused(daemon: Daemon, field: str, value: object) -> None:
    daemon.spawn()
    say_start(daemon, changes={field: value})
    refused(daemon)


def pipe(daemon: Daemon) -> list[int]:
    del daemon
    return list(os.pipe())


def directories(daemon: Daemon) -> list[int]:
    return [os.open(daemon.source.parent, os.O_RDONLY) for _ in range(2)]


def other_sizes(daemon: Daemon) -> list[int]:
    return [os.open(daemon.target, os.O_RDONLY), os.open(daemon.source, os.O_RDWR)]


@pytest.mark.parametrize("opened", [pipe, directories, other_sizes])
def test_descriptors_of_something_else_are_refused(
    daemon: Daemon, opened: Callable[[Daemon], list[int]]
) -> None:
    daemon.spawn()
    fds = opened(daemon)
    daemon.channel.send(encode(daemon.start), fds)
    for fd in fds:
        os.close(fd)
    refused(daemon, "OpenFailed")


def test_a_target_that_was_opened_for_reading_fails_and_can_be_resumed(daemon: Daemon) -> None:
    daemon.spawn()
    fds = [os.open(path, os.O_RDONLY) for path in (daemon.source, daemon.target)]
    daemon.channel.send(encode(daemon.start), fds)
    for fd in fds:
        os.close(fd)
    code, report = daemon.end()
    assert (code, report.progress.committed_bytes) == (2, 0)
    assert report.failure is not None
    assert report.failure.name == "WriteFailed"
    daemon.begin(resume=True)
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_a_daemon_that_connects_and_says_nothing(daemon: Daemon) -> None:
    daemon.spawn(program=["-c", IMPATIENT])
    assert refused(daemon) == "no start came within 0.1 s"


def test_a_signal_while_it_waits_for_start(daemon: Daemon) -> None:
    daemon.spawn()
    os.kill(daemon.pid, signal.SIGTERM)
    assert daemon.gone() == 5


def test_a_daemon_that_goes_before_start(daemon: Daemon) -> None:
    daemon.spawn()
    daemon.channel.close()
    assert daemon.gone() == 5


def test_a_daemon_that_dies_in_the_middle_of_a_message(daemon: Daemon) -> None:
    """A packet arrives whole or not at all; half a message is what a dying process may have put in one."""
    daemon.spawn()
    say(daemon, b'{"type": "start", "versi')
    daemon.channel.close()
    assert daemon.gone() == 1
    assert not Path(daemon.start.checkpoint_path).exists()


def test_a_daemon_that_dies_right_after_its_start(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=4 * BLOCK)
    daemon.channel.close()
    assert daemon.gone() == 5
    daemon.begin(bandwidth_bytes_per_s=0)
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_a_daemon_that_stops_reading_loses_messages_and_nothing_else(daemon: Daemon) -> None:
    """The worker copies on, ends, and says by its exit status how; the next one repeats the report."""
    daemon.room_bytes = 1  # the kernel makes the least of it that there can be: some five messages
    daemon.begin()
    assert daemon.gone() == 0
    unread: list[object] = []
    while (packet := daemon.channel.receive(PATIENCE_S)) is not None:
        unread.append(decode(packet[0]))
    assert unread
    assert not any(isinstance(message, Report) for message in unread)
    assert daemon.equal()
    daemon.room_bytes = 0
    daemon.begin(resume=True)
    assert daemon.end()[0] == 0


@pytest.mark.parametrize(
    "packet", [b"\xff", b"[]", b'{"type": "credit"}', b'{"type": "bandwidth", "bytes_per_s": "x"}']
)
def test_garbage_in_the_middle_stops_at_a_checkpoint(daemon: Daemon, packet: bytes) -> None:
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    daemon.until(ProgressReport)
    say(daemon, packet)
    assert daemon.end()[0] == 5
    daemon.begin(bandwidth_bytes_per_s=0, resume=True)
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_a_known_message_at_a_wrong_time_changes_nothing(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=8 * BLOCK)
    daemon.until(ProgressReport)
    for message in (daemon.start, Hello(VERSION, 1)):
        assert isinstance(message, Start | Hello)
        daemon.channel.send(encode(message))
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_fields_of_a_later_version_are_passed_over(daemon: Daemon) -> None:
    """Members may be added within a version; what is not known is not needed."""
    daemon.spawn()
    say_start(daemon, changes={"colour": "blue"})
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_every_message_comes_back_as_it_was_sent(daemon: Daemon) -> None:
    messages: list[Any] = [daemon.start, Stop(), Pause(), Hello(VERSION, 7)]
    for message in messages:
        assert decode(encode(message)) == message
