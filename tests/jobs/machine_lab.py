"""A machine of several proven disks, its hypervisor and its array, all in memory but the store."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from p2vd.jobs.board import Board
from p2vd.jobs.events import Event
from p2vd.jobs.hooks import Hooks
from p2vd.jobs.looks import Looks
from p2vd.jobs.machine_desk import MachineDesk
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.disk import Source
from p2vd.model.errors import NotFound
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Machine, MachineState, Stage
from p2vd.model.lvm import Lv, Vg
from p2vd.model.plan import Cutover, DomainOptions, Plan
from p2vd.model.size import GIB
from p2vd.policy.model import PolicySet
from p2vd.provisioning.lvm import Volumes
from p2vd.registration.errors import DomainRunning, LibvirtUnreachable
from p2vd.system.command import Result
from tests.fakes import FakeCommands
from tests.jobs.values import disk_plan, lv_target, scsi_path, source

MACHINE = "22222222-2222-4222-8222-222222222222"
PATIENCE_S = 60.0


class Crash(BaseException):
    """The daemon is gone at this line."""


@dataclass
class Gate:
    """Every effect passes it, before it is made and after. At the `fatal`-th passage the daemon dies."""

    fatal: int = -1
    passed: int = 0

    def __call__(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.fatal:
            raise Crash


class GatedStore(Store):
    """The store, whose changes of machines pass the gate."""

    def __init__(self, path: Path, gate: Gate) -> None:
        super().__init__(path)
        self._gate = gate

    def change_machine(self, uuid: str, change: Callable[[Machine], Machine]) -> Machine:
        self._gate()
        machine = super().change_machine(uuid, change)
        self._gate()
        return machine


@dataclass
class FakeHypervisor:
    """Satisfies Hypervisor. `outages`: so many calls find nobody; `late`: so many are cut off when done."""

    gate: Gate
    domains: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    outages: int = 0
    late: int = 0
    refuses: list[Exception] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def define(self, xml: str, uuid: str) -> None:
        self._do("define", lambda: self.domains.setdefault(uuid, xml))

    def undefine(self, uuid: str) -> None:
        if uuid in self.running:
            raise DomainRunning("qemu:///system", "erp1", "runs")
        self._do("undefine", lambda: self.domains.pop(uuid, None))

    def start(self, uuid: str) -> None:
        self._do("start", lambda: self.running.add(uuid))

    def reach(self) -> None:
        """It can be."""

    def is_running(self, uuid: str) -> bool:
        return uuid in self.running

    def _do(self, verb: str, act: Callable[[], object]) -> None:
        self.asked.append(verb)
        self.gate()
        if self.outages:
            self.outages -= 1
            raise LibvirtUnreachable("qemu:///system", "Connection refused")
        if self.refuses:
            raise self.refuses.pop(0)
        act()
        if self.late:
            self.late -= 1
            raise LibvirtUnreachable("qemu:///system", "End of file while reading data")
        self.gate()


@dataclass
class Array(FakeCommands):
    """The sources with their maps and paths; commands change them as multipath and the kernel do."""

    gate: Gate = field(default_factory=Gate)
    sources: dict[str, Source] = field(default_factory=dict)
    opens: dict[str, int] = field(default_factory=dict)
    comes_back: bool = False

    def attach(self, *disks: Source) -> None:
        for disk in disks:
            self.sources[disk.id] = disk
            for path in disk.paths:
                self.on(f"/lib/udev/scsi_id -g -u -d /dev/{path.device}", f"{disk.wwid}\n")
        self.on("udevadm settle").on("dmsetup info", self._opens).on("multipath", self._multipath)
        self.on("sh", self._forget)

    def names(self) -> list[str]:
        """The changes, in short."""
        return [
            f"forget {Path(argv[-1]).parents[1].name}" if argv[0] == "sh" else " ".join(argv)
            for argv in self.changes
        ]

    def _opens(self, _: tuple[str, ...]) -> str:
        return "".join(f"{self.opens.get(one.name, 0)}:{one.name}\n" for one in self.sources.values())

    def _multipath(self, argv: tuple[str, ...]) -> str | Result:
        self.gate()
        for disk in list(self.sources.values()):
            if argv[1] == "-f" and disk.name == argv[2]:
                if self.opens.get(disk.name):
                    return Result(argv, 1, "", f"{disk.name}: map in use")
                self.sources[disk.id] = replace(disk, dm_uuid="", device=disk.paths[0].device)
            elif argv[1] == "-v1" and any(f"/dev/{path.device}" == argv[2] for path in disk.paths):
                self.sources[disk.id] = replace(disk, dm_uuid=f"mpath-{disk.wwid}", device="dm-9")
        self.gate()
        return ""

    def _forget(self, argv: tuple[str, ...]) -> str:
        self.gate()
        device = Path(argv[-1]).parents[1].name
        for disk in list(self.sources.values()):
            left = tuple(path for path in disk.paths if path.device != device)
            if left != disk.paths and not left and not self.comes_back:
                del self.sources[disk.id]
            elif left != disk.paths:
                self.sources[disk.id] = replace(disk, paths=left)
        self.gate()
        return ""


def wwid(number: int) -> str:
    return f"360014050000000000000000000000{number:03}"


def lun(number: int) -> Source:
    name = chr(ord("a") + number)
    paths = tuple(replace(scsi_path(f"sd{name}{half}"), wwid=wwid(number)) for half in "xy")
    return replace(
        source(),
        id=wwid(number),
        wwid=wwid(number),
        name=f"mpath{name}",
        device=f"dm-{number}",
        dm_uuid=f"mpath-{wwid(number)}",
        paths=paths,
    )


class MachineLab:
    """`state`: of the machine at first; `cutover` and `domain`: as its policy says."""

    def __init__(
        self,
        directory: Path,
        disks: int = 3,
        state: MachineState = MachineState.COPYING,
        cutover: Cutover = Cutover.AUTO,
        hooks: Hooks | None = None,
        domain: DomainOptions | None = None,
    ) -> None:
        self.path = directory / "state.db"
        self.gate = Gate()
        self.hypervisor = FakeHypervisor(self.gate)
        self.array = Array(gate=self.gate)
        self.array.attach(*(lun(number) for number in range(disks)))
        self.released: list[str] = []
        self.hooks = hooks or Hooks()
        self.policies = PolicySet()
        jobs = [self._job(number, disks) for number in range(disks)]
        domain = domain or DomainOptions()
        plan = Plan("0123456789abcdef", "erp1", tuple(job.plan for job in jobs), domain, (), cutover)
        machine = Machine(MACHINE, "erp1", state, tuple(job.uuid for job in jobs), plan.id, cutover=cutover)
        if state is MachineState.REGISTERED:
            machine = replace(machine, domain_uuid=MACHINE, handed_over=True)
            self.hypervisor.domains[MACHINE] = "<domain/>"
        self.vg = Vg("vg-uuid", "vg_san", GIB, GIB, 4 << 20, 512, lvs=tuple(map(self._lv, jobs)))
        store = Store(self.path)
        store.put_plan(plan)
        store.add(machine, tuple(jobs))
        store.close()
        self.boot()

    def boot(self) -> None:
        """Start the daemon's part that has the machine; what was only in memory is gone."""
        self.store = GatedStore(self.path, self.gate)
        self.board = Board(self.store)
        self.ended_tests: list[str] = []
        self.services = cast(
            Services,
            SimpleNamespace(
                board=self.board,
                store=self.store,
                host=self,
                libvirt=lambda uri: self.hypervisor,
                inventory=self,
                contents=SimpleNamespace(release=self.released.append),
                commands=self.array,
                volumes=Volumes(self.array, self.volume_group),
                pools=PoolWatch(self.array),
                policies=lambda: self.policies,
                sysfs=Path("/sys"),
                free_volumes=self.ended_tests.append,
                hooks=self.hooks,
                looks=Looks(),
            ),
        )
        self.desk = MachineDesk(self.services, first_wait_s=0.001)

    @staticmethod
    def _job(number: int, of: int) -> Job:
        plan = disk_plan()
        plan = replace(
            plan,
            source=replace(plan.source, id=wwid(number), wwid=wwid(number)),
            target=replace(lv_target(plan), lv_name=f"erp1-{number + 1}"),
            number=number + 1,
            of=of,
        )
        uuid = f"11111111-1111-4111-8111-1111111111{number:02}"
        return Job(uuid, MACHINE, plan, Stage.PROVEN, lv_uuid=f"lv-{number}", finished=True)

    @staticmethod
    def _lv(job: Job) -> Lv:
        tags = frozenset({f"p2vd.job={job.uuid}"})
        return Lv(
            job.lv_uuid, lv_target(job.plan).lv_name, job.plan.target.size_bytes, tags, "pool0", active=True
        )

    @property
    def machine(self) -> Machine:
        return self.board.machine(MACHINE)

    @property
    def jobs(self) -> Sequence[Job]:
        return self.board.machine_jobs(self.machine)

    def change(self, number: int, **changes: object) -> None:
        """Have one of the disks otherwise than proven."""
        self.board.change(self.machine.jobs[number], lambda job: replace(job, **changes))  # type: ignore[arg-type]

    # What the services ask of the host.

    def volume_group(self, uuid: str) -> Vg:
        if uuid != self.vg.uuid:
            raise NotFound("volume group", uuid)
        return self.vg

    def current(self) -> Inventory:
        return Inventory(tuple(self.array.sources.values()), (self.vg,))

    def fresh(self) -> Inventory:
        return self.current()


def settle(lab: MachineLab, act: Callable[[], object], *states: MachineState) -> None:
    """Do something, and wait until the machine is in one of the states."""
    reached = threading.Event()

    def hear(_: Event | None) -> None:
        if lab.machine.state in states:
            reached.set()

    lab.board.subscribe(hear)
    act()
    hear(None)
    assert reached.wait(PATIENCE_S), lab.machine
    lab.desk.stop(PATIENCE_S)
