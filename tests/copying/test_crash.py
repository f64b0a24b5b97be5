"""No crash and no failed I/O fools a checkpoint; and the test would notice if one did."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from p2vd.copying import layout, ledger, region
from tests.copying import machine
from tests.copying.machine import CopyMachine

_SETTINGS = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# Finding the flaw is enough: no time is spent on a smaller example of it.
_HUNT = settings(
    _SETTINGS, max_examples=2000, phases=[Phase.generate], database=None, report_multiple_bugs=False
)


def run(machine_class: type[CopyMachine], how: settings) -> None:
    run_state_machine_as_test(machine_class, settings=how)  # type: ignore[no-untyped-call]  # of Hypothesis


@pytest.fixture(autouse=True)
def _small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (layout, ledger, region):
        monkeypatch.setattr(module, "REGION_BLOCKS", machine.REGION_BLOCKS)


def test_a_crash_at_any_gap_takes_back_nothing_that_is_committed() -> None:
    run(CopyMachine, _SETTINGS)


@pytest.mark.campaign
def test_ten_thousand_crash_schedules() -> None:
    run(CopyMachine, settings(_SETTINGS, max_examples=10_000))


class CommitBeforeFlush(CopyMachine):
    swapped = True


class NoIntent(CopyMachine):
    intents = False


class ForgetsWhatWasLost(CopyMachine):
    forgets_lost = True


class AssumesZero(CopyMachine):
    assumes_zero_when_dirty = True


@pytest.mark.parametrize("broken", [CommitBeforeFlush, NoIntent, ForgetsWhatWasLost, AssumesZero])
def test_breaking_a_rule_of_the_order_is_found_out(broken: type[CopyMachine]) -> None:
    with pytest.raises(AssertionError):
        run(broken, _HUNT)
