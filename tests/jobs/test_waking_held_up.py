"""A volume that a change which does not end keeps active is put to rest when that has ended."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.waking import Recovery, awake
from p2vd.provisioning.late import LateChanges
from p2vd.system.clock import boot_id
from tests.jobs.test_waking import MortalLab
from tests.waiting import until

UNIT = "other-create"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[MortalLab]:
    lab = MortalLab(tmp_path)
    lab.lv = replace(lab.lv, active=False)
    yield lab
    lab.services.store.close()


@pytest.fixture
def recovery(lab: MortalLab) -> Iterator[Recovery]:
    recovery = Recovery(lab.services, 0.01)
    yield recovery
    recovery.stop()


def look(lab: MortalLab) -> LateChanges:
    """Look at the volume while another job's lvcreate gets past its deadline; return what knows of it."""
    late = lab.services.volumes.late
    with awake(lab.services, lab.job, lab.found()):
        late.add("vg-uuid", UNIT)
    assert (lab.lv.active, lab.job.woken_boot) == (True, boot_id())
    return late


def test_it_is_put_to_rest_as_soon_as_that_has_ended(
    lab: MortalLab, recovery: Recovery, caplog: pytest.LogCaptureFixture
) -> None:
    late = look(lab)
    assert "its LV stays active till that is over: Volume group vg_san takes no new work" in caplog.text
    late.end(UNIT)
    until(lambda: not lab.job.woken_boot, "the note stays")
    assert not lab.lv.active


def test_so_it_is_the_next_time(lab: MortalLab, recovery: Recovery) -> None:
    for _ in range(3):
        look(lab).end(UNIT)
        until(lambda: not lab.job.woken_boot, "the note stays")
        assert not lab.lv.active


def test_who_looks_at_it_again_meanwhile_is_waited_for(lab: MortalLab, recovery: Recovery) -> None:
    late = look(lab)
    with awake(lab.services, lab.job, lab.found()):
        late.end(UNIT)
        assert recovery._is_held_up(lab.job.uuid)
        assert lab.lv.active
    until(lambda: not lab.job.woken_boot, "the note stays")
    assert not lab.lv.active


def test_a_daemon_that_stops_leaves_it_to_the_next(lab: MortalLab, recovery: Recovery) -> None:
    recovery.stop()
    look(lab).end(UNIT)
    recovery._outwait()
    assert lab.lv.active
    assert lab.job.woken_boot == boot_id()
