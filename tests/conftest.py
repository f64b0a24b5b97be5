"""What all unit tests share: they need no root, no network and nothing of the environment they run in."""

import os

import pytest


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take settings away that a developer's shell may have and a test must not depend on."""
    for name in [name for name in os.environ if name.startswith("P2VD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
