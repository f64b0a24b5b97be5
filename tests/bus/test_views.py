"""Numbers of a job that are made here: how far it is and when it will end."""

from dataclasses import replace
from typing import cast

import pytest

from p2vd.bus import views, views_work
from p2vd.bus.collector import Collector
from p2vd.bus.fabric import fabric
from p2vd.bus.names import MANAGER, ROOT
from p2vd.bus.wire import Variant
from p2vd.model.copying import Progress, Verify
from p2vd.model.inventory import Inventory
from p2vd.model.job import Activity, Job, Stage
from p2vd.model.plan import CopyOptions
from p2vd.model.size import GIB, MIB
from tests.bus import values
from tests.bus.fake_engine import FakeEngine


def job(progress: Progress, stage: Stage = Stage.COPYING, verify: Verify = Verify.READ_BACK) -> Job:
    plan = replace(values.DISK_PLAN, copy=CopyOptions(verify=verify))
    return replace(values.job(), stage=stage, progress=progress, plan=plan)


@pytest.mark.parametrize(
    ("progress", "verify", "expected"),
    [
        (Progress(), Verify.READ_BACK, 0.0),
        (Progress(bytes_copied=3 * GIB, bytes_zero=2 * GIB), Verify.NONE, 0.5),
        (Progress(bytes_copied=3 * GIB, bytes_zero=2 * GIB), Verify.READ_BACK, 0.25),
        (Progress(bytes_copied=10 * GIB, bytes_verified=5 * GIB), Verify.BOTH, 0.75),
        (Progress(bytes_copied=10 * GIB, bytes_verified=11 * GIB), Verify.READ_BACK, 0.9999),
    ],
)
def test_reading_back_is_work_and_only_proven_is_all(
    progress: Progress, verify: Verify, expected: float
) -> None:
    assert views_work.fraction_done(job(progress, verify=verify)) == expected
    assert views_work.fraction_done(job(progress, Stage.PROVEN, verify)) == 1.0


def test_the_end_is_guessed_from_the_rate_while_it_runs() -> None:
    running = job(Progress(bytes_copied=10 * GIB, bytes_verified=9 * GIB, rate_bytes_per_s=128 * MIB))
    now_us = 1_000_000_400_000
    assert views_work.job(running, Activity.RUNNING, "", now_us)["ExpectedEndTime"] == 1_000_008_000_000
    assert views_work.job(running, Activity.STALLED, "a read", now_us)["ExpectedEndTime"] == 0
    assert views_work.job(running, Activity.STALLED, "a read", now_us)["Rate"] == 0
    assert views_work.job(job(Progress()), Activity.RUNNING, "", now_us)["ExpectedEndTime"] == 0


def test_a_copy_that_is_slowed_down_says_so_and_why() -> None:
    plan = replace(values.DISK_PLAN, copy=CopyOptions(max_latency_us=20_000))
    slowed = Progress(read_latency_us=84_000, slowed_bytes_per_s=12 * MIB)
    late = replace(values.job(), stage=Stage.COPYING, progress=slowed, plan=plan)
    shown = views_work.job(late, Activity.RUNNING, "", 0)
    assert shown["ReadLatency"] == 84_000
    assert shown["BackOff"] == (
        "Slowed down to 12 MiB/s, because its source answers late: a read takes 84 ms "
        "(copy.max_latency = 20 ms)."
    )
    idle = views_work.job(late, Activity.IDLE, "", 0)
    assert (idle["ReadLatency"], idle["BackOff"]) == (0, "")


def manager(inventory: Inventory) -> views.Properties:
    """Properties of the Manager while `inventory` is in force."""

    class Engine(FakeEngine):
        def inventory(self) -> Inventory:
            return inventory

    collector = Collector(Engine(), "1", lambda _: None, lambda _: iter(()))
    return collector.picture([(MANAGER, "")]).objects[ROOT][MANAGER]


def test_a_stale_inventory_says_since_when_and_why() -> None:
    since = 1_700_000_000_000_000
    cause = "LVM's report cannot be used."
    stale = Inventory(problems=(cause, "other"), unread=(cause,), stale_since_us=since, stale_cause=cause)
    shown = manager(stale)
    assert shown["StaleSince"] == since
    problems = shown["Problems"]
    assert isinstance(problems, tuple)
    assert len(problems) == 2
    assert "out of date since 2023-11-1" in problems[0]
    assert problems[0].endswith(cause)
    assert manager(Inventory())["StaleSince"] == 0


def test_luns_are_listed_behind_the_port_that_they_are_seen_through() -> None:
    (hba,) = fabric(replace(values.INVENTORY, sources=(values.SOURCE, values.FC_SOURCE)))
    (port,) = cast("list[dict[str, Variant]]", hba["RemotePorts"].value)
    (lun,) = cast("list[dict[str, Variant]]", port["Luns"].value)
    assert (lun["Lun"].value, lun["Source"].value) == ("2", values.FC_SOURCE.wwid)
