"""What all unit tests share: they need no root, no network and nothing of the environment they run in."""

import os
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_START_PROCESSES = ("benchmark", "bus", "cli", "copying", "sim")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the rooms whose tests start daemons, workers and tools: `tests/run --unit` leaves them out."""
    for item in items:
        if any(item.path.is_relative_to(_TESTS / room) for room in _START_PROCESSES):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take settings away that a developer's shell may have and a test must not depend on."""
    for name in [name for name in os.environ if name.startswith("P2VD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
