"""--host: D-Bus through ssh. An ssh that is none runs the bridge on this machine."""

import argparse
import json
import os
import shutil
from pathlib import Path

import pytest

from p2vd.cli.main import main
from p2vd.cli.remote import bus_address, parse_host
from tests.bus import values
from tests.bus.harness import Face

needs_bridge = pytest.mark.skipif(
    shutil.which("systemd-stdio-bridge") is None, reason="needs systemd-stdio-bridge"
)

SSH = """#!/bin/sh
# An ssh that notes what it was asked for, and gets to the bus of a test whatever host is named.
echo "$@" >> {log}
case "$*" in *unreachable*) echo "ssh: unreachable: No route to host" >&2; exit 255 ;; esac
exec systemd-stdio-bridge --bus-path={address}
"""


@pytest.fixture
def ssh(bus_address: str, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put it first on PATH; returns where it notes what it was asked for."""
    log, program = tmp_path / "asked", tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text(SSH.format(log=log, address=bus_address.partition(",")[0]))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return log


@needs_bridge
def test_all_goes_through_ssh(ssh: Path, face: Face, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "root@erp-san", "sources", "--json"]) == 0
    assert values.WWID in [source["Id"] for source in json.loads(capsys.readouterr().out)]
    assert main(["--host", "root@erp-san:2222", "migrate", values.PLAN_ID]) == 0
    assert face.tell("what_was_asked") == [["migrate", values.PLAN_ID, {}, 1234]]
    assert ssh.read_text().splitlines() == [
        "-xT -- root@erp-san systemd-stdio-bridge",
        "-xT -p 2222 -- root@erp-san systemd-stdio-bridge",
    ]


@needs_bridge
def test_an_error_of_p2vd_is_the_same_from_afar(ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "erp-san", "migrate", "old"]) == 1
    assert capsys.readouterr().err.endswith("Make a new plan.\n")


def test_a_host_that_is_not_reached_is_named(ssh: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "unreachable", "sources"]) == 3
    err = capfd.readouterr().err
    assert "No route to host" in err
    assert "p2vctl: Cannot reach the system bus of unreachable by ssh" in err
    assert "Try: ssh unreachable systemd-stdio-bridge --version" in err


@needs_bridge
def test_secrets_do_not_go_through_ssh(
    ssh: Path, face: Face, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "chap"
    secret.write_text("verysecret12\n")
    secret.chmod(0o600)
    given = ("--chap-user", "p2vhost", "--chap-secret-file", str(secret))
    assert main(["--host", "erp-san", "portals", "add", "10.98.1.1", *given, "--no-wait"]) == 2
    assert "cannot be handed over ssh. Run p2vctl on erp-san." in capsys.readouterr().err
    assert face.tell("what_was_asked") == []


@pytest.mark.parametrize(
    "text", ["", "-oProxyCommand=x", "a b", "a:b", "[::1]", "host:", "host:123456", "a\n"]
)
def test_what_is_no_host_never_gets_to_ssh(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="USER@"):
        parse_host(text)


def test_odd_characters_are_escaped_in_the_address() -> None:
    assert bus_address("a,b=c@h") == (
        "unixexec:path=ssh,argv1=-xT,argv2=--,argv3=a%2cb%3dc%40h,argv4=systemd-stdio-bridge"
    )


def test_one_bus_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--host", "a", "--bus", "b", "sources"])
    assert caught.value.code == 2
