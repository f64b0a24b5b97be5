"""Undo points: what LVM is asked to do, and what is refused before or after."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2vd.model.errors import DeviceInUse
from p2vd.model.lvm import Lv, ThinPool, Vg
from p2vd.provisioning.errors import LvAmbiguous, LvUnchanged, VgFull, VgRefused
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.undo import UndoPoints
from p2vd.system.command import Result
from tests.fakes import FakeCommands
from tests.provisioning.test_lvm import DEVICES, GIB, JOB, LV, OTHER, VG

THIN = replace(LV, pool="pool")
UNDO = Lv("undo-1", "web1_p2vd_undo", GIB, frozenset({f"p2vd.undo={JOB}"}), pool="pool", active=True)


def points(commands: FakeCommands, *reports: Vg) -> UndoPoints:
    """Undo points whose VG is reported so, one report after each change; the last one stays."""
    left = list(reports)

    def refresh(uuid: str) -> Vg:
        assert uuid == VG.uuid
        return left.pop(0) if len(left) > 1 else left[0]

    return UndoPoints(Volumes(commands, refresh))


POOL = ThinPool("pool-1", "pool", 10 * GIB, 64 << 10, True, 10.0, 1.0, GIB)


def vg(*lvs: Lv) -> Vg:
    return replace(VG, lvs=lvs, thin_pools=(POOL,))


def test_of_a_thin_volume_it_is_a_thin_snapshot_that_is_activated_as_any_volume() -> None:
    commands = FakeCommands().on("lvcreate")
    assert points(commands, vg(THIN, UNDO)).create(THIN, vg(THIN), JOB) == UNDO
    (call,) = commands.calls
    assert call.unit == f"{JOB}-undo-create"
    assert call.argv == (
        *("lvcreate", *DEVICES, "--snapshot", "--yes", "--setactivationskip", "n"),
        *("--addtag", f"p2vd.undo={JOB}", "--name", "web1_p2vd_undo", "san/web1"),
    )


def test_of_a_thick_volume_it_holds_every_chunk_with_its_record() -> None:
    commands = FakeCommands().on("lvcreate")
    points(commands, vg(LV, UNDO)).create(LV, vg(LV), JOB)
    (argv,) = commands.changes
    size = int(argv[argv.index("--size") + 1].rstrip("b"))
    assert GIB + 16384 * 16 < size < GIB + (16 << 20)
    assert size % VG.extent_size_bytes == 0


def test_a_group_without_room_for_it_is_refused_before_anything_is_made() -> None:
    commands = FakeCommands()
    full = replace(vg(LV), free_bytes=GIB)
    with pytest.raises(VgFull, match="undo point of web1 takes"):
        points(commands, full).create(LV, full, JOB)
    assert not commands.calls


def test_a_volume_whose_pool_is_not_reported_is_refused() -> None:
    commands = FakeCommands()
    strange = replace(vg(THIN), thin_pools=())
    with pytest.raises(VgRefused, match="LVM reports no thin pool pool, which web1 is in"):
        points(commands, strange).create(THIN, strange, JOB)
    assert not commands.calls


def test_a_snapshot_that_lvm_reports_and_did_not_make_is_an_error() -> None:
    commands = FakeCommands().on("lvcreate")
    with pytest.raises(LvUnchanged):
        points(commands, vg(THIN)).create(THIN, vg(THIN), JOB)


def test_it_is_dropped_by_uuid_and_tag() -> None:
    commands = FakeCommands().on("lvremove")
    points(commands, vg(THIN)).drop(THIN, vg(THIN, UNDO), JOB)
    (argv,) = commands.changes
    assert f'lv_uuid=undo-1 && lv_tags="p2vd.undo={JOB}"' in argv[argv.index("--select") + 1]


@pytest.mark.parametrize("act", [UndoPoints.drop, UndoPoints.merge])
def test_where_there_is_none_nothing_is_done(act: Callable[..., object]) -> None:
    commands = FakeCommands()
    foreign = replace(UNDO, tags=frozenset({f"p2vd.undo={OTHER}"}))
    act(points(commands, vg(THIN, foreign)), THIN, vg(THIN, foreign), JOB)
    assert not commands.calls


@pytest.mark.parametrize(
    ("before", "last"),
    [
        pytest.param(THIN, [("lvconvert", "san/web1_p2vd_undo"), ("lvchange", "san")], id="thin, at rest"),
        pytest.param(LV, [("lvchange", "san"), ("lvconvert", "san/web1_p2vd_undo")], id="thick, active"),
    ],
)
def test_a_merge_is_made_where_lvm_does_not_put_it_off(before: Lv, last: list[tuple[str, str]]) -> None:
    """Seen: of a thick volume that is inactive, LVM puts the merge off with exit status 0."""
    commands = FakeCommands()
    active = [True]

    def change(argv: tuple[str, ...]) -> str:
        active[0] = argv[argv.index("--activate") + 1] == "y"
        return ""

    def merge(argv: tuple[str, ...]) -> str:
        assert active[0] is not bool(before.pool)
        merged.append(True)
        return ""

    def refresh(uuid: str) -> Vg:
        lv = replace(before, active=active[0])
        return vg(lv) if merged else vg(lv, UNDO)

    merged: list[bool] = []
    commands.on("lvchange", change).on("lvconvert", merge)
    back = UndoPoints(Volumes(commands, refresh)).merge(before, vg(before, UNDO), JOB)
    assert back == before
    told = [(argv[0], argv[-1]) for argv in commands.changes]
    assert told[:2] == [("lvchange", "san/web1_p2vd_undo"), ("lvchange", "san/web1")]
    assert [one for one in told[2:] if one != ("lvchange", "san")] == [("lvconvert", "san/web1_p2vd_undo")]
    assert told[2:4] == last


def test_a_volume_that_is_open_is_not_merged() -> None:
    commands = FakeCommands().on(
        "lvchange", Result((), 5, "", "  Logical volume san/web1_p2vd_undo in use.\n")
    )
    with pytest.raises(DeviceInUse):
        points(commands, vg(THIN, UNDO)).merge(THIN, vg(THIN, UNDO), JOB)


def test_a_merge_that_lvm_put_off_is_an_error() -> None:
    commands = FakeCommands().on("lvchange").on("lvconvert")
    with pytest.raises(LvUnchanged, match="what it was at its undo point"):
        points(commands, vg(THIN, UNDO)).merge(THIN, vg(THIN, UNDO), JOB)


def test_two_are_one_too_many() -> None:
    two = vg(THIN, UNDO, replace(UNDO, uuid="undo-2", name="x"))
    with pytest.raises(LvAmbiguous):
        points(FakeCommands(), two).find(two, JOB)
