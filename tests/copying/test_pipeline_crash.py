"""The real pipeline, with threads, through hundreds of power cuts; and the tests would notice a flaw."""

import contextlib
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2vd.copying import layout, ledger, pipeline, region, session
from p2vd.copying.ledger import Batch, Ledger
from p2vd.copying.pipeline import CopyPipeline
from tests.copying.power import GAPS
from tests.copying.rig import SMALL, Rig

CRASHES = 300
# A flaw shows at once, or by a rare order of things: a run ends where it is found.
FOUND_WITHIN = 50 * CRASHES
NOT_THERE = "is claimed and is not there"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: SQLite syncs at each commit."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path, prefix="p2vd-") as path:
        yield Path(path)


@pytest.fixture(autouse=True)
def _small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layout, ledger, region, pipeline, session):
        for name, value in SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


def crash(directory: Path, seed: int, crashes: int, faults: float = 0.3, fills: bool = False) -> Counter[str]:
    """Copy disk after disk until there were that many power cuts."""
    chance, seen = random.Random(seed), Counter[str]()
    for number in itertools.count():
        if seen.total() >= crashes:
            break
        path = directory / f"checkpoint-{number}"
        Rig(path, chance, seen, faults, fills).follow()
        path.unlink()
    return seen


@pytest.mark.campaign
def test_power_cuts_take_back_nothing_that_is_committed(
    request: pytest.FixtureRequest, memory: Path, campaign_seed: int
) -> None:
    wanted = CRASHES * (10 if request.config.option.full else 1)
    seen = crash(memory, campaign_seed, wanted)
    print(f"{seen.total()} power cuts: {dict(seen)}")
    assert set(seen) == set(GAPS)


def commit_then_flush(
    books: Ledger,
    *,
    flush: Callable[[], None],
    commit: Callable[[Batch], None],
    guard: contextlib.AbstractContextManager[object],
) -> bool:
    """`commit_cycle` in the wrong order."""
    if not books.freeze():
        return False
    with guard:
        if (batch := books.batch()) is not None:
            commit(batch)
            books.commit(batch)
    flush()
    return True


def test_a_commit_before_its_flush_is_found_out(
    monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    monkeypatch.setattr(pipeline, "commit_cycle", commit_then_flush)
    with pytest.raises(AssertionError, match=NOT_THERE):
        crash(memory, campaign_seed, FOUND_WITHIN)


def test_a_region_without_a_note_of_intent_is_found_out(
    monkeypatch: pytest.MonkeyPatch, memory: Path, campaign_seed: int
) -> None:
    monkeypatch.setattr(CopyPipeline, "intend", lambda self, work: self.ledger.intended(work.region))
    with pytest.raises(AssertionError, match=NOT_THERE):
        crash(memory, campaign_seed, FOUND_WITHIN, faults=0.9)
