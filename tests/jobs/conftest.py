"""Fixtures of the portals' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.iscsi_host import IQN, IscsiHost, make_host
from tests.jobs.portal_desk import A, B, Desk


@pytest.fixture
def host(tmp_path: Path) -> IscsiHost:
    host = make_host(tmp_path / "host")
    host.target(IQN, A, B)
    host.on("udevadm settle").on("multipath -f").on("multipath -v1")
    return host


@pytest.fixture
def desk(tmp_path: Path, host: IscsiHost) -> Iterator[Desk]:
    desk = Desk(tmp_path, host)
    yield desk
    desk.portals.stop()
