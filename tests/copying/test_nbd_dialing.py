"""Dialling an NBD server that drops every packet, as a firewall does: whoever stops is heard meanwhile."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying import nbd_connection
from p2vd.copying.controls import Interrupted
from p2vd.copying.nbd_dialer import Dialer
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.nbd_resolver import addresses
from p2vd.copying.protocol import Pause, Stop, encode, start_version
from p2vd.copying.terms import NbdServer, SourceForm, TargetForm
from p2vd.system.process import Child
from tests.copying.daemon import PATIENCE_S, Daemon
from tests.copying.nbd_server import free_port, needs
from tests.copying.tool import Tool
from tests.waiting import until

pytestmark = needs("nbdkit")  # and python3-libnbd, which comes with it where tests run

# Below what a connection is waited for: one that does not hear would end by itself, and later.
HEARD_WITHIN_S = nbd_connection._ANSWER_WITHIN_S / 2


class Mute:
    """A port of this machine whose packets are dropped: a full queue makes the kernel drop each SYN."""

    def __init__(self, until_the_end: contextlib.ExitStack):
        server = until_the_end.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        self.port = server.getsockname()[1]
        self._waiting = 0
        while not self._waiting:
            peer = until_the_end.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(server.getsockname())
            poll = select.poll()
            poll.register(peer, select.POLLOUT)
            self._waiting = 0 if poll.poll(500) else 1

    def until_dialled(self) -> None:
        """Wait until somebody does besides ourselves (proc(5), net/tcp: state 02 is SYN_SENT)."""
        sought = f" 0100007F:{self.port:04X} 02 "
        until(lambda: Path("/proc/net/tcp").read_text().count(sought) > self._waiting)


@pytest.fixture
def mute() -> Iterator[Mute]:
    with contextlib.ExitStack() as until_the_end:
        yield Mute(until_the_end)


@pytest.mark.parametrize("scheme", ["nbd", "nbds"])
def test_who_dials_hears_that_nobody_wants_it_any_more(mute: Mute, scheme: str) -> None:
    ended = threading.Event()
    dialer = Dialer(NbdServer(f"{scheme}://127.0.0.1:{mute.port}/"), ended.is_set)
    found: list[Exception] = []

    def dial() -> None:
        try:
            dialer()
        except (Lost, Interrupted) as error:
            found.append(error)

    dialling = threading.Thread(target=dial, daemon=True)
    dialling.start()
    mute.until_dialled()
    ended.set()
    dialling.join(HEARD_WITHIN_S)
    assert [type(error) for error in found] == [Interrupted]


def start(daemon: Daemon, mute: Mute) -> Child:
    """Have a worker dial that port."""
    form = SourceForm(nbd=NbdServer(f"nbd://127.0.0.1:{mute.port}/"))
    version = start_version(form, TargetForm())
    daemon.start = replace(daemon.start, source_form=form, version=version)
    daemon.spawn()
    fd = os.open(daemon.target, os.O_RDWR)
    daemon.channel.send(encode(daemon.start), [fd])
    os.close(fd)
    mute.until_dialled()
    assert daemon.worker is not None
    return daemon.worker


@pytest.mark.parametrize("how", ["stop", "pause and stop", "SIGTERM", "the daemon ends"])
def test_a_worker_that_dials_hears_its_daemon(daemon: Daemon, mute: Mute, how: str) -> None:
    worker = start(daemon, mute)
    match how:
        case "SIGTERM":
            worker.terminate()
        case "the daemon ends":
            daemon.channel.close()
        case _:
            if how == "pause and stop":
                daemon.tell(Pause())
            daemon.tell(Stop())
    assert worker.wait(HEARD_WITHIN_S) == 5


def test_a_stop_of_the_tool_is_heard_while_it_dials(mute: Mute, tmp_path: Path) -> None:
    tool = Tool(f"nbd://127.0.0.1:{mute.port}/", tmp_path / "target")
    tool.start()
    mute.until_dialled()
    tool.running.send_signal(signal.SIGTERM)
    assert tool.running.wait(HEARD_WITHIN_S) == 5


@pytest.mark.parametrize("scheme", ["nbd", "nbds"])
def test_who_waits_for_a_name_server_hears_it_too(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, resolve = threading.Event(), socket.getaddrinfo

    def slowly(host: str, port: int, *, flags: int, **rest: int) -> object:
        if not flags & socket.AI_NUMERICHOST:
            answered.wait(PATIENCE_S)
        return resolve(host, port, flags=flags, **rest)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    with pytest.raises(Interrupted):
        Dialer(NbdServer(f"{scheme}://localhost:{free_port()}/"), lambda: True)()
    answered.set()


def test_whatever_goes_wrong_with_a_name_ends_the_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object, **options: int) -> object:
        if options["flags"] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        raise MemoryError

    monkeypatch.setattr(socket, "getaddrinfo", wrong)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    end_s = time.monotonic() + HEARD_WITHIN_S
    with pytest.raises(MemoryError):
        addresses("localhost", 10809, lambda: time.monotonic() > end_s)


def test_who_resolved_a_name_can_give_up_privileges() -> None:
    """Which must be done by the only thread there is."""
    before = set(Path("/proc/self/task").iterdir())
    assert ("127.0.0.1", "10809") in addresses("localhost", 10809, lambda: False)
    assert set(Path("/proc/self/task").iterdir()) <= before


def test_every_address_of_a_host_is_tried_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"127.0.0.{n}", port)) for n in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(Lost, match=r"^Connection refused$"):
        Dialer(NbdServer(f"nbd://two:{port}/"), lambda: False)()


def test_a_unix_server_that_takes_nobody_is_told_at_once(tmp_path: Path) -> None:
    place = tmp_path / "nbd.sock"
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as until_the_end:
        server.bind(str(place))
        server.listen(0)
        dialer = Dialer(NbdServer(f"nbd+unix:///?socket={place}"), lambda: False)
        until_the_end.enter_context(dialer.dial())
        with pytest.raises(Lost, match="temporarily unavailable"):
            dialer.dial()
