"""Threads that the host gives, and those that it does not."""

import threading

import pytest

from p2vd.system.threads import NoThread, start, start_or_run, start_or_skip


@pytest.fixture
def none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_one_that_runs_can_be_joined() -> None:
    did: list[str] = []
    thread = start(lambda: did.append(threading.current_thread().name), "work")
    thread.join(60.0)
    assert (did, thread.daemon) == (["work"], True)


def test_one_that_does_not_start_is_told(none_left: None) -> None:
    with pytest.raises(NoThread, match=r"no thread for 'work' \(can't start new thread\).*TasksMax="):
        start(lambda: None, "work")


def test_what_must_be_done_is_done_here(none_left: None) -> None:
    did: list[str] = []
    start_or_run(lambda: did.append(threading.current_thread().name), "stop")
    assert did == [threading.current_thread().name]


def test_what_has_its_turn_later_is_left_and_said(none_left: None, caplog: pytest.LogCaptureFixture) -> None:
    did: list[str] = []
    start_or_skip(lambda: did.append("now"), "tidy")
    assert did == []
    assert "no thread for 'tidy'" in caplog.text
