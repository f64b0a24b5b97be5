"""The small parts of jobs: finding devices again, credits, waits, old workers."""

import threading
from collections.abc import Collection
from dataclasses import replace

import pytest

from p2vd.jobs.control import MustWait, PoolBroken, TryAgain
from p2vd.jobs.host_maps import maps_in_use, target_maps
from p2vd.jobs.inventory_keeper import InventoryKeeper, ScanFailed
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.targets import devices_of, find_source
from p2vd.model.copying import Progress
from p2vd.model.disk import PathState
from p2vd.model.errors import IdentityChanged, NotFound, P2vdError, Reason, Refused
from p2vd.model.inventory import Difference, Inventory, difference
from p2vd.model.job import Hold
from p2vd.model.lvm import PoolUse, Pv, ThinPool, Vg
from p2vd.model.nbd import NbdExport
from p2vd.model.size import GIB, MIB
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from p2vd.provisioning.errors import MarkerUnwritable
from tests.fakes import FakeCommands
from tests.jobs.test_policies import GOOD
from tests.jobs.values import lv_target, machine_and_job, source

_, JOB = machine_and_job()
VG = Vg("vg-uuid", "vg_san", 10 * GIB, 5 * GIB, 4 * MIB, 512)
POOL = ThinPool("pool-uuid", "pool0", GIB, 64 << 10, True, 10.0, 1.0, 0)


def test_the_source_is_found_by_its_id() -> None:
    assert find_source(Inventory((source(),)), JOB) == source()


@pytest.mark.parametrize(
    "inventory",
    [
        pytest.param(Inventory(), id="the LUN is gone"),
        pytest.param(Inventory((source(state=PathState.FAULTY),)), id="no path answers"),
    ],
)
def test_an_absent_source_holds_the_job(inventory: Inventory) -> None:
    with pytest.raises(MustWait) as raised:
        find_source(inventory, JOB)
    assert raised.value.hold is Hold.SOURCE_ABSENT


def test_a_source_of_another_size_is_another_disk() -> None:
    with pytest.raises(IdentityChanged, match="its size is 2 GiB, expected 1 GiB"):
        find_source(Inventory((source(2 * GIB),)), JOB)


def test_another_file_at_the_path_of_an_image_is_another_disk() -> None:
    image = replace(source(), file_id="1@2")
    job = replace(JOB, plan=replace(JOB.plan, source=replace(JOB.plan.source, file_id="1@2")))
    assert find_source(Inventory((image,)), job) == image
    with pytest.raises(IdentityChanged, match="its file is 3@4, expected 1@2"):
        find_source(Inventory((replace(image, file_id="3@4"),)), job)


def test_a_source_in_use_is_refused_with_its_reason() -> None:
    used = replace(source(), reasons=(Reason("mounted", "It is mounted on /mnt: unmount it."),))
    with pytest.raises(Refused, match="mounted on /mnt"):
        find_source(Inventory((used,)), JOB)


def test_a_suspended_source_is_still_the_source() -> None:
    """Seen: a job whose worker hung on a suspended map failed at the daemon's restart."""
    suspended = replace(source(), reasons=(Reason("suspended", "I/O to it hangs."),))
    assert find_source(Inventory((suspended,)), JOB) == suspended


def test_a_source_of_which_the_use_is_unknown_is_asked_again() -> None:
    unclear = replace(source(), reasons=(Reason("unknown-use", "LVM gave no report."),))
    with pytest.raises(TryAgain, match="LVM gave no report"):
        find_source(Inventory((unclear,)), JOB)


def pool_commands(used: int = 100, mode: str = "rw", needs: str = "-") -> FakeCommands:
    commands = FakeCommands()
    status = (
        f"0 2097152 thin-pool 1 10/1024 {used}/16384 - {mode} discard_passdown queue_if_no_space {needs} 1024"
    )
    commands.on(["dmsetup", "status"], status + "\n")
    commands.on(["dmsetup", "table"], "0 2097152 thin-pool 253:3 253:4 128 0 0\n")
    return commands


def test_credits_stay_within_what_is_free_and_count_as_reserved() -> None:
    watch = PoolWatch(pool_commands(used=8192))  # half of the GiB
    credit, why = watch.credit(VG, POOL, JOB)
    assert credit.short
    assert 0 < credit.total_bytes <= GIB // 2 - GIB * 5 // 100
    assert "lvextend -L +SIZE vg_san/pool0" in why
    assert watch.use(VG.uuid, POOL.name).reserved_bytes == credit.total_bytes
    watch.forget(JOB.uuid)
    assert watch.use(VG.uuid, POOL.name).reserved_bytes == 0


