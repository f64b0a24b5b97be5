"""What the tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.copying.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.worker is not None:
        daemon.worker.kill()
        daemon.worker.wait()
        daemon.channel.close()
