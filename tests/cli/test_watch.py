"""Waiting for a migration: p2vctl in a process of its own, its output a pipe."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest

from p2vd.bus.names import JOB, object_path
from tests.bus import values
from tests.bus.harness import PATIENCE_S, Client, Face
from tests.cli.conftest import Run

P2VCTL = ("-m", "p2vd.cli.main")
# SIGINT comes when PyGObject has its own handler for it, and its loop does not run yet.
INTERRUPTED_BEFORE_THE_LOOP = """
import os, signal, sys
from gi.repository import GLib
from p2vd.cli.main import main
overrides = sys.modules["gi.overrides.GLib"]
wakeup_on_signal = overrides.wakeup_on_signal
def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return wakeup_on_signal()
overrides.wakeup_on_signal = interrupted
sys.exit(main())
"""


class P2vctl:
    """A running p2vctl whose lines are read as they come."""

    def __init__(self, *arguments: str, program: Sequence[str] = P2VCTL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line_with(self, text: str) -> str:
        """Read on to the line that has `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"p2vctl ended before it said {text!r}")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns status and what else it said."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err


Start = Callable[..., P2vctl]


@pytest.fixture
def start(bus_address: str) -> Iterator[Start]:
    started: list[P2vctl] = []

    def run(*arguments: str, program: Sequence[str] = P2VCTL) -> P2vctl:
        started.append(P2vctl("--bus", bus_address, *arguments, program=program))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        if each.process.stdout is not None and not each.process.stdout.closed:
            each.process.communicate()


@pytest.fixture
def waiting(start: Start, face: Face) -> P2vctl:
    """`migrate --wait`, the job copying."""
    running = start("migrate", values.PLAN_ID, "--wait")
    running.line_with("planned")
    face.tell("stage", values.JOB_UUID, "copying")
    running.line_with("copying")
    return running


def test_waits_until_the_machine_is_registered(waiting: P2vctl, face: Face) -> None:
    face.tell("progress", values.JOB_UUID, {"bytes_copied": 4 << 30, "bytes_zero": 2 << 30})
    line = waiting.line_with("30.0%")
    assert "6 GiB of 10 GiB, zero 2 GiB" in line
    assert "checkpoint none yet" in line
    face.tell("stage", values.JOB_UUID, "proven")
    waiting.line_with("proven")
    face.tell("machine_state", values.MACHINE_UUID, "registered", "domain-uuid")
    status, out, _ = waiting.end()
    assert status == 0
    assert out.splitlines()[-1] == "erp1 is registered. See it: virsh dominfo domain-uuid"


def test_a_failed_job_ends_it_with_its_sentence(waiting: P2vctl, face: Face) -> None:
    face.tell("stage", values.JOB_UUID, "failed", "The array said no.")
    status, _, err = waiting.end()
    assert status == 5
    assert "failed while copying: The array said no." in err
    assert "p2vctl retry 7c9e6679" in err


def test_a_cancelled_job_ends_it(waiting: P2vctl, face: Face) -> None:
    face.tell("stage", values.JOB_UUID, "cancelled")
    status, _, err = waiting.end()
    assert status == 5
    assert "Cancelled" in err


def test_a_failed_registration_ends_it(waiting: P2vctl, face: Face) -> None:
    face.tell("stage", values.JOB_UUID, "proven")
    face.tell("machine_state", values.MACHINE_UUID, "ready", "", "libvirtd does not answer.")
    status, _, err = waiting.end()
    assert status == 5
    assert "not registered: libvirtd does not answer." in err


def test_interrupt_ends_the_watching_only(waiting: P2vctl, face: Face) -> None:
    waiting.process.send_signal(signal.SIGINT)
    status, _, err = waiting.end()
    assert status == 130
    assert "the migration goes on" in err
    assert ["cancel"] not in [asked[:1] for asked in face.tell("what_was_asked")]


def test_interrupt_before_the_end_of_what_is_named_is_no_success(start: Start, face: Face) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    running = start("watch", "erp1")
    running.line_with("planned")
    running.process.send_signal(signal.SIGINT)
    status, _, err = running.end()
    assert status == 130
    assert "the jobs go on. Watch again: p2vctl watch erp1" in err


def test_interrupt_is_how_the_watching_of_all_jobs_ends(start: Start, face: Face) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    running = start("watch")
    running.line_with("planned")
    running.process.send_signal(signal.SIGINT)
    assert running.end()[0] == 0


def test_a_reader_that_has_enough_ends_the_watching_only(waiting: P2vctl, face: Face) -> None:
    """As in `| head`. Nothing is registered yet: that must not look like success."""
    assert waiting.process.stdout is not None
    assert waiting.process.stderr is not None
    waiting.process.stdout.close()
    face.tell("stage", values.JOB_UUID, "verifying")
    assert waiting.process.wait(PATIENCE_S) == 130
    assert waiting.process.stderr.read().startswith("p2vctl: No longer watching; the migration goes on.")


def test_a_reader_that_has_enough_of_all_jobs_ends_the_watching(start: Start, face: Face) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    running = start("watch")
    running.line_with("planned")
    assert running.process.stdout is not None
    assert running.process.stderr is not None
    running.process.stdout.close()
    face.tell("stage", values.JOB_UUID, "copying")
    assert running.process.wait(PATIENCE_S) == 0
    assert running.process.stderr.read() == ""


def test_an_interrupt_just_before_the_loop_runs_is_not_lost(start: Start, face: Face) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    assert start("watch", program=("-c", INTERRUPTED_BEFORE_THE_LOOP)).end()[0] == 0


def test_a_daemon_that_starts_again_is_watched_on(start: Start, bus_address: str) -> None:
    first = Face(bus_address)
    first.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    running = start("watch", "erp1")
    running.line_with("planned")
    first.stop()
    running.line_with("p2vd has stopped")
    second = Face(bus_address)
    try:
        running.line_with("p2vd is there.")
        second.tell("add", values.JOB_UUID, values.MACHINE_UUID)
        second.tell("stage", values.JOB_UUID, "proven")
        second.tell("machine_state", values.MACHINE_UUID, "registered", "domain-uuid")
        assert running.end()[0] == 0
    finally:
        second.stop()


def test_after_the_end_nothing_is_told_any_more(
    p2vctl: Run, face: Face, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    face.tell("stage", values.JOB_UUID, "proven")
    face.tell("machine_state", values.MACHINE_UUID, "registered", "domain-uuid")
    assert p2vctl("watch", "erp1")[0] == 0
    face.tell("stage", values.JOB_UUID, "failed", "The array said no.")
    job = object_path(JOB, values.JOB_UUID)
    client.until(lambda: any(change.get("Stage") == "failed" for change in client.changes(job)))
    assert capsys.readouterr() == ("", "")


def test_migrate_with_wait_and_json_prints_the_machine(start: Start, face: Face) -> None:
    running = start("migrate", values.PLAN_ID, "--wait", "--json")
    while not face.tell("has_jobs"):
        pass
    face.tell("machine_state", values.MACHINE_UUID, "registered", "domain-uuid")
    status, out, _ = running.end()
    assert status == 0
    assert json.loads(out)["Domain"] == "domain-uuid"
