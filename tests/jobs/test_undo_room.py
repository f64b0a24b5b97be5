"""Room for what a conversion writes over undo points: of data and metadata, and kept from the copies."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.control import TryAgain
from p2vd.jobs.conversion import leave_as_proven
from p2vd.model.job import Job
from p2vd.model.lvm import ThinPool
from p2vd.model.size import GIB, MIB
from p2vd.planning.admission import Demand, PoolNumbers, room_beside
from p2vd.provisioning.errors import PoolShort
from p2vd.registration.conversion import unit_of
from p2vd.registration.errors import ConversionFailed
from p2vd.system.command import ChangeUnknown
from tests.jobs.proven_machine import JOB, MACHINE
from tests.jobs.test_conversion import Daemon, Storage, pool_status

CHUNK = 64 << 10
VOLUME = 256 * MIB
OTHER = replace(JOB, uuid="33333333-3333-4333-8333-333333333333")
"""Another machine's disk, which is copied into the same pool."""


@pytest.fixture
def storage() -> Storage:
    storage = Storage("pool0")
    storage.lv = replace(storage.lv, size_bytes=VOLUME)
    return storage


@pytest.fixture
def daemon(tmp_path: Path, storage: Storage) -> Iterator[Daemon]:
    daemon = small(tmp_path, storage)
    yield daemon
    daemon.services.store.close()


def small(directory: Path, storage: Storage) -> Daemon:
    """A daemon whose machine has a volume of a quarter of its pool."""
    daemon = Daemon(directory, storage)
    daemon.commands.replace("dmsetup status", pool_status(1000))
    target = replace(JOB.plan.target, size_bytes=VOLUME)
    daemon.board.change(JOB.uuid, lambda job: replace(job, plan=replace(job.plan, target=target)))
    return daemon


def credit(daemon: Daemon, job: Job = OTHER) -> int:
    vg = daemon.volume_group("vg-uuid")
    return daemon.services.pools.credit(vg, _pool(daemon), job)[0].total_bytes


def reserved(daemon: Daemon) -> int:
    return daemon.services.pools.use("vg-uuid", "pool0").reserved_bytes


def _pool(daemon: Daemon) -> ThinPool:
    (pool,) = daemon.volume_group("vg-uuid").thin_pools
    return pool


def test_no_copy_gets_what_is_written_over_an_undo_point(daemon: Daemon, storage: Storage) -> None:
    assert credit(daemon) > GIB - 1000 * CHUNK - VOLUME
    daemon.services.pools.forget(OTHER.uuid)
    seen: list[int] = []
    convert = storage.env

    def env(argv: tuple[str, ...]) -> object:
        seen.append(credit(daemon))
        return convert(argv)

    storage.env = env  # type: ignore[assignment, method-assign]
    daemon.convert()
    assert seen == [GIB - 1000 * CHUNK - VOLUME], "the reserve that copies leave counts for such writes"
    assert reserved(daemon) == seen[0], "the undo point is gone, and what was kept for it"