def test_a_pool_that_is_slow_to_tell_keeps_nobody_from_what_is_known() -> None:
    """dmsetup may take half a minute, and whoever shows the pools must not."""
    told: list[PoolUse] = []

    def slow(_: tuple[str, ...]) -> str:
        asking = threading.Thread(target=lambda: told.append(watch.use(VG.uuid, POOL.name)), daemon=True)
        asking.start()
        asking.join(60.0)
        return table

    table = "0 2097152 thin-pool 254:1 254:2 128 0 1 skip_block_zeroing"
    watch = PoolWatch(pool_commands(used=8192).replace("dmsetup table", slow))
    watch.credit(VG, POOL, JOB)
    assert told == [PoolUse()], "it waits for dmsetup"


def test_a_full_pool_grants_nothing_beyond_what_was_used() -> None:
    job = replace(JOB, progress=Progress(allocated_bytes=64 << 20))
    credit, why = PoolWatch(pool_commands(used=16384, mode="out_of_data_space")).credit(VG, POOL, job)
    assert (credit.total_bytes, credit.short) == (64 << 20, True)
    assert why


@pytest.mark.parametrize(("mode", "needs"), [("ro", "-"), ("rw", "needs_check")])
def test_a_pool_that_needs_repair_fails_with_the_command(mode: str, needs: str) -> None:
    with pytest.raises(PoolBroken, match="lvconvert --repair vg_san/pool0"):
        PoolWatch(pool_commands(mode=mode, needs=needs)).status(VG, POOL)


class Scanner:
    """Counts scans and notes what was refreshed; `raises` is what the next scan raises."""

    def __init__(self) -> None:
        self.scans = 0
        self.refreshed: list[set[str]] = []
        self.raises: P2vdError | OSError | None = None
        self.unread: tuple[str, ...] = ()
        self.fails_refresh = False
        self.begin = threading.Event()
        self.begin.set()
        self.entered = threading.Event()

    def scan(self) -> Inventory:
        self.entered.set()
        self.begin.wait(60)
        self.scans += 1
        if self.raises:
            raise self.raises
        return Inventory(problems=(str(self.scans),), unread=self.unread)

    def refresh(self, names: Collection[str]) -> Inventory:
        self.refreshed.append(set(names))
        if self.fails_refresh:
            raise OSError(5, "Input/output error", "/sys/block/sda/size")
        return Inventory((source(size_bytes=len(self.refreshed)),))


def test_fresh_waits_for_a_scan_that_began_after_the_call() -> None:
    scanner = Scanner()
    seen: list[Inventory] = []
    keeper = InventoryKeeper(scanner, lambda inventory, _: seen.append(inventory))
    keeper.start()
    first = keeper.fresh(60)
    second = keeper.fresh(60)
    assert int(second.problems[0]) > int(first.problems[0])
    assert seen[-1] == keeper.current() == second
    keeper.stop()


def test_a_failed_scan_is_told_to_who_asked_and_keeps_the_old_inventory() -> None:
    scanner = Scanner()
    keeper = InventoryKeeper(scanner, lambda *_: None)
    keeper.start()
    before = keeper.fresh(60)
    scanner.raises = NotFound("LVM", "report")
    with pytest.raises(ScanFailed, match="no LVM 'report'"):
        keeper.fresh(60)
    stale = keeper.current()
    assert replace(stale, stale_since_us=0, stale_cause="") == before
    assert stale.stale_since_us > 0
    assert "no LVM 'report'" in stale.stale_cause
    with pytest.raises(ScanFailed):
        keeper.fresh(60)
    assert keeper.current().stale_since_us == stale.stale_since_us
    scanner.raises = None
    assert keeper.fresh(60).stale_since_us == 0
    keeper.stop()


def test_a_part_that_cannot_be_read_leaves_the_last_whole_inventory_in_force() -> None:
    scanner = Scanner()
    told: list[Inventory] = []
    keeper = InventoryKeeper(scanner, lambda inventory, _: told.append(inventory))
    scanner.unread = ("LVM said nothing.",)
    keeper.start()
    with pytest.raises(ScanFailed, match="LVM said nothing"):
        keeper.fresh(60)
    # Before the first whole one a part is what there is; nothing may be done with it.
    assert keeper.current().problems
    assert keeper.current().stale_since_us
    assert not keeper.scanned
    scanner.unread = ()
    whole = keeper.fresh(60)
    scanner.unread = ("LVM said nothing.",)
    with pytest.raises(ScanFailed):
        keeper.fresh(60)
    assert keeper.current().problems == whole.problems
    assert told[-1] == keeper.current()
    keeper.stop()


def test_a_scan_that_does_not_end_is_not_waited_for_for_ever() -> None:
    scanner = Scanner()
    scanner.begin.clear()
    keeper = InventoryKeeper(scanner, lambda *_: None)
    keeper.start()
    with pytest.raises(ScanFailed, match="did not end within"):
        keeper.fresh(0.01)
    scanner.begin.set()
    keeper.stop()


