"""The inventory at the daemon's stop: whoever waits for a look is told at once that none comes."""

import threading
from collections.abc import Collection

import pytest

from p2vd.jobs.inventory_keeper import InventoryKeeper, ScanFailed
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory

PATIENCE_S = 60.0


class Gated:
    """A host at which a look begins, and ends when the test lets it."""

    def __init__(self) -> None:
        self.begun, self.gate, self.looks = threading.Semaphore(0), threading.Semaphore(0), 0

    def scan(self) -> Inventory:
        self.looks += 1
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        return Inventory()

    def refresh(self, names: Collection[str]) -> Inventory:
        return self.scan()


class Waiting:
    """Who asked for a look, and was told how it ended."""

    def __init__(self, keeper: InventoryKeeper) -> None:
        self.told = threading.Event()
        self.errors: list[P2vdError | None] = []
        keeper.request(self.done)

    def done(self, error: P2vdError | None) -> None:
        self.errors.append(error)
        self.told.set()

    def was_refused(self) -> bool:
        assert self.told.wait(PATIENCE_S)
        return len(self.errors) == 1 and isinstance(self.errors[0], ScanFailed)


@pytest.fixture
def host() -> Gated:
    return Gated()


def test_who_waits_for_the_next_look_is_told_that_none_comes(host: Gated) -> None:
    keeper = InventoryKeeper(host, lambda *_: None)
    keeper.start()
    assert host.begun.acquire(timeout=PATIENCE_S)
    waiting = Waiting(keeper)
    keeper.stop()
    host.gate.release()
    assert waiting.was_refused()
    assert host.looks == 1


def test_who_asks_after_the_stop_is_told_at_once(host: Gated) -> None:
    keeper = InventoryKeeper(host, lambda *_: None)
    keeper.start()
    assert host.begun.acquire(timeout=PATIENCE_S)
    keeper.stop()
    with pytest.raises(ScanFailed, match="p2vd stops"):
        keeper.fresh(PATIENCE_S)  # though the look under way does not end
    host.gate.release()


def test_who_asked_before_a_start_that_never_came_is_told(host: Gated) -> None:
    keeper = InventoryKeeper(host, lambda *_: None)
    waiting = Waiting(keeper)
    keeper.stop()
    assert waiting.was_refused()


def test_an_idle_one_does_not_look_once_more_at_its_stop(host: Gated) -> None:
    """What it would see is told to those who have closed."""
    told = threading.Event()
    keeper = InventoryKeeper(host, lambda *_: told.set())
    keeper.start()
    host.gate.release()
    assert told.wait(PATIENCE_S)
    keeper.stop()
    keeper._thread.join(PATIENCE_S)
    assert (host.looks, keeper._thread.is_alive()) == (1, False)
