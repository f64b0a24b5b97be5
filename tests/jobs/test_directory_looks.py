"""A directory that answers late is waited for by asking again, and looked at once meanwhile."""

import threading

import pytest

from p2vd.jobs import directory_looks
from p2vd.jobs.directory_looks import DirectoryLooks
from p2vd.model.directory import TargetDirectory
from tests.jobs.threads import no_more


def test_a_directory_that_answers_is_there_at_once_and_not_asked_again_in_the_same_moment() -> None:
    asked: list[str] = []

    def look(path: str) -> TargetDirectory:
        asked.append(path)
        return TargetDirectory(path, free_bytes=1)

    looks = DirectoryLooks()
    assert looks.look("/srv", look, 10).free_bytes == 1
    assert looks.look("/srv", look, 10).free_bytes == 1
    assert asked == ["/srv"]


def test_a_directory_that_answers_late_is_being_looked_at_until_then() -> None:
    answer, asked = threading.Event(), []

    def look(path: str) -> TargetDirectory:
        asked.append(path)
        answer.wait(60)
        return TargetDirectory(path, free_bytes=1)

    looks = DirectoryLooks()
    for _ in range(2):
        assert looks.look("/srv", look, 0).problem == "/srv is being looked at. Plan again in a moment."
    answer.set()
    assert looks.look("/srv", look, 60).free_bytes == 1
    assert asked == ["/srv"]


def test_a_look_that_fails_is_said_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_looks, "_FRESH_S", 0.0)
    found: list[TargetDirectory | Exception] = [KeyError("seen"), TargetDirectory("/srv", free_bytes=1)]

    def look(path: str) -> TargetDirectory:
        answer = found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    looks = DirectoryLooks()
    failed = looks.look("/srv", look, 60)
    assert (failed.problem, failed.under_way) == ("/srv cannot be looked at: 'seen'. Plan again.", False)
    assert looks.look("/srv", look, 60).free_bytes == 1


def test_without_a_thread_it_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = DirectoryLooks()
    with no_more(monkeypatch):
        assert "can't start new thread" in looks.look("/srv", TargetDirectory, 0).problem
    assert looks.look("/srv", TargetDirectory, 60) == TargetDirectory("/srv")
