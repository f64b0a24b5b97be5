"""The helper that asks NBD servers: what it says of those that answer, lie, hang, or are somebody else."""

import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.copying import nbd_asker
from p2vd.copying.layout import BLOCK
from p2vd.copying.nbd_asking import ExportAnswer, ExportsRequest
from p2vd.copying.terms import NbdServer as Server
from p2vd.model.codec import from_dict, to_dict
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import Child, spawn
from tests.copying.daemon import NOBODY, PATIENCE_S
from tests.copying.nbd_server import Authority, NbdServer, free_port, needs

pytestmark = needs("nbdkit")

SIZE = 4 * BLOCK + 512


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[NbdServer]:
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port()) as server:
        yield server


def begin(*servers: Server, privileged: bool = False) -> tuple[SeqpacketChannel, Child]:
    ours, theirs = SeqpacketChannel.pair()
    argv = [sys.executable, "-m", "p2vd.copying.nbd_asker", "--channel", str(theirs.fileno())]
    child = spawn(argv, theirs.fileno())
    theirs.close()
    ours.send(to_dict(ExportsRequest(servers, privileged, NOBODY, NOBODY)))
    return ours, child


def hear(channel: SeqpacketChannel) -> ExportAnswer | None:
    packet = channel.receive(PATIENCE_S)
    return None if packet is None else from_dict(ExportAnswer, packet[0])


def only(server: Server, *, privileged: bool = False) -> ExportAnswer:
    """What is said of one export."""
    channel, child = begin(server, privileged=privileged)
    with channel:
        answer = hear(channel)
        assert answer is not None
        assert answer.uri == server.uri
    assert child.wait(PATIENCE_S) == 0
    return answer


def test_its_size_and_how_it_begins_and_ends(server: NbdServer, disk: Path) -> None:
    first = only(Server(server.uri))
    assert (first.size_bytes, first.problem, first.unread, first.read_only) == (SIZE, "", "", True)
    assert only(Server(server.uri)) == first
    with disk.open("r+b") as file:
        file.seek(SIZE - 1)
        file.write(b"x")
    second = only(Server(server.uri))
    assert first.edges.split("-")[0] == second.edges.split("-")[0]
    assert first.edges != second.edges


def test_one_on_a_unix_socket_that_lets_clients_write(disk: Path, tmp_path: Path) -> None:
    with NbdServer(tmp_path, "file", disk) as server:
        answer = only(Server(server.uri), privileged=True)
    assert (answer.size_bytes, answer.read_only, answer.problem) == (SIZE, False, "")


def test_one_that_lies_about_its_size_is_told_from_its_end(disk: Path, tmp_path: Path) -> None:
    with NbdServer(tmp_path, "-r", "--filter=error", "file", disk, "error-pread-rate=100%") as server:
        answer = only(Server(server.uri), privileged=True)
    assert (answer.size_bytes, answer.edges, answer.problem) == (SIZE, "", "")
    assert answer.unread


def test_nobody_there_and_a_name_that_means_nothing(server: NbdServer) -> None:
    server.kill()
    assert "Connection refused" in only(Server(server.uri)).problem
    assert "cannot be opened" in only(Server("nbd://no-such-host.invalid/")).problem


@pytest.mark.parametrize("uri", ["nbd://a..b/", f"nbd://{'a' * 64}/", "nbd://127.0.0.1:1/%00"])
def test_what_cannot_be_asked_is_told_at_once(uri: str) -> None:
    """No thread dies in silence: the daemon would take it for a server that hangs."""
    assert only(Server(uri)).problem.startswith(uri)


def test_a_family_of_addresses_that_the_host_does_not_know_is_passed_over(
    server: NbdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.uri.rstrip("/").rpartition(":")[2])
    found = [
        (socket.AF_INET6 + 1000, socket.SOCK_STREAM, 0, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert nbd_asker.ask(Server(server.uri)).size_bytes == SIZE


def test_one_that_hangs_keeps_no_other_from_answering(server: NbdServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = Server(f"nbd://127.0.0.1:{silent.getsockname()[1]}/")
        channel, child = begin(mute, Server(server.uri))
        with channel:
            answer = hear(channel)
        assert answer is not None
        assert answer.size_bytes == SIZE
        assert child.wait(PATIENCE_S) == 0  # it ends when nobody waits for it any more


def test_it_may_be_asked_more_while_one_hangs(server: NbdServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        channel, child = begin(Server(f"nbd://127.0.0.1:{silent.getsockname()[1]}/"))
        with channel:
            for uri in (server.uri, f"{server.uri}?no=query", server.uri):
                channel.send(to_dict(ExportsRequest((Server(uri),), False, NOBODY, NOBODY)))
                answer = hear(channel)
                assert answer is not None
                assert (answer.uri, answer.problem == "") == (uri, "?" not in uri)
        assert child.wait(PATIENCE_S) == 0


def test_it_is_never_asked_for_what_needs_privileges_that_it_gave_up(server: NbdServer) -> None:
    channel, child = begin(Server(server.uri))
    with channel:
        assert hear(channel) is not None
        channel.send(to_dict(ExportsRequest((Server(server.uri),), True, NOBODY, NOBODY)))
        assert hear(channel) is None
    assert child.wait(PATIENCE_S) == 1


@needs("openssl")
def test_by_certificates_and_by_none(disk: Path, tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    port = free_port()
    words = ("-r", "--tls=require", f"--tls-certificates={ours.server('DNS:localhost')}")
    with NbdServer(tmp_path, *words, "file", disk, port=port):
        uri = f"nbds://localhost:{port}/"
        assert only(Server(uri, str(ours.client)), privileged=True).size_bytes == SIZE
        assert "does not answer" in only(Server(uri, str(other.client)), privileged=True).problem
        plain = only(Server(f"nbd://localhost:{port}/"))
        assert "does not answer" in plain.problem


def test_keys_that_others_may_read_are_refused(tmp_path: Path) -> None:
    keys = tmp_path / "psk"
    keys.write_text("me:00112233445566778899aabbccddeeff\n")
    keys.chmod(0o640)
    answer = only(Server("nbds://127.0.0.1:1/", psk_file=str(keys)), privileged=True)
    assert f"chmod 600 {keys}" in answer.problem
    assert "0011" not in answer.problem
    keys.chmod(0o600)
    answer = only(Server("nbds://127.0.0.1:1/", psk_file=str(keys)), privileged=True)
    assert "chmod" not in answer.problem
