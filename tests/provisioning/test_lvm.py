"""The LVM commands of a job: what is run, on what, and what is refused before or after."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from p2vd.model.errors import DeviceInUse, P2vdError
from p2vd.model.lvm import Lv, Pv, Vg
from p2vd.model.plan import LvTarget, Provisioning
from p2vd.provisioning.errors import LvAmbiguous, LvNameTaken, LvNotOurs, LvUnchanged, VgFull, VgRefused
from p2vd.provisioning.lvm import Volumes
from p2vd.system.command import CommandFailed, Result
from tests.fakes import FakeCommands

JOB = "0c3e9cf6-8f3f-4c6e-9a55-3a0f7b6b1c11"
OTHER = "ffffffff-8f3f-4c6e-9a55-3a0f7b6b1c11"
GIB = 1 << 30

VG = Vg(
    uuid="9lVRGJ-kcIX-mKTe-GnPr-fESq-BOLj-252YJB",
    name="san",
    size_bytes=100 * GIB,
    free_bytes=50 * GIB,
    extent_size_bytes=4 << 20,
    sector_size=512,
    pvs=(Pv("pv-1", "/dev/mapper/mpathb", 50 * GIB, 0), Pv("pv-2", "/dev/mapper/mpathc", 50 * GIB, 0)),
)
DEVICES = ("--devices", "/dev/mapper/mpathb,/dev/mapper/mpathc")
LV = Lv(
    uuid="9myByo-b03X-8mhn-4JEO-zKrh-suoC-geDGWP",
    name="web1",
    size_bytes=GIB,
    tags=frozenset({f"p2vd.job={JOB}", "p2vd.incomplete"}),
    active=True,
    autoactivation=True,
)
SELECT = f'vg_uuid={VG.uuid} && lv_uuid={LV.uuid} && lv_tags="p2vd.job={JOB}"'
THICK = LvTarget(VG.uuid, "san", "web1", Provisioning.THICK, GIB, 512, single_host=True)
THIN = replace(THICK, provisioning=Provisioning.THIN, pool_uuid="p", pool_name="pool")


def volumes(commands: FakeCommands, after: Lv | None = None, vg: Vg = VG) -> Volumes:
    """Volumes whose VG, read again, holds `after`."""
    fresh = replace(vg, lvs=(after,) if after else ())
    return Volumes(commands, lambda uuid: fresh if uuid == vg.uuid else pytest.fail(uuid))


def with_lv(lv: Lv) -> Vg:
    return replace(VG, lvs=(lv,))


def test_a_thick_lv_is_made_active_zeroed_wiped_and_tagged_in_one_command() -> None:
    commands = FakeCommands().on("lvcreate")
    volumes(commands).create(JOB, THICK, VG)
    (call,) = commands.calls
    assert call.unit == f"{JOB}-create"
    assert call.argv == (
        *("lvcreate", *DEVICES, "--size", f"{GIB}b", "--zero", "y", "--name", "web1"),
        *(
            "--wipesignatures",
            "y",
            "--yes",
            "--addtag",
            f"p2vd.job={JOB}",
            "--addtag",
            "p2vd.incomplete",
            "san",
        ),
    )


def test_a_thin_lv_leaves_zeroing_to_its_pool() -> None:
    commands = FakeCommands().on("lvcreate")
    volumes(commands).create(JOB, THIN, VG)
    (argv,) = commands.changes
    assert argv[3:8] == ("--virtualsize", f"{GIB}b", "--thin", "--thinpool", "pool")
    assert "--zero" not in argv
    assert "--activate" not in argv


def test_a_late_lvcreate_is_told_and_waited_for() -> None:
    told: list[str] = []
    volumes(FakeCommands(late=True).on("lvcreate")).create(JOB, THICK, VG, told.append)
    assert told == [f"{JOB}-create"]


@pytest.mark.parametrize(
    ("vg", "says"),
    [
        (replace(VG, missing_pv_count=1), "missing"),
        (replace(VG, pvs=(replace(VG.pvs[0], missing=True), VG.pvs[1])), "missing"),
        (replace(VG, pvs=(replace(VG.pvs[0], duplicate=True),)), "second device"),
        (replace(VG, pvs=()), "no physical volume"),
        (replace(VG, exported=True), "vgimport"),
        (replace(VG, clustered=True), "clvm"),
    ],
    ids=["missing by count", "missing by PV", "duplicate", "no PVs", "exported", "clustered"],
)
def test_a_vg_that_a_change_could_damage_is_refused(vg: Vg, says: str) -> None:
    commands = FakeCommands()
    some = volumes(commands)
    steps: list[Callable[[], object]] = [
        lambda: some.create(JOB, THICK, vg),
        lambda: some.settle(LV, vg, JOB, 1),
        lambda: some.activate(LV, vg, JOB),
        lambda: some.deactivate(LV, vg, JOB),
        lambda: some.finish(LV, vg, JOB, True),
        lambda: some.remove(LV, vg, JOB),
    ]
    for step in steps:
        with pytest.raises(VgRefused, match=says):
            step()
    assert commands.calls == []


@pytest.mark.parametrize(
    ("vg", "single_host", "own", "refused"),
    [
        (VG, False, "", "single_host"),
        (VG, True, "", ""),
        (replace(VG, lock_type="sanlock"), False, "", ""),
        (replace(VG, system_id="host-a"), False, "host-a", ""),
        (replace(VG, system_id="host-b"), False, "host-a", "'host-b'"),
        (replace(VG, system_id="host-b"), True, "", "'host-b'"),
    ],
    ids=[
        "nobody's",
        "by policy",
        "lvmlockd",
        "own system ID",
        "another host's",
        "another's, whatever policy says",
    ],
)
def test_only_a_vg_that_no_other_host_changes_is_used(
    vg: Vg, single_host: bool, own: str, refused: str
) -> None:
    commands = FakeCommands().on("lvm systemid", f"  system ID: {own}\n").on("lvcreate")
    target = replace(THICK, single_host=single_host)
    if refused:
        with pytest.raises(VgRefused, match=refused):
            volumes(commands).create(JOB, target, vg)
        assert commands.changes == []
    else:
        volumes(commands).create(JOB, target, vg)
        assert len(commands.changes) == 1


def test_a_taken_name_is_seen_before_lvcreate() -> None:
    commands = FakeCommands()
    with pytest.raises(LvNameTaken, match="lvrename"):
        volumes(commands).create(JOB, THICK, with_lv(replace(LV, tags=frozenset())))
    assert commands.calls == []


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ('  Logical Volume "web1" already exists in volume group "san"\n', LvNameTaken),
        ('  Volume group "san" has insufficient free space (326 extents): 16000 required.\n', VgFull),
        ("  device-mapper: create ioctl failed: Device or resource busy\n", CommandFailed),
    ],
)
def test_what_lvcreate_says_is_named_and_kept(stderr: str, expected: type[P2vdError]) -> None:
    commands = FakeCommands().on("lvcreate", Result(("lvcreate",), 5, "", stderr))
    with pytest.raises(expected) as caught:
        volumes(commands).create(JOB, THICK, VG)
    assert "web1" in str(caught.value) or " ".join(stderr.split()) in str(caught.value)


def test_adopt_finds_only_the_lv_with_this_jobs_tag() -> None:
    some = volumes(FakeCommands())
    assert some.adopt(JOB, VG) is None
    assert some.adopt(JOB, with_lv(LV)) == LV
    assert some.adopt(OTHER, with_lv(LV)) is None
    with pytest.raises(LvAmbiguous, match="web1, web2"):
        some.adopt(JOB, replace(VG, lvs=(LV, replace(LV, uuid="2", name="web2"))))


def test_settle_binds_the_generation_and_drops_an_earlier_one() -> None:
    before = replace(LV, tags=LV.tags | {"p2vd.generation=1"})
    after = replace(LV, tags=LV.tags | {"p2vd.generation=2"}, autoactivation=False)
    commands = FakeCommands().on("lvchange")
    assert volumes(commands, after).settle(before, VG, JOB, 2) == after
    (call,) = commands.calls
    assert call.unit == f"{JOB}-settle"
    assert call.argv == (
        *("lvchange", *DEVICES, "--yes", "--setautoactivation", "n"),
        *("--addtag", "p2vd.generation=2", "--deltag", "p2vd.generation=1", "--select", SELECT, "san"),
    )
    assert volumes(commands, after).settle(after, VG, JOB, 2) == after
    assert len(commands.calls) == 1, "a settled LV needs no command"


def test_activation_and_deactivation_are_read_again() -> None:
    commands = FakeCommands().on("lvchange")
    inactive = replace(LV, active=False)
    assert volumes(commands, LV).activate(inactive, VG, JOB).active
    assert not volumes(commands, inactive).deactivate(LV, VG, JOB).active
    assert [argv[4:6] for argv in commands.changes] == [("--activate", "y"), ("--activate", "n")]


def test_finish_takes_the_incomplete_tag_off_and_keeps_the_jobs() -> None:
    done = replace(LV, tags=frozenset({f"p2vd.job={JOB}"}))
    commands = FakeCommands().on("lvchange")
    assert volumes(commands, done).finish(LV, VG, JOB, autoactivate=True) == done
    (argv,) = commands.changes
    assert argv[4:8] == ("--deltag", "p2vd.incomplete", "--setautoactivation", "y")
    assert volumes(commands, done).finish(done, VG, JOB, autoactivate=True) == done
    assert len(commands.calls) == 1, "recovery repeats it without a command"


def test_remove_selects_by_both_uuids_and_tag_and_reads_again() -> None:
    commands = FakeCommands().on("lvremove")
    volumes(commands).remove(LV, VG, JOB)
    (call,) = commands.calls
    assert call.unit == f"{JOB}-remove"
    assert call.argv == ("lvremove", *DEVICES, "--yes", "--select", SELECT, "san")


@pytest.mark.parametrize("verb", ["settle", "activate", "deactivate", "finish", "remove"])
def test_nothing_is_changed_that_does_not_carry_the_jobs_tag(verb: str) -> None:
    commands = FakeCommands()
    extra = {"settle": (1,), "finish": (True,)}.get(verb, ())
    with pytest.raises(LvNotOurs, match=OTHER):
        getattr(volumes(commands, LV), verb)(LV, VG, OTHER, *extra)
    assert commands.calls == []


@pytest.mark.parametrize("verb", ["settle", "activate", "deactivate", "finish", "remove"])
def test_success_of_a_command_is_not_believed(verb: str) -> None:
    """`--select` exits 0 when nothing matches: the report read afterwards decides."""
    unchanged = replace(LV, active=verb != "activate")
    commands = FakeCommands().on("lvchange").on("lvremove")
    extra = {"settle": (1,), "finish": (True,)}.get(verb, ())
    with pytest.raises(LvUnchanged, match="reported success"):
        getattr(volumes(commands, unchanged), verb)(unchanged, VG, JOB, *extra)


@pytest.mark.parametrize(
    "after", [None, replace(LV, tags=frozenset({"p2vd.incomplete"}))], ids=["gone", "untagged"]
)
def test_an_lv_that_vanished_or_lost_its_tag_meanwhile_is_named(after: Lv | None) -> None:
    with pytest.raises(LvNotOurs, match="nothing was changed"):
        volumes(FakeCommands().on("lvchange"), after).activate(LV, VG, JOB)


@pytest.mark.parametrize(
    ("verb", "stderr"),
    [
        ("remove", "  Logical volume san/web1 in use.\n"),
        ("deactivate", "  Logical volume san/web1 is used by another device.\n"),
    ],
)
def test_an_open_lv_is_neither_removed_nor_deactivated(verb: str, stderr: str) -> None:
    failed = Result((), 5, "", stderr)
    commands = FakeCommands().on("lvchange", failed).on("lvremove", failed)
    with pytest.raises(DeviceInUse, match="/dev/san/web1 is in use by another process"):
        getattr(volumes(commands, LV), verb)(LV, VG, JOB)


def test_another_failure_of_lvm_keeps_its_words() -> None:
    commands = FakeCommands().on("lvremove", Result((), 5, "", "  Cannot process volume group san\n"))
    with pytest.raises(CommandFailed, match="Cannot process"):
        volumes(commands, LV).remove(LV, VG, JOB)
