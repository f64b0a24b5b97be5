"""A machine's volumes before it is started: free of a test, active on this host, and nobody else's."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.activation import make_startable
from p2vd.jobs.control import LvVanished
from p2vd.provisioning.errors import LvUnchanged
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ProvenMachine]:
    lab = ProvenMachine(tmp_path)
    lab.lv = replace(lab.lv, active=False)
    yield lab
    lab.services.store.close()


def test_a_volume_that_the_boot_did_not_activate_is_activated_by_uuid_and_tag(lab: ProvenMachine) -> None:
    def activate(argv: tuple[str, ...]) -> str:
        lab.lv = replace(lab.lv, active=True)
        return ""

    lab.commands.on("lvchange", activate)
    make_startable(lab.services, MACHINE)
    (argv,) = lab.commands.changes
    assert argv[argv.index("--activate") + 1] == "y"
    assert f'lv_uuid=lv-uuid && lv_tags="p2vd.job={JOB.uuid}"' in argv[argv.index("--select") + 1]
    make_startable(lab.services, MACHINE)
    assert len(lab.commands.changes) == 1


def test_a_boot_test_is_ended_first(lab: ProvenMachine) -> None:
    ended: list[str] = []
    services = replace(lab.services, free_volumes=ended.append)
    lab.lv = replace(lab.lv, active=True)
    make_startable(services, MACHINE)
    assert ended == [MACHINE.uuid]


def test_an_activation_that_did_not_happen_is_an_error(lab: ProvenMachine) -> None:
    lab.commands.on("lvchange")
    with pytest.raises(LvUnchanged, match="not active"):
        make_startable(lab.services, MACHINE)


def test_a_volume_that_lost_its_tag_is_not_touched(lab: ProvenMachine) -> None:
    lab.lv = replace(lab.lv, tags=frozenset())
    with pytest.raises(LvVanished):
        make_startable(lab.services, MACHINE)
    assert not lab.commands.changes
