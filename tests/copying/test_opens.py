"""What the worker opens once it has no privileges: strace(1) sees every system call of it."""

import os
import re
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from p2vd.copying.protocol import FORMS_VERSION, Bandwidth, Pause, Phase, ProgressReport, Resume, encode
from p2vd.copying.terms import NbdServer as NbdPlace
from p2vd.copying.terms import SourceForm
from p2vd.model.copying import Verify
from tests.copying.daemon import Daemon
from tests.copying.nbd_server import NbdServer, free_port, needs

# The last thing that privileges.drop does: it tries to become root again.
DROPPED = re.compile(r"setresuid\(0, 0, 0\) += -1 EPERM")
CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)")
CAPABILITIES = re.compile(r"^Cap\w+:\t(\w+)$", re.MULTILINE)
OPENS = {"open", "openat", "openat2", "open_by_handle_at", "creat"}
TRACED = "%file,%network,setresuid,open_by_handle_at,openat2,ptrace,capset,setns,unshare,keyctl,bpf"
# On the channel to the daemon, which was open before.
NETWORK = {"socket", "connect", "setsockopt", "getpeername"}
TALK = {"sendmsg", "recvmsg", "sendto", "recvfrom", "shutdown", "getsockopt", "getsockname"}


@cache
def why_not() -> str:
    """Why strace cannot look here; empty: it can."""
    if os.geteuid() != 0:
        return "only root has privileges to drop"
    if shutil.which("strace") is None:
        return "strace is not installed"
    argv = ["strace", "-f", "-o", os.devnull, "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    return f"strace cannot attach here: {tried.stderr.strip()}" if tried.returncode else ""


pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not()), reason=why_not())]


def calls_after_the_drop(trace: Path) -> list[tuple[str, str]]:
    """The traced calls, each with its arguments, that began after all privileges were gone."""
    lines = trace.read_text().splitlines()
    (drop,) = (number for number, line in enumerate(lines) if DROPPED.search(line))
    found = (CALL.match(line) for line in lines[drop + 1 :])
    return [(call["name"], call["arguments"]) for call in found if call]


@pytest.fixture
def traced(daemon: Daemon, tmp_path: Path) -> list[tuple[str, str]]:
    """A whole job: begun, paused, gone on with, verified in both disks."""
    trace = tmp_path.parent / f"{tmp_path.name}.trace"
    daemon.spawn("strace", "-f", "-qq", "-s", "4096", "-o", str(trace), "-e", f"trace={TRACED}", "--")
    daemon.send_start(verify=Verify.BOTH, bandwidth_bytes_per_s=8 << 20)
    daemon.until(ProgressReport)
    daemon.tell(Pause())
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        assert [line for line in CAPABILITIES.findall((task / "status").read_text()) if int(line, 16)] == []
    daemon.tell(Bandwidth(0))
    daemon.tell(Resume())
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert [message for message in daemon.heard if message == Phase("verifying")]
    assert daemon.equal()
    return calls_after_the_drop(trace)


def test_once_its_privileges_are_gone_it_opens_nothing_outside_of_its_job(
    traced: list[tuple[str, str]], daemon: Daemon
) -> None:
    """Not even there: the checkpoint is open. What SQLite looks at or removes is its own."""
    job = str(daemon.source.parent)
    assert [arguments for name, arguments in traced if name in OPENS and f'"{job}/' not in arguments] == []
    assert [arguments for name, arguments in traced if name in OPENS] == []
    others = {name for name, _ in traced} - OPENS - TALK
    named = [(name, arguments) for name, arguments in traced if name in others and '"/' in arguments]
    assert [call for call in named if f'"{job}/checkpoint' not in call[1]] == []
    # fstat() is newfstatat() without a path. Nothing is run, connected, traced or regained.
    assert others <= {"newfstatat", "stat", "lstat", "unlink", "access"}


@needs("nbdkit")
def test_an_export_is_connected_to_again_without_opening_anything(daemon: Daemon, tmp_path: Path) -> None:
    """Nor is a name resolved: that would read files of this host. What it connects to is the one server."""
    trace = tmp_path.parent / f"{tmp_path.name}.trace"
    with NbdServer(tmp_path, "-r", "file", daemon.source, port=free_port()) as server:
        form = SourceForm(nbd=NbdPlace(f"nbd://localhost:{server.port}/"))
        daemon.spawn("strace", "-f", "-qq", "-s", "4096", "-o", str(trace), "-e", f"trace={TRACED}", "--")
        start = replace(daemon.start, version=FORMS_VERSION, source_form=form, bandwidth_bytes_per_s=1 << 20)
        with daemon.target.open("r+b") as target:
            daemon.channel.send(encode(start), [target.fileno()])
        while not daemon.progress().progress.committed_bytes:
            pass
        server.kill()
        server.start()
        daemon.tell(Bandwidth(0))
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert daemon.equal()
    calls = calls_after_the_drop(trace)
    assert [arguments for name, arguments in calls if name in OPENS] == []
    connects = [arguments for name, arguments in calls if name == "connect"]
    assert len(connects) > 1
    assert [arguments for arguments in connects if f"htons({server.port})" not in arguments] == []
    assert {name for name, _ in calls} <= NETWORK | TALK | {"newfstatat", "stat", "lstat", "unlink", "access"}


def test_an_open_after_the_drop_would_be_seen(tmp_path: Path) -> None:
    """In lines as strace 6.1 writes them."""
    trace = tmp_path / "trace"
    trace.write_text(
        '90  openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3\n'
        "90  setresuid(65534, 65534, 65534) = 0\n"
        "90  setresuid(0, 0, 0)                = -1 EPERM (Operation not permitted)\n"
        '93  openat(AT_FDCWD, "/etc/shadow", O_RDONLY <unfinished ...>\n'
        "90  --- SIGTERM {si_signo=SIGTERM} ---\n"
        "93  <... openat resumed>) = -1 EACCES (Permission denied)\n"
        "93  +++ exited with 0 +++\n"
    )
    assert calls_after_the_drop(trace) == [("openat", 'AT_FDCWD, "/etc/shadow", O_RDONLY <unfinished ...>')]
