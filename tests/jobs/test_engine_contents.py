"""What the engine makes of disks' contents: which are looked at, and what a plan says of them."""

import os
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from p2vd.config import Config
from p2vd.discovery.examining import ExamineReply
from p2vd.jobs.board import Board
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.engine import Engine
from p2vd.jobs.events import Event, InventoryChanged
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.contents import BootStyle, Examination, Reservation
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import InvalidArgument, NotFound, P2vdError, PlanOutdated, Reason, Refused
from p2vd.model.inventory import Difference, Inventory
from p2vd.model.job import Caller, MachineState, Stage
from p2vd.model.lvm import ThinPool, Vg
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.plan import Plan
from p2vd.model.size import GIB
from p2vd.policy.model import PolicyText
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.quarantine import Quarantine
from p2vd.system.process import spawn
from tests.fakes import FakeCommands
from tests.jobs.fake_disks import BIOS, LONG_S, Disks
from tests.jobs.portal_desk import no_portals
from tests.jobs.proven_machine import Hypervisor
from tests.jobs.record_desk import no_records
from tests.jobs.values import WWID, lv_target, machine_and_job, source

NODE = "/dev/mapper/mpatha"
POLICY = """
[[rule]]
name = "lab"
match.wwid = "WWID"
[rule.target]
volume_groups = "vg_san"
provisioning = "thin"
"""
POOL = ThinPool("pool-uuid", "pool0", 10 * GIB, 64 << 10, True, 10.0, 1.0, 0)
VG = Vg("vg-uuid", "vg_san", 20 * GIB, 5 * GIB, 4 << 20, 512, lock_type="sanlock", thin_pools=(POOL,))


class FakeHost:
    """One LUN and a volume group."""

    def __init__(self) -> None:
        self.inventory = Inventory((source(),), (VG,))

    def scan(self) -> Inventory:
        return self.inventory

    def refresh(self, names: Collection[str]) -> Inventory:
        return self.inventory

    def host_facts(self) -> HostFacts:
        return HostFacts()

    def volume_group(self, uuid: str) -> Vg:
        raise NotFound("volume group", uuid)


class Lab:
    """An engine over fake disks; nothing of it runs by itself but looking at them."""

    def __init__(self, directory: Path, wwid: str) -> None:
        self.host, self.disks, commands = FakeHost(), Disks(), FakeCommands()
        self.disks.gate.set()
        self.news = threading.Semaphore(0)
        policies = PolicyKeeper(lambda: [PolicyText("lab.toml", POLICY.replace("WWID", wwid))])
        store = Store(directory / "state.db")
        self.board = Board(store)
        self.services = Services(
            config=Config(state_dir=directory, quarantine_dir=directory / "quarantine"),
            store=store,
            board=self.board,
            inventory=InventoryKeeper(self.host, self.inventory_changed),
            contents=ContentsKeeper(self.disks.start, self.contents_changed),
            host=self.host,
            commands=commands,
            volumes=Volumes(commands, self.host.volume_group),
            quarantine=Quarantine(directory / "quarantine", directory / "sys"),
            pools=PoolWatch(commands),
            libvirt=lambda _: Hypervisor(),
            policies=policies.current,
            worker_ids=(os.getuid(), os.getgid()),
            spawn=spawn,
            look_for_luns=self.look_for_luns,
        )
        self.engine = Engine(
            self.services, policies, no_portals(directory / "portals"), no_records(directory, store)
        )
        self.engine.subscribe(self.hear)
        policies.reload()

    def inventory_changed(self, seen: Inventory, changed: Difference) -> None:
        self.engine.inventory_changed(seen, changed)

    def contents_changed(self, source_ids: frozenset[str]) -> None:
        self.engine.contents_changed(source_ids)

    def look_for_luns(self, place: str) -> None:
        raise NotFound("SCSI host", place)

    def hear(self, event: Event) -> None:
        if isinstance(event, InventoryChanged):
            self.news.release()

    def start(self) -> None:
        """Look at the host once; returns when that was published."""
        self.services.inventory.start()
        assert self.news.acquire(timeout=LONG_S)

    def until(self, *examinations: Examination) -> None:
        while self.engine.inventory().sources[0].examination not in examinations:
            assert self.news.acquire(timeout=LONG_S)

    def plan(self) -> Plan:
        return self.engine.plan([WWID], {"source-offline": True, "name": "erp1"}, Caller())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, WWID)
    yield lab
    lab.disks.gate.set()
    lab.engine.stop()


def test_a_source_that_a_policy_matches_is_looked_at(lab: Lab) -> None:
    lab.start()
    lab.until(Examination.DONE)
    assert lab.disks.asked == [NODE]
    assert lab.engine.inventory().sources[0].contents == BIOS


