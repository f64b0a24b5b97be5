"""A directory that answers late is waited for by asking again, and looked at once meanwhile."""

import threading

from p2vd.jobs.directory_looks import DirectoryLooks
from p2vd.model.directory import TargetDirectory


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
