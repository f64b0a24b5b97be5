"""The daemon's parts put together, over the simulated SAN: NBD exports that policy files name are sources."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from p2vd.config import Config
from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.daemon import build, simulation
from p2vd.jobs import export_watch
from p2vd.jobs.engine import Engine
from p2vd.jobs.events import Event, InventoryChanged, JobChanged
from p2vd.model.disk import Transport
from p2vd.model.errors import NotFound, PlanOutdated
from p2vd.model.job import Caller, Hold, Stage
from p2vd.system.process import ChildProcess
from tests.jobs.fake_disks import LONG_S, Disks
from tests.jobs.fake_servers import FakeServers

URI, ID = "nbd://rescue/", "nbd://rescue:10809/"
GIB = 1 << 30


class Lab:
    """An engine that nothing calls but the test; its policy files are in `policies`."""

    def __init__(self, directory: Path) -> None:
        self.policies = directory / "policy.d"
        self.servers = FakeServers({URI: ExportAnswer(URI, GIB, "1-2")})
        self.disks = Disks()
        self.disks.gate.set()
        self.news = threading.Semaphore(0)
        config = replace(Config(), policy_dirs=(self.policies,))
        config, doors, _ = simulation(config, None, directory / "state", "")
        self._spawn = doors.spawn
        doors = replace(doors, spawn=self.spawn, examiner=self.disks.start)
        self.engine, self.services = build(config, doors)
        self.engine.subscribe(self.hear)
        self.engine.reload()
        self.services.inventory.start()

    def spawn(self, argv: Sequence[str], channel_fd: int) -> ChildProcess:
        if "p2vd.copying.nbd_asker" in argv:
            return self.servers.spawn(argv, channel_fd)
        return self._spawn(argv, channel_fd)

    def hear(self, event: Event) -> None:
        if isinstance(event, InventoryChanged):
            self.news.release()

    def name(self, *tables: str) -> None:
        """Write what names exports, with a rule for them, and reload."""
        rule = (self.policies / "50-sim.toml").read_text().replace('["iscsi", "fc"]', '"nbd"')
        text = "\n".join([*tables, rule.replace('name = "simulated"', 'name = "rescue"')])
        (self.policies / "40-rescue.toml").write_text(text)
        assert self.engine.reload() == ()

    def until(self, there: bool) -> Engine:
        """Wait until the export is a source that can be used, or is none."""
        while self.is_there() is not there:
            assert self.news.acquire(timeout=LONG_S)
        return self.engine

    def is_there(self) -> bool:
        found = self.engine.inventory().by_id.get(ID)
        return found is not None and not found.reasons


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.engine.stop()
    lab.services.store.close()


def test_an_export_that_a_policy_file_names_is_planned_as_a_disk(lab: Lab) -> None:
    lab.name(f'[[nbd]]\nuri = "{URI}"\n')
    engine = lab.until(there=True)
    plan = engine.plan([URI], {"source-offline": True, "name": "erp1"}, Caller())
    (disk,) = plan.disks
    assert (disk.source.id, disk.source.transport, disk.source.file_id) == (ID, Transport.NBD, "1-2")
    assert disk.policy == "rescue"
    assert not [each for each in plan.warnings if "known only after its copy" in each]
    # Another disk that is served in its place is another plan.
    lab.servers.answers = {URI: ExportAnswer(URI, GIB, "1-3")}
    lab.name()
    lab.name(f'[[nbd]]\nuri = "{URI}"\n')
    lab.until(there=True)
    while lab.engine.inventory().source(ID).file_id != "1-3":
        assert lab.news.acquire(timeout=LONG_S)
    with pytest.raises(PlanOutdated, match="source's file"):
        engine.migrate(plan.id, {}, Caller())


def test_one_that_no_file_names_any_more_is_gone_at_the_reload(lab: Lab) -> None:
    lab.name(f'[[nbd]]\nuri = "{URI}"\n')
    lab.until(there=True)
    lab.name()
    engine = lab.until(there=False)
    with pytest.raises(NotFound):
        engine.plan([URI], {"source-offline": True, "name": "erp1"}, Caller())


def test_a_file_with_errors_leaves_the_exports_of_before(lab: Lab) -> None:
    lab.name(f'[[nbd]]\nuri = "{URI}"\n')
    lab.until(there=True)
    (lab.policies / "60-broken.toml").write_text('[[nbd]]\nuri = "http://rescue/"\n')
    (error,) = lab.engine.reload()
    assert "60-broken.toml:2: nbd.uri: http:// is no scheme of NBD" in error
    assert lab.is_there()
    assert lab.servers.asked == [[URI]]


SCRIPT = """
[[exports]]
uri = "nbd://rescue/"
size = "64 MiB"
data_percent = 50

[[volume_group]]
name = "vg_san"
size = "1 GiB"
pool = { name = "pool0", size = "512 MiB" }

[speed]
copy = "32 MiB"
verify = "1 GiB"

[[faults]]
what = "export-away"
at_percent = 25
"""


def test_a_simulated_server_goes_away_and_the_copy_goes_on_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_watch, "INTERVAL_S", 0.25)
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT)
    config = Config(policy_dirs=(tmp_path / "policy.d",), commit_interval_s=0.1)
    config, doors, world = simulation(config, script, tmp_path / "state", "")
    engine, services = build(config, doors)
    news: Queue[Event] = Queue()
    held: set[Hold] = set()

    def hear(event: Event) -> None:
        if isinstance(event, JobChanged):  # on the thread that has just changed it: no hold is missed
            held.update(engine.job(event.uuid).holds)
        news.put(event)

    engine.subscribe(hear)
    engine.bandwidth.set_total(8 << 20)  # the server is gone long before the end
    engine.reload()
    engine.start()
    try:
        while (found := engine.inventory().by_id.get(ID)) is None or found.reasons:
            news.get(timeout=LONG_S)
        plan = engine.plan([ID], {"source-offline": True, "name": "erp1"}, Caller())
        (uuid,) = engine.migrate(plan.id, {}, Caller()).jobs
        while (job := engine.job(uuid)).stage is not Stage.PROVEN:
            assert job.stage is not Stage.FAILED, job.error
            if Hold.SOURCE_ABSENT in held:
                world.processes.exports.all[0].away = False
                engine.bandwidth.set_total(0)
            news.get(timeout=LONG_S)
        assert Hold.SOURCE_ABSENT in held
        assert job.progress.resumed_from_bytes >= 16 << 20
    finally:
        engine.stop()
        services.store.close()
