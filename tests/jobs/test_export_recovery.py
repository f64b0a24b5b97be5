"""What goes wrong in the watch of NBD exports itself: the rest goes on, and what was lost is tried again."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from p2vd.jobs import export_watch
from p2vd.jobs.export_helper import MOST_HELPERS
from p2vd.model.nbd import NbdExport
from tests.jobs.export_desk import GIB, A, Desk, answer
from tests.jobs.fake_asker import FakeChild
from tests.jobs.fake_disks import LONG_S

C = NbdExport("nbd://c/")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(export_watch, "_PASS_S", 0.01)
    desk = Desk()
    desk.servers.answers = {each.uri: answer(each) for each in (A, C)}
    yield desk
    desk.watch.stop()
    desk.servers.until_none(LONG_S)


def sizes(desk: Desk) -> list[int]:
    return [each.size_bytes for each in desk.watch.sources()]


class NoThreads:
    """A host at its limit of processes: the threads of that name are refused, until it is `over`."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused, self.over = threading.Semaphore(0), threading.Event()
        start = threading.Thread.start

        def try_start(thread: threading.Thread) -> None:
            if thread.name == name and not self.over.is_set():
                self.refused.release()
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", try_start)

    def refuses(self, times: int) -> None:
        for _ in range(times):
            assert self.refused.acquire(timeout=LONG_S)


def test_servers_are_asked_once_there_are_threads_for_helpers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    no_threads = NoThreads("export-helper", monkeypatch)
    desk.name(A)
    no_threads.refuses(MOST_HELPERS + 1)  # none of them counts as one that runs
    no_threads.over.set()
    desk.until(lambda: sizes(desk) == [GIB])
    (said,) = caplog.messages  # once
    assert said.startswith("NBD: servers cannot be asked now: ")
    assert "no thread for 'export-helper' (can't start new thread)" in said


def test_the_watch_begins_at_the_next_look_where_there_was_no_thread(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_threads = NoThreads("exports", monkeypatch)
    desk.name(A)
    desk.watch.doubt(A.id)  # it is its copy that says so, and waits then
    no_threads.refuses(2)
    no_threads.over.set()
    desk.until(lambda: sizes(desk) == [GIB])


def test_the_watch_outlives_what_is_wrong_with_the_jobs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export_watch, "INTERVAL_S", 0.01)
    wrong = threading.Event()

    def copied() -> frozenset[str]:
        if not wrong.is_set():
            wrong.set()
            raise KeyError("a defect")
        return frozenset()

    monkeypatch.setattr(desk.watch, "_copied", copied)
    desk.name(A)
    desk.until(lambda: sizes(desk) == [GIB])
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("error", [KeyError("a defect"), TimeoutError()], ids=["a defect", "a timeout"])
def test_what_is_wrong_with_who_is_told_the_news_harms_no_helper(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def wrong() -> None:
        desk.changed()
        raise error

    monkeypatch.setattr(desk.watch, "_on_change", wrong)
    desk.servers.hangs = {C.uri}
    desk.name(A, C)
    desk.until(lambda: sizes(desk) == [GIB, 0])
    desk.servers.say(answer(C))  # the helper goes on
    desk.until(lambda: sizes(desk) == [GIB, GIB])
    desk.watch.doubt(A.id)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_what_a_helper_was_asked_is_asked_again_whatever_ends_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(argv: Sequence[str], fd: int) -> FakeChild:
        raise KeyError("a defect")

    spawn: Callable[..., FakeChild] = desk.servers.spawn
    monkeypatch.setattr(desk.watch, "_spawn", wrong)
    desk.name(A)
    desk.until(lambda: desk.watch.problems() != ())
    assert "a defect" in desk.watch.problems()[0]
    monkeypatch.setattr(desk.watch, "_spawn", spawn)
    desk.later()
    desk.until(lambda: sizes(desk) == [GIB])
    assert logging.ERROR in {record.levelno for record in caplog.records}
