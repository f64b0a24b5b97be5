"""p2vd is started with a policy file that has errors: what is under way goes on, and all else waits."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from p2vd.config import Config
from p2vd.daemon import build, simulation
from p2vd.jobs import runner, waves
from p2vd.jobs.engine import Engine
from p2vd.model.errors import Refused, StillLooking
from p2vd.model.job import Activity, Caller, Hold, MachineState, Stage
from p2vd.model.wave import Fate, WaveEntry, WaveState
from tests.sim.conftest import SCRIPT
from tests.waiting import until

T = TypeVar("T")

EXPORT = """
[[exports]]
uri = "nbd://rescue/"
size = "64 MiB"

[[volume_group]]
name = "vg_san"
size = "1 GiB"
pool = { name = "pool0", size = "512 MiB" }
"""
TOMORROW_US = 24 * 3600 * 1_000_000


@pytest.fixture(autouse=True)
def _tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (runner, waves):
        monkeypatch.setattr(module, "_RETRY_S", 0.1)


@contextmanager
def running(directory: Path, script: str, bytes_per_s: int = 0) -> Iterator[Engine]:
    """The daemon but for the bus, over the simulation in `directory`; one disk is copied at a time."""
    (directory / "script.toml").write_text(script)
    config = Config(policy_dirs=(directory / "policy.d",), commit_interval_s=0.1, max_jobs=1)
    config, doors, _ = simulation(config, directory / "script.toml", directory / "state", "")
    engine, services = build(config, doors)
    engine.bandwidth.set_total(bytes_per_s)
    engine.reload()
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        services.store.close()


def usable(engine: Engine) -> list[str]:
    return [source.id for source in engine.inventory().sources if not source.reasons]


def answered(ask: Callable[[], T]) -> T:
    """What is said once the disks were looked at."""

    def asked() -> T | None:
        try:
            return ask()
        except (Refused, StillLooking):
            return None

    found = until(asked)
    assert found is not None
    return found


def migrated(engine: Engine, source: str, name: str) -> str:
    """The UUID of the job that copies a disk from now on."""
    plan = answered(lambda: engine.plan([source], {"source-offline": True, "name": name}, Caller()))
    (uuid,) = engine.migrate(plan.id, {}, Caller()).jobs
    return uuid


def registered(engine: Engine) -> set[str]:
    return {each.name for each in engine.machines() if each.state is MachineState.REGISTERED}


def test_what_has_not_begun_goes_on_once_the_file_is_corrected(tmp_path: Path) -> None:
    with running(tmp_path, SCRIPT, bytes_per_s=16 << 20) as engine:
        until(lambda: len(usable(engine)) == 3)
        first, second, third = usable(engine)
        begun = migrated(engine, first, "erp1")
        until(lambda: engine.job(begun).progress.committed_bytes)
        engine.bandwidth.set_total(1 << 20)  # it is under way for as long as the test takes
        queued = migrated(engine, second, "erp2")
        until(lambda: Hold.SLOT in engine.job(queued).holds)
        entry = WaveEntry(sources=(third,), name="erp3", source_offline=True)
        wave = answered(lambda: engine.waves.plan([entry]))
        engine.waves.start(wave.id, time.time_ns() // 1000 + TOMORROW_US, Caller())

    broken = tmp_path / "policy.d/60-broken.toml"
    broken.write_text("[[rule]]\ncolour = 3\n")
    with running(tmp_path, SCRIPT) as engine:
        engine.waves.start(wave.id, 0, Caller())
        until(lambda: registered(engine) == {"erp1"})
        until(lambda: engine.activity(queued) is Activity.STALLED)
        assert f"The policy files have errors: {broken}:" in engine.stalled(queued)
        until(lambda: engine.waves.all()[0].items[0].fate is Fate.WAITS)
        (reason,) = engine.waves.all()[0].items[0].reasons
        assert reason.code == "policies-unread"
        assert str(broken) in reason.text
        broken.unlink()
        assert engine.reload() == ()
        until(lambda: registered(engine) == {"erp1", "erp2", "erp3"})
        until(lambda: engine.waves.all()[0].state is WaveState.DONE)


def test_the_copy_of_an_export_that_is_not_named_waits_for_it(tmp_path: Path) -> None:
    with running(tmp_path, EXPORT, bytes_per_s=16 << 20) as engine:
        until(lambda: usable(engine))
        job = migrated(engine, usable(engine)[0], "erp1")
        until(lambda: engine.job(job).progress.committed_bytes)
        engine.bandwidth.set_total(1 << 20)  # it is under way for as long as the test takes

    broken = tmp_path / "policy.d/60-broken.toml"
    broken.write_text("[[rule]]\ncolour = 3\n")
    with running(tmp_path, EXPORT) as engine:
        until(lambda: engine.job(job).holds == {Hold.SOURCE_ABSENT})
        assert engine.job(job).stage is Stage.COPYING
        broken.unlink()
        assert engine.reload() == ()
        until(lambda: registered(engine) == {"erp1"})
        assert engine.job(job).progress.resumed_from_bytes > 0
