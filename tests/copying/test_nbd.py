"""NBD exports as sources: servers that are cut, come back, serve another disk, lie, or are somebody else."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.copying import nbd_address
from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.errors import SourceRefused
from p2vd.copying.layout import BLOCK
from p2vd.model.nbd import NbdAddress, NbdExport
from tests.copying.nbd_server import Authority, NbdServer, free_port, needs
from tests.copying.tool import Tool

pytestmark = needs("nbdkit")

SIZE = 16 * BLOCK + 512
SLOWLY = ("--bandwidth", "4 MiB")  # for four seconds: a commit is told after one


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[NbdServer]:
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port()) as server:
        yield server


@pytest.fixture
def tool(server: NbdServer, tmp_path: Path) -> Tool:
    return Tool(server.uri, tmp_path / "target")


def test_a_server_that_dies_and_comes_back_is_gone_on_with(server: NbdServer, tool: Tool, disk: Path) -> None:
    tool.start(*SLOWLY)
    tool.until_committed()
    server.kill()
    server.start()
    code, report = tool.end()
    assert (code, report["failure"]) == (0, None)
    assert "the connection is lost" in tool.said
    assert tool.target.read_bytes() == disk.read_bytes()


def test_a_copy_and_the_daemon_name_an_export_alike(server: NbdServer, tool: Tool) -> None:
    assert tool.run("--verify", "none")[0] == 0
    assert Checkpoint.read(tool.checkpoint).header.binding.source_id == NbdExport(server.uri).id


def test_connections_that_are_cut_again_and_again(tmp_path: Path, disk: Path) -> None:
    """Whoever is connected when the server ends is cut; it is started again each time."""
    with NbdServer(tmp_path, "-r", "file", disk) as server:
        tool = Tool(server.uri, tmp_path / "target")
        tool.start("--bandwidth", "2 MiB")
        for _ in range(3):
            tool.until_committed()
            server.kill()
            server.start()
        code, _ = tool.end()
    assert code == 0
    assert tool.target.read_bytes() == disk.read_bytes()


def test_a_server_that_stays_away_ends_the_copy_which_goes_on_later(
    server: NbdServer, tool: Tool, disk: Path
) -> None:
    tool.start(*SLOWLY, "--reconnect", "0.5")
    committed = tool.until_committed()
    server.kill()
    code, report = tool.end()
    assert code == 2
    assert report["failure"]["name"] == "ConnectionLost"
    assert "run the copy again" in report["failure"]["message"]
    assert report["committed_bytes"] >= committed
    assert tool.run()[1]["failure"]["name"] == "OpenFailed"
    server.start()
    code, report = tool.run()
    assert code == 0
    assert report["bytes_skipped"] >= committed
    assert tool.target.read_bytes() == disk.read_bytes()


def test_a_stop_does_not_wait_for_a_server_that_is_away(server: NbdServer, tool: Tool) -> None:
    tool.start(*SLOWLY)
    tool.until_committed()
    server.kill()
    tool.running.send_signal(signal.SIGTERM)
    code, report = tool.end()
    assert (code, report["failure"]) == (5, None)


@pytest.mark.parametrize(
    ("size", "what"),
    [(SIZE, "its first MiB is another"), (SIZE + 512, f"now says {SIZE + 512} bytes, it said {SIZE}")],
    ids=["another disk of the same size", "another size"],
)
def test_a_server_that_comes_back_with_another_disk_ends_the_copy(
    server: NbdServer, tool: Tool, tmp_path: Path, disk: Path, size: int, what: str
) -> None:
    other = tmp_path / "other"
    other.write_bytes(random.Random(2).randbytes(size))
    tool.start(*SLOWLY)
    tool.until_committed()
    server.kill()
    server.start("-r", "file", other)
    code, report = tool.end()
    assert code == 3
    assert report["failure"]["name"] == "SourceSwapped"
    assert what in report["failure"]["message"]
    done = tool.target.read_bytes()
    blocks = range(0, SIZE, BLOCK)
    source = disk.read_bytes()
    assert all(
        done[at : at + BLOCK] in (source[at : at + BLOCK], bytes(min(BLOCK, SIZE - at))) for at in blocks
    )


def test_another_disk_at_the_next_run_is_refused(server: NbdServer, tool: Tool, tmp_path: Path) -> None:
    tool.start(*SLOWLY)
    tool.until_committed()
    tool.kill()
    before = tool.target.read_bytes()
    for number, size, name in ((2, SIZE, "SourceChanged"), (3, SIZE + 512, "CheckpointMismatch")):
        other = tmp_path / f"other-{number}"
        other.write_bytes(random.Random(number).randbytes(size))
        server.kill()
        server.start("-r", "file", other)
        assert tool.run()[1]["failure"]["name"] == name
    assert tool.target.read_bytes() == before


def test_a_server_that_has_less_than_it_says_is_refused(tmp_path: Path) -> None:
    reader = "[ $4 -lt 8388608 ] || { echo EIO there is nothing >&2; exit 1; }; head -c $3 /dev/zero"
    with NbdServer(tmp_path, "-r", "eval", "get_size=echo 64M", f"pread={reader}") as server:
        tool = Tool(server.uri, tmp_path / "target")
        code, report = tool.run()
    assert (code, report["failure"]["name"]) == (1, "SourceRefused")
    assert "says that it has 67108864 bytes, and does not give" in report["failure"]["message"]
    assert not tool.target.exists()


def test_sectors_that_the_server_cannot_read_are_found(tmp_path: Path, disk: Path) -> None:
    """Of a disk that is served: one bad stretch of 1024 bytes, told by EIO."""
    bad = 5 * BLOCK + 2048
    overlaps = f"[ $4 -ge {bad + 1024} ] || [ $(($3 + $4)) -le {bad} ] || {{ echo EIO >&2; exit 1; }}"
    reader = f"{overlaps}; tail -c +$(($4 + 1)) {disk} | head -c $3"
    with NbdServer(tmp_path, "-r", "eval", f"get_size=echo {SIZE}", f"pread={reader}") as server:
        tool = Tool(server.uri, tmp_path / "target")
        code, report = tool.run("--bad-sectors", "10")
    assert (code, report["bad_ranges"]) == (4, [[bad, 1024]])
    expected = bytearray(disk.read_bytes())
    expected[bad : bad + 1024] = bytes(1024)
    assert tool.target.read_bytes() == bytes(expected)


def test_what_the_server_knows_to_be_zero_is_not_read(tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "log"
    with disk.open("wb") as file:
        file.write(random.Random(1).randbytes(2 * BLOCK))
        file.truncate(256 * BLOCK)
    with NbdServer(tmp_path, "-r", "--filter=log", "file", disk, f"logfile={log}") as server:
        tool = Tool(server.uri, tmp_path / "target")
        code, report = tool.run("--verify", "none")
        assert (code, report["bytes_zero"]) == (0, 254 * BLOCK)
    assert log.read_text().count(" Read ") < 12
    assert tool.target.stat().st_blocks * 512 < 4 * BLOCK
    assert tool.target.read_bytes() == disk.read_bytes()


@needs("openssl")
def test_tls_by_certificates(tmp_path: Path, disk: Path) -> None:
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    place, port = ours.server("IP:127.0.0.1", "DNS:localhost"), free_port()
    words = ("-r", "--tls=require", f"--tls-certificates={place}", "file", disk)
    with NbdServer(tmp_path, *words, port=port) as server:
        uri = f"nbds://localhost:{port}/"
        tool = Tool(uri, tmp_path / "target", "--tls-certificates", ours.client)
        code, report = tool.run()
        assert (code, report["failure"]) == (0, None)
        assert tool.target.read_bytes() == disk.read_bytes()
        stranger = Tool(uri, tmp_path / "no", "--tls-certificates", others.client)
        code, report = stranger.run()
        assert (code, report["failure"]["name"]) == (1, "OpenFailed")
        assert "certificate" in report["failure"]["message"]
        assert not stranger.target.exists()
        code, report = Tool(server.uri, tmp_path / "no").run()
        assert (code, report["failure"]["name"]) == (1, "OpenFailed")
        server.kill()
        server.start("-r", "--tls=require", f"--tls-certificates={ours.server('DNS:erp2')}", "file", disk)
        code, report = Tool(uri, tmp_path / "no", "--tls-certificates", ours.client).run()
        assert (code, report["failure"]["name"]) == (1, "OpenFailed")
        assert "certificate" in report["failure"]["message"]


def test_tls_by_a_pre_shared_key(tmp_path: Path, disk: Path) -> None:
    right, wrong, port = tmp_path / "right.psk", tmp_path / "wrong.psk", free_port()
    right.write_text(f"p2vd:{'a5' * 32}\n")
    wrong.write_text(f"p2vd:{'5a' * 32}\n")
    with NbdServer(tmp_path, "-r", "--tls=require", f"--tls-psk={right}", "file", disk, port=port):
        uri = f"nbds://p2vd@localhost:{port}/"
        tool = Tool(uri, tmp_path / "target", "--tls-psk-file", right)
        assert tool.run()[0] == 0
        assert tool.target.read_bytes() == disk.read_bytes()
        code, report = Tool(uri, tmp_path / "no", "--tls-psk-file", wrong).run()
        assert (code, report["failure"]["name"]) == (1, "OpenFailed")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nbd://localhost/", "--tls-psk-file", "keys"], "write nbds://"),
        (["nbds://localhost/", "--tls-psk-file", "absent"], "there is no PSK file absent"),
        (["nbds://localhost/", "--tls-certificates", "absent"], "no ca-cert.pem in absent"),
        (["nbds+unix:///?socket=s", "--tls-certificates", "absent"], "use a PSK file"),
        (["nbd://localhost/", "--source-format", "qcow2"], "an NBD export is raw"),
        (["disk", "--reconnect", "3"], "are for NBD exports"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "disk").touch()
    source = str(tmp_path / "disk") if words[0] == "disk" else words[0]
    code, report = Tool(source, tmp_path / "target", *words[1:]).run()
    assert code == 1
    assert problem in report["failure"]["message"]


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd://erp1", {"host": "erp1"}),
        ("nbd://erp1:10900/a%20b", {"host": "erp1", "port": 10900, "export": "a b"}),
        (
            "nbds://rescue@[fd00::1]/x/y",
            {"host": "fd00::1", "export": "x/y", "tls": True, "username": "rescue"},
        ),
        ("nbd+unix:///e?socket=/run/s", {"socket": "/run/s", "export": "e"}),
    ],
)
def test_uris(uri: str, address: dict[str, object]) -> None:
    assert nbd_address.parse(uri) == NbdAddress(uri, **address)  # type: ignore[arg-type] # of each field's type


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("nbd+vsock://1/", "no scheme of NBD"),
        ("nbd:///e", "names no host"),
        ("nbd+unix:///e", "socket=PATH"),
        ("nbd+unix://host/e?socket=s", "has no host"),
        ("nbd://h/?socket=s", "socket=PATH"),
        ("nbd://h/?tls-psk-file=f", "only socket= is known"),
        ("nbds://u:secret@h/", "a password in it"),
        ("nbd://h:x/", "."),
        ("nbd://h/#f", "fragment"),
    ],
)
def test_uris_that_are_refused(uri: str, problem: str) -> None:
    with pytest.raises(SourceRefused) as refusal:
        nbd_address.parse(uri)
    assert problem in str(refusal.value)