def test_neither_a_host_that_cannot_be_read_nor_a_failing_listener_ends_the_looking() -> None:
    """Either would have ended the scanning thread: no news any more, and callers waiting for ever."""
    scanner = Scanner()

    def refuse(_: Inventory, __: Difference) -> None:
        raise MarkerUnwritable("/etc/p2vd/quarantine.d/x", "read-only file system")

    keeper = InventoryKeeper(scanner, refuse)
    keeper.start()
    with pytest.raises(ScanFailed, match="read-only file system"):
        keeper.fresh(60)
    scanner.raises = OSError(5, "Input/output error", "/proc/1/mountinfo")
    with pytest.raises(ScanFailed, match="Input/output error"):
        keeper.fresh(60)
    assert scanner.scans >= 2
    keeper.stop()


def looking(scanner: Scanner) -> tuple[InventoryKeeper, list[Difference]]:
    """A keeper in the middle of its first scan, and what it tells."""
    told: list[Difference] = []
    scanner.begin.clear()
    keeper = InventoryKeeper(scanner, lambda _, difference: told.append(difference))
    keeper.start()
    assert scanner.entered.wait(60)
    return keeper, told


def test_changes_of_devices_cost_one_refresh_and_no_scan() -> None:
    scanner = Scanner()
    keeper, told = looking(scanner)
    keeper.mark_dirty({"sda", "dm-0"})
    keeper.mark_dirty({"sdb"})
    done = threading.Event()
    keeper.request(lambda _: done.set(), {"sdc"})
    scanner.begin.set()
    assert done.wait(60)
    assert (scanner.scans, scanner.refreshed) == (1, [{"sda", "sdb", "sdc", "dm-0"}])
    assert told == [Difference(), Difference(frozenset({source().id}))]
    keeper.stop()


def test_what_could_not_be_looked_at_is_looked_at_with_the_next_change() -> None:
    scanner = Scanner()
    keeper, told = looking(scanner)
    scanner.begin.set()
    keeper.fresh(60)
    scanner.fails_refresh = True
    with pytest.raises(ScanFailed):
        keeper.fresh(60, {"sda"})
    assert keeper.current().stale_since_us
    scanner.fails_refresh = False
    assert keeper.fresh(60, {"sdb"}).stale_since_us == 0
    assert scanner.refreshed == [{"sda"}, {"sda", "sdb"}]
    assert told[-2:] == [Difference(), Difference(frozenset({source().id}))]
    keeper.stop()


def test_with_another_system_id_every_volume_group_is_another() -> None:
    before = Inventory((source(),), (VG,), system_id="one")
    assert difference(before, replace(before, system_id="two")) == Difference(
        volume_groups=frozenset({VG.uuid})
    )
    assert difference(before, replace(before, stale_since_us=1)) == Difference()


def test_after_lost_events_everything_is_looked_at() -> None:
    scanner = Scanner()
    keeper, _ = looking(scanner)
    keeper.mark_dirty({"sda"})
    keeper.mark_dirty(None)
    done = threading.Event()
    keeper.request(lambda _: done.set(), {"sdb"})
    scanner.begin.set()
    assert done.wait(60)
    assert (scanner.scans, scanner.refreshed) == (2, [])
    keeper.stop()


def test_what_a_job_stands_on_is_looked_at_by_its_devices() -> None:
    vg = replace(VG, uuid=lv_target(JOB.plan).vg_uuid, pvs=(Pv("pv", "/dev/mapper/mpathz", GIB, GIB),))
    lun = replace(source(), id="pv", device="dm-9", name="mpathz", dm_uuid="mpath-z", paths=())
    seen = Inventory((source(), lun), (vg,))
    assert devices_of(seen, JOB) == frozenset({"dm-0", "sda", "sdb", "dm-9"})
    assert devices_of(replace(seen, sources=(source(),)), JOB) is None
    assert devices_of(replace(seen, sources=(lun,)), JOB) is None
    assert devices_of(replace(seen, volume_groups=()), JOB) is None
    image = replace(source(), device="", paths=(), dm_uuid="")
    assert devices_of(replace(seen, sources=(image, lun)), JOB) is None
    export = replace(image, export=NbdExport("nbd://a/"))  # no scan tells of it
    assert devices_of(replace(seen, sources=(export, lun)), JOB) == frozenset({"dm-9"})


def test_the_maps_under_a_policys_volume_groups_are_the_hosts_own() -> None:
    policies = load([PolicyText("/etc/p2vd/policy.d/a.toml", GOOD)])
    group = replace(VG, pvs=(Pv("pv", "/dev/mapper/mpatha", GIB, GIB),))
    seen = Inventory((source(), replace(source(), id="other", name="mpathz", dm_uuid="mpath-z")), (group,))
    assert target_maps(seen, policies) == {source().dm_uuid}
    assert (
        target_maps(replace(seen, volume_groups=(replace(group, name="vg_guest"),)), policies) == frozenset()
    )


def test_the_maps_that_the_host_uses_are_known_by_their_reasons() -> None:
    used = replace(source(), reasons=(Reason("mounted", "x"),))
    sick = replace(source(), dm_uuid="mpath-z", reasons=(Reason("no-path-ready", "x"),))
    assert maps_in_use(Inventory((used, sick))) == {source().dm_uuid}
