"""News of the engine, in pictures of a bounded size and in order."""

import threading
from collections.abc import Iterator
from queue import Queue

from p2vd.bus.collector import EVERYTHING, Collector, Picture
from p2vd.bus.names import MANAGER, ROOT, SOURCE
from tests.bus.fake_engine import FakeEngine

PATIENCE_S = 60


class Loop:
    """The GLib thread, which runs what is posted when the test says so."""

    def __init__(self, fails: bool = False) -> None:
        self.posted: Queue[Iterator[None]] = Queue()
        self.pictures: list[Picture] = []
        self.calm = threading.Event()
        self._fails = fails
        self.collector = Collector(FakeEngine(), "1", self.posted.put, self.apply, self.calm.set)

    def apply(self, picture: Picture) -> Iterator[None]:
        self.pictures.append(picture)
        if self._fails:
            raise RuntimeError("one odd object")
        yield

    def turn(self) -> None:
        """Run the next that is posted to its end, as Turns do: an error of it ends nothing else."""
        try:
            for _ in self.posted.get(timeout=PATIENCE_S):
                pass
        except RuntimeError:
            assert self._fails


def test_a_burst_of_news_comes_in_pieces_each_when_the_one_before_is_published() -> None:
    loop = Loop()
    loop.collector.start()
    loop.collector.want([(SOURCE, f"gone{number}") for number in range(600)])
    for turns in range(1, 4):
        assert not loop.calm.is_set()
        loop.turn()
        assert len(loop.pictures) == turns + 1  # the first was of everything
    assert loop.calm.wait(PATIENCE_S)
    assert [len(picture.gone) for picture in loop.pictures[1:]] == [256, 256, 88]
    loop.collector.stop()


def test_a_picture_that_cannot_be_published_does_not_end_the_news() -> None:
    loop = Loop()
    loop.collector.start()
    loop._fails = True
    for name in ("one", "two"):
        loop.collector.want([(SOURCE, name)])
        loop.turn()
    assert len(loop.pictures) == 3
    loop.collector.stop()


def test_the_manager_comes_last_of_all_that_is_new() -> None:
    """Who hears that no scan runs any more reads what the last one saw."""
    loop = Loop()
    assert list(loop.collector.picture(EVERYTHING).objects)[-1] == ROOT
    loop.collector.start()
    loop.collector.want([(MANAGER, ""), *((SOURCE, f"gone{number}") for number in range(300))])
    for _ in range(2):
        loop.turn()
    assert [ROOT in picture.objects for picture in loop.pictures[1:]] == [False, True]
    loop.collector.stop()
