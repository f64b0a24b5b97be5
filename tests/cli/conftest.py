"""Fixtures: one private bus a test session, one process under test a test, and p2vctl against it."""

import signal
from collections.abc import Callable

import pytest

from p2vd.cli.main import main
from tests.bus.fixtures import bus_address, client, face
from tests.bus.harness import Face

__all__ = ["bus_address", "client", "face"]

Run = Callable[..., tuple[int, str, str]]
"""Runs p2vctl with such arguments; returns its exit status, its output, and its errors."""


@pytest.fixture(autouse=True, scope="session")
def _interrupts_are_heard() -> None:
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def p2vctl(bus_address: str, face: Face, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["--bus", bus_address, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