def test_what_the_reserve_has_room_for_neither_holds_copies_nor_extends_the_pool(daemon: Daemon) -> None:
    """Of 100 GiB 94 are used, and one copy has half a GiB left of its credit."""
    status = pool_status(94 << 14, chunks=100 << 14).replace("10/1024", "10/262144")
    daemon.commands.replace("dmsetup status", status)
    copy = replace(OTHER, plan=replace(OTHER.plan, worst_case_bytes=9 * GIB))
    pools, vg, pool = daemon.services.pools, daemon.volume_group("vg-uuid"), _pool(daemon)
    assert credit(daemon, copy) == GIB
    copy = replace(copy, progress=replace(copy.progress, allocated_bytes=GIB // 2))
    assert pools.hold(vg, pool, "undo point of another", 4 * GIB) >= 4 * GIB
    assert not pools.credit(vg, pool, copy)[0].short
    assert pools.shortage(vg, pool) is None
    assert credit(daemon, copy) == GIB + GIB // 2
    assert reserved(daemon) == 5 * GIB


def test_what_is_kept_for_one_is_not_free_for_the_next(daemon: Daemon) -> None:
    pools, vg, pool = daemon.services.pools, daemon.volume_group("vg-uuid"), _pool(daemon)
    free = GIB - 1000 * CHUNK
    assert pools.hold(vg, pool, "one", VOLUME) == free
    assert pools.hold(vg, pool, "one", VOLUME) == free
    assert pools.hold(vg, pool, "two", GIB) == free - VOLUME
    assert reserved(daemon) == VOLUME


def test_a_pool_that_is_not_well_gets_no_undo_point(daemon: Daemon, storage: Storage) -> None:
    daemon.pool_health = "out_of_data"
    with pytest.raises(PoolShort, match="The thin pool vg_san/pool0 is out_of_data and has"):
        daemon.convert()
    assert (storage.undo, daemon.commands.changes, reserved(daemon)) == (None, [], 0)


def test_what_copies_were_granted_is_not_free(daemon: Daemon, storage: Storage) -> None:
    granted = credit(daemon)
    assert granted > GIB - 1000 * CHUNK - VOLUME
    with pytest.raises(PoolShort, match="beside what copies into it were granted") as caught:
        daemon.convert()
    assert caught.value.wanted == "256 MiB"
    assert (storage.undo, daemon.commands.changes) == (None, [])
    assert reserved(daemon) == granted
    daemon.services.pools.forget(OTHER.uuid)
    daemon.convert()
    assert storage.contents == {"lv-uuid": "converted"}


def test_metadata_that_holds_no_more_mappings_is_no_room(daemon: Daemon, storage: Storage) -> None:
    daemon.commands.replace("dmsetup status", pool_status(1000, metadata=768))
    with pytest.raises(PoolShort, match="has 0 B free"):
        daemon.convert()
    assert storage.undo is None


def test_a_conversion_that_failed_keeps_no_room(daemon: Daemon, storage: Storage) -> None:
    storage.converter_writes, storage.converter_status = "half", 1
    with pytest.raises(ConversionFailed):
        daemon.convert()
    assert reserved(daemon) == 0


def test_one_that_may_still_run_keeps_it_and_so_does_the_next_daemon(
    tmp_path: Path, daemon: Daemon, storage: Storage
) -> None:
    daemon.commands.replace("env", ChangeUnknown(("env",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    assert reserved(daemon) == VOLUME
    again = Daemon(tmp_path, storage)
    again.commands.replace("dmsetup status", pool_status(16384))  # the copies took all that there was
    assert reserved(again) == 0
    kept: list[int] = []
    merge = storage.lvconvert

    def lvconvert(argv: tuple[str, ...]) -> None:
        kept.append(reserved(again))
        merge(argv)

    storage.lvconvert = lvconvert  # type: ignore[method-assign]
    with pytest.raises(PoolShort):
        again.convert()
    assert kept == [VOLUME]
    assert (storage.undo, reserved(again)) == (None, 0)
    again.services.store.close()


def test_a_disk_that_is_given_up_frees_it(daemon: Daemon) -> None:
    daemon.commands.replace("env", ChangeUnknown(("env",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    assert reserved(daemon) == VOLUME
    leave_as_proven(daemon.services, daemon.board.machine(MACHINE.uuid), daemon.board.job(JOB.uuid))
    assert reserved(daemon) == 0


def test_one_that_still_runs_when_its_disk_is_to_be_given_up_keeps_it_in_the_next_daemon(
    tmp_path: Path, daemon: Daemon, storage: Storage
) -> None:
    daemon.commands.replace("env", ChangeUnknown(("env",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    again = Daemon(tmp_path, storage, running=frozenset({unit_of(MACHINE.uuid)}))
    machine, job = again.board.machine(MACHINE.uuid), again.board.job(JOB.uuid)
    with pytest.raises(TryAgain):
        leave_as_proven(again.services, machine, job)
    assert reserved(again) == VOLUME
    again.commands.running = frozenset()
    leave_as_proven(again.services, machine, job)
    assert (storage.undo, reserved(again)) == (None, 0)
    again.services.store.close()


def test_a_volume_that_is_gone_keeps_no_room(daemon: Daemon, storage: Storage) -> None:
    daemon.commands.replace("env", ChangeUnknown(("env",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    storage.lv = replace(storage.lv, tags=frozenset())
    leave_as_proven(daemon.services, daemon.board.machine(MACHINE.uuid), daemon.board.job(JOB.uuid))
    assert reserved(daemon) == 0


# ---- the numbers -----------------------------------------------------------------------------------


def test_room_is_what_is_free_of_both_less_what_was_granted() -> None:
    pool = PoolNumbers(10 * GIB, 4 * GIB, 64 * MIB, MIB, CHUNK)
    assert room_beside(pool, ()) == 6 * GIB
    running = Demand("a", 8 * GIB, used_bytes=GIB, granted_bytes=2 * GIB, reserve_percent=50)
    assert room_beside(pool, (running,)) == 5 * GIB
    assert room_beside(replace(pool, used_data_bytes=10 * GIB), (running,)) == 0
    # 60 MiB less 4 MiB that dm-thin wants: 8 MiB are 131072 mappings of 64 bytes.
    tight = replace(pool, used_metadata_bytes=52 * MIB, total_data_bytes=100 * GIB)
    assert room_beside(tight, ()) == 8 * MIB // 64 * CHUNK
