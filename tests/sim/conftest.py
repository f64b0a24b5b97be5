"""Fixtures: one private bus a session, and simulated daemons on it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bus.fixtures import bus_address
from tests.bus.harness import Client
from tests.sim.harness import Simulated

__all__ = ["bus_address"]

SCRIPT = """
[[luns]]
count = 3
size = "96 MiB"

[[volume_group]]
name = "vg_san"
size = "16 GiB"
pool = { name = "pool0", size = "8 GiB" }

[speed]
copy = "400 MiB"
verify = "800 MiB"
"""


@pytest.fixture
def client(bus_address: str) -> Iterator[Client]:
    connection = Client(bus_address)
    yield connection
    connection.close()


Start = Callable[..., Simulated]


@pytest.fixture
def start(bus_address: str, client: Client, tmp_path: Path) -> Iterator[Start]:
    """Starts a simulated daemon with a script, and waits until it is on the bus."""
    with ExitStack() as stack:

        def start_one(script: str = SCRIPT, max_jobs: int = 4) -> Simulated:
            daemon = stack.enter_context(Simulated(bus_address, tmp_path / "state", script, max_jobs))
            daemon.await_ready(client)
            return daemon

        yield start_one
