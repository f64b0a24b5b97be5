"""What a job needs from the other rooms, gathered once by the daemon."""

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from p2vd.config import Config
from p2vd.jobs.again import Again
from p2vd.jobs.bandwidth import Bandwidth
from p2vd.jobs.board import Board
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.directory_looks import DirectoryLooks
from p2vd.jobs.directory_watch import DirectoryWatch
from p2vd.jobs.export_watch import ExportWatch
from p2vd.jobs.hooks import Hooks
from p2vd.jobs.image_looks import ImageLooks
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.looks import Looks
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.store import Store
from p2vd.model.boot_test import BootReport, BootRequest
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import InvalidArgument
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job
from p2vd.model.lvm import Vg
from p2vd.policy.model import PolicySet
from p2vd.provisioning.files import Files
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.quarantine import Quarantine
from p2vd.registration.files import FileHypervisor
from p2vd.system.clock import Clock, SystemClock
from p2vd.system.command import Commands, SystemCommands
from p2vd.system.process import Spawn, spawn


class HostView(Protocol):
    """Looks at the host; discovery is one."""

    def scan(self) -> Inventory:
        """Return what is there now."""
        ...

    def refresh(self, names: Collection[str], /) -> Inventory:
        """Return what is there now, after changes of the devices `names` and no others."""
        ...

    def host_facts(self) -> HostFacts:
        """Return what of the host's settings the doctor judges, read now."""
        ...

    def volume_group(self, uuid: str) -> Vg:
        """Return one volume group, read now. Raises NotFound."""
        ...


class Hypervisor(Protocol):
    """Takes machines; registration's Libvirt is one."""

    def define(self, xml: str, uuid: str) -> None:
        """Define the domain of `xml`, whose UUID is `uuid`; idempotent."""
        ...

    def undefine(self, uuid: str) -> None:
        """Undefine the domain that was defined as `uuid`; its disks stay. Raises DomainRunning."""
        ...

    def start(self, uuid: str) -> None:
        """Start the domain that was defined as `uuid`; idempotent."""
        ...

    def is_running(self, uuid: str) -> bool:
        """Whether the domain that was defined as `uuid` runs; False where there is none."""
        ...

    def reach(self) -> None:
        """Connect to it and do nothing; may hang. Raises what keeps it from being asked."""
        ...


class BootTester(Protocol):
    """Starts a machine for a test; registration's is one."""

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        """Start it from throw-away overlays, watch it, end it; `stop` ends it early."""
        ...


class NoBootTests:
    """A host that starts no machines."""

    def run(self, request: BootRequest, stop: threading.Event) -> BootReport:
        """Refuse."""
        raise InvalidArgument(f"machine {request.machine.name}", "this p2vd starts no machines for a test.")


def _no_scsi(place: str) -> None:
    raise InvalidArgument(f"place {place!r}", "this p2vd has no SCSI hosts to scan.")


def _no_looks() -> ImageLooks:
    return ImageLooks(spawn, (0, 0), lambda: None)


def _no_exports() -> ExportWatch:
    return ExportWatch(spawn, (0, 0), tuple, frozenset, lambda: None)


@dataclass(frozen=True)
class Services:
    """The daemon's parts, as jobs see them. `look_for_luns` has the kernel scan for LUNs in a place.

    `files` makes the one that takes machines as files, of a tool and a directory.
    `extend_pool` has the pool of a job that is short extended, where its policy says so, and returns what is
    to be said of that. `free_volumes` ends the boot test and verifications of a machine, if any run, and
    waits until its volumes are free. `image_files` makes the files that disks become; `directories` shares
    their filesystems out, and `directory_looks` looks at them for plans. `images` looks into image files,
    `exports` asks NBD servers. `again` tries again what cannot be begun now.
    """

    config: Config
    store: Store
    board: Board
    inventory: InventoryKeeper
    contents: ContentsKeeper
    host: HostView
    commands: Commands
    volumes: Volumes
    quarantine: Quarantine
    pools: PoolWatch
    libvirt: Callable[[str], Hypervisor]
    policies: Callable[[], PolicySet]
    worker_ids: tuple[int, int]
    spawn: Spawn
    sysfs: Path = Path("/sys")
    look_for_luns: Callable[[str], None] = _no_scsi
    clock: Clock = field(default_factory=SystemClock)
    files: Callable[[str, Path], FileHypervisor] = FileHypervisor
    boot_tester: BootTester = field(default_factory=NoBootTests)
    free_volumes: Callable[[str], None] = lambda _: None
    image_files: Files = field(default_factory=lambda: Files(SystemCommands()))
    directories: DirectoryWatch = field(default_factory=DirectoryWatch)
    directory_looks: DirectoryLooks = field(default_factory=DirectoryLooks)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    extend_pool: Callable[[Job], str] = lambda _: ""
    hooks: Hooks = field(default_factory=Hooks)
    looks: Looks = field(default_factory=Looks)
    images: ImageLooks = field(default_factory=_no_looks)
    exports: ExportWatch = field(default_factory=_no_exports)
    again: Again = field(default_factory=Again)

    def job_directory(self, job: Job) -> Path:
        """Where a job keeps its checkpoint and its receipt."""
        return self.config.state_dir / "jobs" / job.uuid