def test_of_a_stale_inventory_nothing_follows_until_it_is_current_again(lab: Lab) -> None:
    """Also not where the first look of all saw the very same disks and could not read something else."""
    whole = lab.host.inventory
    lab.host.inventory = replace(whole, unread=("LVM's system ID is not known.",))
    lab.start()
    with pytest.raises(Refused, match="not current: LVM's system ID is not known"):
        lab.plan()
    assert lab.engine.inventory().stale_since_us > 0
    assert (lab.disks.asked, list((lab.services.config.quarantine_dir).glob("*"))) == ([], [])
    lab.engine.reload()
    assert lab.disks.asked == []
    lab.host.inventory = whole
    lab.services.inventory.fresh(LONG_S)
    lab.until(Examination.DONE)
    assert lab.disks.asked == [NODE]
    assert len(list(lab.services.config.quarantine_dir.glob("*"))) > 0
    assert lab.plan().disks[0].source.id == WWID


def test_who_reads_images_hears_of_a_reload_also_on_a_stale_inventory(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading of what no rule matches any more ends, whatever is known of the host."""
    heard: list[int] = []
    images, keeper = lab.services.images, lab.services.policies
    monkeypatch.setattr(images, "reconfigured", lambda: heard.append(len(keeper().rules)))
    lab.host.inventory = replace(lab.host.inventory, unread=("LVM's system ID is not known.",))
    lab.start()
    lab.engine.reload()
    assert heard[-1] == 1


def test_a_source_that_no_policy_matches_is_never_touched(tmp_path: Path) -> None:
    lab = Lab(tmp_path, "other")
    lab.start()
    with pytest.raises(Refused, match="No policy matches"):
        lab.plan()
    assert lab.disks.asked == []
    assert lab.engine.inventory().sources[0].examination is Examination.NO
    lab.engine.stop()


def test_a_source_in_use_is_not_looked_at(lab: Lab) -> None:
    lab.host.inventory = Inventory(
        (replace(source(), reasons=(Reason("mounted", "It is mounted."),)),), (VG,)
    )
    lab.start()
    with pytest.raises(Refused, match="It is mounted"):
        lab.plan()
    assert lab.disks.asked == []


@pytest.mark.parametrize("stage", [Stage.COPYING, Stage.FAILED])
def test_a_jobs_source_is_not_looked_at(lab: Lab, stage: Stage) -> None:
    machine, job = machine_and_job()
    lab.board.add(machine, (replace(job, stage=stage),))
    lab.start()
    with pytest.raises(Refused, match=f"has {WWID} already"):
        lab.plan()
    assert lab.disks.asked == []


def test_a_plan_is_for_the_machine_of_the_passport_of_that_name(lab: Lab) -> None:
    lab.start()
    lab.until(Examination.DONE)
    assert lab.plan().domain.memory_bytes == 2 * GIB
    lab.services.store.put_passport(Passport("erp1", memory_bytes=96 * GIB))
    plan = lab.plan()
    assert plan.domain.memory_bytes == 96 * GIB
    lab.services.store.remove_passport("erp1")
    with pytest.raises(PlanOutdated, match="memory is now '2 GiB', was '96 GiB'"):
        lab.engine.migrate(plan.id, {}, Caller())


def test_a_plan_reads_it_again_and_says_what_follows(lab: Lab) -> None:
    lab.start()
    lab.until(Examination.DONE)
    lab.disks.answers[NODE] = ExamineReply(replace(BIOS, boot=BootStyle.UEFI))
    assert lab.plan().domain.firmware.value == "uefi"
    lab.disks.answers[NODE] = ExamineReply(replace(BIOS, reservation=Reservation("0xabc", "Write Exclusive")))
    with pytest.raises(Refused, match="0xabc"):
        lab.plan()
    (reason,) = lab.engine.findings(lab.engine.inventory().sources[0]).reasons
    assert reason.code == "reserved"


def test_a_plan_of_a_disk_that_is_still_looked_at_is_refused_and_serves_after(lab: Lab) -> None:
    lab.disks.gate.clear()
    lab.start()
    with pytest.raises(Refused, match="is being looked at"):
        lab.plan()
    lab.disks.gate.set()
    lab.until(Examination.DONE)
    assert lab.plan().warnings == ()


def test_the_rules_are_explained_for_a_source_by_its_name_of_now(lab: Lab) -> None:
    lab.start()
    (match,) = lab.engine.explain_policy("mpatha", "erp1")
    assert (match.name, match.chosen, match.failed) == ("lab", True, ())
    assert [rule.name for rule in lab.engine.policy_rules()] == ["lab"]
    with pytest.raises(NotFound):
        lab.engine.explain_policy("nothing", "")


def test_the_doctor_judges_what_it_read(lab: Lab) -> None:
    lab.start()
    codes = [finding.reason.code for finding in lab.engine.doctor()]
    assert codes == ["multipathd-silent", "unknown-luns"]


def test_a_place_that_is_not_there_is_refused_without_a_look_at_the_host(lab: Lab) -> None:
    """Such a look may take a minute, and the caller is answered within a second."""
    answers: Queue[P2vdError | None] = Queue()
    lab.engine.rescan(answers.put, "host77")
    with pytest.raises(NotFound, match="host77"):
        raise answers.get(timeout=LONG_S) or AssertionError("no error")


# ---- machines of several disks -----------------------------------------------------------------

SECOND_WWID = WWID[:-3] + "222"


def two_disks(lab: Lab) -> None:
    """A second LUN, and a rule that matches both."""
    second = replace(
        source(), id=SECOND_WWID, wwid=SECOND_WWID, device="dm-1", name="mpathb", dm_uuid="mpath-b", paths=()
    )
    lab.host.inventory = replace(lab.host.inventory, sources=(source(), second))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, WWID[:-3] + "*")
    two_disks(lab)
    yield lab
    lab.disks.gate.set()
    lab.engine.stop()


def plan_both(lab: Lab, **options: object) -> Plan:
    return lab.engine.plan([SECOND_WWID, WWID], {"source-offline": True, "name": "erp1", **options}, Caller())


def looked_at(lab: Lab) -> None:
    while any(one.examination is not Examination.DONE for one in lab.engine.inventory().sources):
        assert lab.news.acquire(timeout=LONG_S)


def test_a_plan_waits_for_the_look_at_every_disk_and_names_those_not_done(pair: Lab) -> None:
    pair.disks.gate.clear()
    pair.start()
    with pytest.raises(Refused) as caught:
        plan_both(pair)
    assert [reason.code for reason in caught.value.reasons] == ["under-examination"] * 2
    pair.disks.gate.set()
    looked_at(pair)
    assert [disk.source.id for disk in plan_both(pair).disks] == [SECOND_WWID, WWID]


def test_a_machines_jobs_are_made_together_in_the_order_of_its_disks(pair: Lab) -> None:
    pair.start()
    looked_at(pair)
    plan = plan_both(pair)
    machine = pair.engine.migrate(plan.id, {}, Caller(7))
    jobs = [pair.engine.job(uuid) for uuid in machine.jobs]
    assert [(job.plan.source.id, job.plan.number, job.plan.of) for job in jobs] == [
        (SECOND_WWID, 1, 2),
        (WWID, 2, 2),
    ]
    assert [lv_target(job.plan).lv_name for job in jobs] == ["erp1-1", "erp1-2"]
    assert {job.started_by.uid for job in jobs} == {7}
    with pytest.raises(Refused) as caught:
        pair.engine.migrate(plan.id, {}, Caller())
    assert [reason.code for reason in caught.value.reasons] == ["job-exists", "job-exists"]
    told = caught.value.reasons[0].text
    assert "Let it end, or cancel it (p2vctl cancel " in told
    assert " --remove-target)" in told
    assert "etry" not in told  # which is for what failed


def test_a_record_names_the_disks_and_one_that_is_not_there_is_not_found(pair: Lab) -> None:
    pair.start()
    looked_at(pair)
    disks = (PassportDisk("sda", GIB, WWID), PassportDisk("sdb", GIB, SECOND_WWID))
    pair.services.store.put_passport(Passport("web7", disks=disks))
    plan = pair.engine.plan([], {"source-offline": True, "machine": "web7"}, Caller())
    assert (plan.machine_name, plan.passport) == ("web7", "web7")
    assert [disk.source.id for disk in plan.disks] == [WWID, SECOND_WWID]
    with pytest.raises(NotFound, match="web8"):
        pair.engine.plan([], {"machine": "web8"}, Caller())
    with pytest.raises(InvalidArgument):
        pair.engine.plan([], {}, Caller())


@pytest.mark.parametrize(
    ("state", "needed"),
    [
        (MachineState.COPYING, True),
        (MachineState.READY, True),
        (MachineState.ACCEPTING, True),
        (MachineState.REGISTERED, False),
        (MachineState.ROLLED_BACK, False),
    ],
)
def test_a_proven_disk_can_be_planned_again_once_its_machine_is_settled(
    pair: Lab, state: MachineState, needed: bool
) -> None:
    machine, job = machine_and_job()
    pair.board.add(replace(machine, state=state), (replace(job, stage=Stage.PROVEN),))
    pair.start()
    looked_at_all = pair.engine.inventory().sources
    assert looked_at_all
    if needed:
        with pytest.raises(Refused, match=f"its machine {state.value}"):
            plan_both(pair)
    else:
        looked_at(pair)
        assert len(plan_both(pair).disks) == 2
