"""Fixtures of the rooms that talk to p2vd's face: each has a private bus a session, and one face a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.harness import Client, Face, private_bus


@pytest.fixture(scope="session")
def bus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("bus")
    with private_bus(directory) as address:
        yield address


@pytest.fixture
def face(bus_address: str) -> Iterator[Face]:
    process = Face(bus_address)
    yield process
    process.stop()


@pytest.fixture
def client(bus_address: str, face: Face) -> Iterator[Client]:
    connection = Client(bus_address)
    yield connection
    connection.close()
