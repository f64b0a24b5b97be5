"""A machine whose one disk is proven, with its services; what LVM reports is what a test says."""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from p2vd.config import Config
from p2vd.jobs.board import Board
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.services import BootTester, NoBootTests, Services
from p2vd.jobs.store import Store
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import NotFound
from p2vd.model.inventory import Inventory
from p2vd.model.job import MachineState, Stage
from p2vd.model.lvm import Lv, Pv, ThinPool, Vg
from p2vd.model.size import GIB, MIB
from p2vd.policy.model import PolicySet
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.quarantine import Quarantine
from p2vd.system.process import spawn
from tests.fakes import FakeCommands
from tests.jobs.fake_disks import Disks
from tests.jobs.values import machine_and_job, plan

MACHINE, JOB = machine_and_job()


class Hypervisor:
    """Knows whether the one domain runs."""

    def __init__(self) -> None:
        self.running = False

    def define(self, xml: str, uuid: str) -> None: ...

    def undefine(self, uuid: str) -> None: ...

    def start(self, uuid: str) -> None: ...

    def reach(self) -> None:
        """It can be."""

    def is_running(self, uuid: str) -> bool:
        return self.running


class ProvenMachine:
    """The machine, its host's view of its volume `lv`, and the services around both."""

    def __init__(
        self, directory: Path, state: MachineState = MachineState.REGISTERED, tester: BootTester | None = None
    ) -> None:
        tags = frozenset({f"p2vd.job={JOB.uuid}"})
        self.lv = Lv("lv-uuid", "erp1", GIB, pool="pool0", tags=tags, active=True)
        self.others: tuple[Lv, ...] = ()
        self.absent = False
        self.pool_health = ""
        self.commands = FakeCommands()
        self.hypervisor = Hypervisor()
        self.services = self._services(directory, tester or NoBootTests())
        self.board = self.services.board
        job = replace(JOB, stage=Stage.PROVEN, lv_uuid=self.lv.uuid)
        self.services.store.put_plan(plan())
        if not self.board.machines():
            self.board.add(replace(MACHINE, state=state, domain_uuid=MACHINE.uuid), (job,))

    def _services(self, directory: Path, tester: BootTester) -> Services:
        store = Store(directory / "state.db")
        return Services(
            config=Config(state_dir=directory),
            store=store,
            board=Board(store),
            inventory=InventoryKeeper(self, lambda *_: None),
            contents=ContentsKeeper(Disks().start, lambda _: None),
            host=self,
            commands=self.commands,
            volumes=Volumes(self.commands, self.volume_group),
            quarantine=Quarantine(directory / "quarantine", directory / "sys"),
            pools=PoolWatch(self.commands),
            libvirt=lambda _: self.hypervisor,
            policies=PolicySet,
            worker_ids=(os.getuid(), os.getgid()),
            spawn=spawn,
            boot_tester=tester,
        )

    def scan(self) -> Inventory:
        return Inventory()

    def refresh(self, names: Collection[str]) -> Inventory:
        return Inventory()

    def host_facts(self) -> HostFacts:
        return HostFacts()

    def volume_group(self, uuid: str) -> Vg:
        if self.absent:
            raise NotFound("volume group", uuid)
        pv = Pv("pv-uuid", "/dev/mapper/mpathb", 10 * GIB, 5 * GIB)
        lvs = (self.lv, *self.others)
        pool = ThinPool("pool-uuid", "pool0", 5 * GIB, 64 << 10, True, 20.0, 1.0, GIB, self.pool_health)
        return Vg(
            "vg-uuid", "vg_san", 10 * GIB, 5 * GIB, 4 * MIB, 512, pvs=(pv,), lvs=lvs, thin_pools=(pool,)
        )
