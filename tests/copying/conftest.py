"""Settings for the property tests of this room, and what its tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.copying.daemon import Daemon

# Machines that are shared stop for a second now and then: no test here judges time.
settings.register_profile("p2vd-copying", deadline=None)
settings.load_profile("p2vd-copying")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.worker is not None:
        daemon.worker.kill()
        daemon.worker.wait()
        daemon.channel.close()
