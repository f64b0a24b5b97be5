"""No crash and no failed I/O fools a checkpoint; and the test would notice if one did."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from p2vd.copying import layout, ledger, region
from tests.copying import machine
from tests.copying.machine import GAPS, CopyMachine

SCHEDULES = 10_000

_SETTINGS = settings(
    max_examples=200,
    stateful_step_count=16,
    deadline=None,
    database=None,  # what is run depends on the seed alone
    suppress_health_check=list(HealthCheck),
)
# Finding the flaw is enough: no time is spent on a smaller example of it.
_HUNT = settings(_SETTINGS, max_examples=1000, phases=[Phase.generate], report_multiple_bugs=False)


def run(machine_class: type[CopyMachine], how: settings, campaign_seed: int) -> Counter[str]:
    """Run the machine; return how many schedules ended in each gap."""
    machine_class.crashes = Counter()
    run_state_machine_as_test(seed(campaign_seed)(machine_class), settings=how)  # type: ignore[no-untyped-call]  # of Hypothesis
    return machine_class.crashes


@pytest.fixture(autouse=True)
def _small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layout, ledger, region):
        for name, value in machine.SMALL.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


@pytest.mark.campaign
def test_ten_thousand_crashes_take_back_nothing_that_is_committed(
    request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    wanted = SCHEDULES * (10 if request.config.option.full else 1)
    crashes: Counter[str] = Counter()
    for batch in count():
        crashes += run(CopyMachine, _SETTINGS, campaign_seed + batch)
        if crashes.total() >= wanted:
            break
    print(f"{crashes.total()} crash schedules: {dict(crashes)}")
    assert min(crashes[gap] for gap in GAPS) >= wanted // 200


class CommitBeforeFlush(CopyMachine):
    swapped = True


class NoIntent(CopyMachine):
    intents = False


class ForgetsWhatWasLost(CopyMachine):
    forgets_lost = True


class AssumesZero(CopyMachine):
    assumes_zero_when_dirty = True


class TrustsTheFirstSector(CopyMachine):
    """Takes a block that begins as it should for copied; only a torn write proves it wrong."""

    trusts_first_sector = True


class BelievesOldDigests(CopyMachine):
    """A later pass that never reads the target, not even where an earlier one was interrupted."""

    believes_old_digests = True


@pytest.mark.parametrize(
    "broken",
    [CommitBeforeFlush, NoIntent, ForgetsWhatWasLost, AssumesZero, TrustsTheFirstSector, BelievesOldDigests],
)
def test_breaking_a_rule_of_the_order_is_found_out(broken: type[CopyMachine], campaign_seed: int) -> None:
    with pytest.raises(AssertionError):
        run(broken, _HUNT, campaign_seed)


class DisturbedCommits(CopyMachine):
    """A thread's write fails between the flush of a commit and its end, and the copy goes on."""

    disturbed_commits = True


@pytest.mark.campaign
def test_a_write_may_fail_while_another_thread_commits(
    request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    """Once it holds, CopyMachine itself disturbs commits, and test_pipeline_crash fills pools (`fills`)."""
    run(DisturbedCommits, _HUNT if request.config.option.full else _SETTINGS, campaign_seed)
