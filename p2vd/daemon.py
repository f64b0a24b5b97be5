"""p2vd, the daemon: puts the rooms together, and nothing else."""

import argparse
import gc
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

from p2vd import __version__
from p2vd.bus.polkit import Polkit
from p2vd.bus.port import Authority
from p2vd.bus.service import Service
from p2vd.bus.timer import later
from p2vd.config import DEFAULT_PATH, Config, load, policy_texts, show
from p2vd.discovery.dm import open_counts
from p2vd.discovery.iscsi import list_sessions
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.discovery.scanner import Discovery
from p2vd.discovery.scsi_scan import look_for_luns
from p2vd.discovery.watcher import EventSource, Watcher, block_events
from p2vd.jobs.again import Again
from p2vd.jobs.audit_journal import Journal
from p2vd.jobs.audit_trail import AuditTrail
from p2vd.jobs.bandwidth import Bandwidth
from p2vd.jobs.board import Board
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.disk_helper import Helper
from p2vd.jobs.engine import Engine
from p2vd.jobs.form_helper import FormHelper
from p2vd.jobs.form_scanner import FormScanner
from p2vd.jobs.hooks import Hooks
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.late_changes import late_changes
from p2vd.jobs.lun_rescan import LunRescan
from p2vd.jobs.lun_use import LunUse
from p2vd.jobs.places import claims
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.pool_extension import PoolExtender
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.portal_live import PortalTools
from p2vd.jobs.portal_remove import PortalRemoval
from p2vd.jobs.portals import Portals
from p2vd.jobs.records import Records
from p2vd.jobs.services import BootTester, Hypervisor, Services
from p2vd.jobs.store import Store
from p2vd.model.disk import Portal
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.portal import Route
from p2vd.policy.parse import load as load_policies
from p2vd.provisioning.files import Files
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.quarantine import Quarantine
from p2vd.registration.boot_test import BootTester as QemuBootTester
from p2vd.registration.files import FileHypervisor
from p2vd.system import journal, memory, notify
from p2vd.system.caller import unit_of
from p2vd.system.clock import Clock, SystemClock, boot_id
from p2vd.system.command import Commands, SystemCommands
from p2vd.system.exclusive import Exclusive
from p2vd.system.process import Spawn, spawn
from p2vd.system.threads import start_or_run, start_or_skip

if TYPE_CHECKING:
    from p2vd.sim.world import World

log = logging.getLogger(__name__)

_ABOUT = "Moves the disks of physical machines onto LVM volumes of a SAN, with proof."
_FIRST_SCAN_S = 20
_TIDY_S = 3600


@dataclass(frozen=True)
class Doors:
    """What the daemon reaches its host by, real or simulated. `root`: where /sys, /proc, /etc, /run are;
    `files_root`: where the directories for files are. `may_lack_hooks`: the directory of hooks was not
    named by anybody.
    """

    commands: Commands
    events: Callable[[], EventSource]
    spawn: Spawn
    examiner: Callable[[], Helper]
    libvirt: Callable[[str], Hypervisor]
    worker_ids: tuple[int, int]
    connect: Callable[[], Any]
    authority: Callable[[Any], Authority]
    route_to: Callable[[Portal, str], Route]
    boot_tester: BootTester
    files: Callable[[str, Path], FileHypervisor]
    version: str = __version__
    root: Path = Path("/")
    files_root: Path = Path("/")
    clock: Clock = field(default_factory=SystemClock)
    journal: Journal | None = None
    may_lack_hooks: bool = False


def main() -> int:
    """Run `p2vd`; returns the exit status: 0 stopped, 1 could not start."""
    parser = argparse.ArgumentParser(prog="p2vd", description=_ABOUT, epilog="Manual: p2vd(8).")
    parser.add_argument("--config", type=Path, help=f"configuration file, not {DEFAULT_PATH}")
    parser.add_argument("--show-config", action="store_true", help="print what is in force and exit")
    parser.add_argument("--check-config", action="store_true", help="check configuration and policies, exit")
    parser.add_argument("--version", action="version", version=f"p2vd {__version__}")
    parser.add_argument(
        "--sim", nargs="?", const="", metavar="SCRIPT", help="simulate a SAN: a scenario's name, or a file"
    )
    parser.add_argument("--state-dir", type=Path, help="of the simulation, which writes nowhere else")
    parser.add_argument("--bus-address", default="", metavar="ADDRESS", help="bus to simulate on")
    options = parser.parse_args()
    if options.sim is None and (options.state_dir or options.bus_address):
        parser.error("--state-dir and --bus-address are for --sim; p2vd itself is told by its configuration")
    if options.sim is not None and not options.state_dir:
        parser.error("--sim needs --state-dir DIR: a simulation writes nowhere but there")
    if options.sim is not None and not (options.bus_address or "DBUS_SYSTEM_BUS_ADDRESS" in os.environ):
        parser.error(
            "--sim needs a bus of its own: --bus-address, for example $DBUS_SESSION_BUS_ADDRESS, "
            "or DBUS_SYSTEM_BUS_ADDRESS in the environment"
        )
    try:
        config = load(options.config or (None if options.sim is None else Path(os.devnull)))
        if options.show_config:
            print(show(config), end="")
            return 0
        if options.check_config:
            return _check(config)
        _log_to_stderr(config)
        if options.sim is None:
            return serve(config, real_doors(config))
        own = (options.state_dir / "policy.d",) if options.config is None else config.policy_dirs
        config, doors, _ = simulation(
            replace(config, policy_dirs=own),
            Path(options.sim) if options.sim else None,
            options.state_dir.absolute(),
            options.bus_address,
        )
        return serve(config, doors)
    except P2vdError as error:
        print(f"p2vd: {error}", file=sys.stderr)
        return 1


def _check(config: Config) -> int:
    errors = load_policies(policy_texts(config)).errors
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


def _log_to_stderr(config: Config) -> None:
    # Under systemd standard error is the journal, which adds time and unit.
    logging.basicConfig(
        level=config.log_level.upper(), format="%(levelname)s %(threadName)s %(name)s: %(message)s"
    )


def real_doors(config: Config) -> Doors:
    """Return the doors to this host."""
    user = pwd.getpwnam(config.worker_user)
    commands = SystemCommands()
    return Doors(
        commands=commands,
        events=block_events,
        spawn=spawn,
        examiner=partial(FormHelper, (user.pw_uid, user.pw_gid)),
        libvirt=_libvirt,
        worker_ids=(user.pw_uid, user.pw_gid),
        connect=dbus.SystemBus,
        authority=Polkit,
        route_to=_route_to,
        boot_tester=QemuBootTester(commands),
        files=FileHypervisor,
        journal=journal,
    )


def _libvirt(uri: str) -> Hypervisor:
    # Here and not above: libvirt's libraries are a quarter of an idle daemon's memory.
    from p2vd.registration.libvirt_domain import Libvirt

    return Libvirt(uri)


def _route_to(portal: Portal, nic: str) -> Route:
    # Here and not above: pyroute2 takes two thirds of the daemon's start.
    from p2vd.discovery import nics

    return nics.route_to(portal, nic)


def simulation(
    config: Config, script: Path | None, state_dir: Path, bus_address: str
) -> tuple[Config, Doors, "World"]:
    """Return a simulated SAN, its doors, and `config` with all that is written below `state_dir`.

    Raises ScriptInvalid, StateUnusable.
    """
    # Here and not above: a daemon on a host knows nothing of it.
    from p2vd.sim.script import load as load_script
    from p2vd.sim.world import World

    world = World(load_script(script), state_dir / "sim")
    config = replace(
        config,
        state_dir=state_dir,
        quarantine_dir=state_dir / "quarantine.d",
        hooks_dir=state_dir / "hooks.d",
        image_directories=(),  # this host's images are no disks of the simulated one
    )
    world.write_policy(config.policy_dirs[0])
    doors = Doors(
        commands=world.commands,
        events=lambda: world.uevents,
        spawn=world.processes.spawn,
        examiner=world.examiner,
        libvirt=world.libvirt,
        worker_ids=world.worker_ids,
        connect=(lambda: dbus.bus.BusConnection(bus_address)) if bus_address else dbus.SystemBus,
        authority=lambda connection: world.authority(Polkit(connection)),
        version=f"{__version__} (simulation)",
        route_to=world.route_to,
        boot_tester=world.boot_tester,
        files=world.files,
        root=world.root,
        files_root=world.files_of_jobs.root,
        may_lack_hooks=True,
    )
    return config, doors, world


def build(config: Config, doors: Doors) -> tuple[Engine, Services]:
    """Return the engine and its parts, as `config` says; nothing runs yet. Raises DirectoryTaken."""
    state = config.state_dir
    commands, sysfs = doors.commands, doors.root / "sys"
    host = Discovery(commands, sysfs, doors.root / "proc", doors.root, config.image_directories)
    store = Store(state / "state.db", Exclusive(state))
    board = Board(store)
    policies = PolicyKeeper(lambda: policy_texts(config))
    trail = AuditTrail(store, state / "audit", config.audit, unit_of, doors.journal)
    volumes = Volumes(commands, host.volume_group, late_changes(commands, board))
    pools = PoolWatch(commands)
    extender = PoolExtender(commands, volumes, host.volume_group, pools, trail.note_pool, doors.clock)
    engine: Engine
    may_lack_hooks = doors.may_lack_hooks or config.hooks_dir == Config.hooks_dir
    more = (doors.spawn, doors.worker_ids, policies.current, board, doors.clock, state)
    scanner = FormScanner.over(host, *more, lambda: inventory.mark_dirty(()))  # no device has changed
    inventory = InventoryKeeper(scanner, lambda seen, changed: engine.inventory_changed(seen, changed))
    services = Services(
        config=config,
        store=store,
        board=board,
        inventory=inventory,
        images=scanner.images,
        exports=scanner.exports,
        contents=ContentsKeeper(doors.examiner, lambda ids: engine.contents_changed(ids)),
        host=host,
        commands=commands,
        volumes=volumes,
        quarantine=Quarantine(config.quarantine_dir, sysfs),
        pools=pools,
        libvirt=doors.libvirt,
        policies=policies.current,
        worker_ids=doors.worker_ids,
        spawn=doors.spawn,
        sysfs=sysfs,
        look_for_luns=partial(look_for_luns, commands, sysfs=sysfs),
        clock=doors.clock,
        files=doors.files,
        boot_tester=doors.boot_tester,
        image_files=Files(commands, doors.files_root),
        free_volumes=lambda uuid: engine.free_volumes(uuid),
        bandwidth=Bandwidth(config.limits.bandwidth_bytes_per_s, doors.clock),
        extend_pool=extender.want,
        hooks=Hooks(config.hooks_dir, config.hook_timeout_s, os.geteuid(), trail.note_hook, may_lack_hooks),
        again=Again(later),
    )
    records = Records(trail, state / "jobs", services.board)
    engine = Engine(services, policies, _portals(services, doors), records)
    return engine, services


def _portals(services: Services, doors: Doors) -> Portals:
    commands, inventory, sysfs = services.commands, services.inventory, services.sysfs
    iscsiadm = Iscsiadm(commands, doors.root / "etc/iscsi", doors.root / "run/p2vd", sysfs)
    release, sessions = services.contents.release, partial(list_sessions, sysfs)

    def use(seen: Inventory) -> LunUse:
        board = services.board
        return LunUse(seen, services.policies(), board.jobs(), open_counts(commands), claims(board))

    tools = PortalTools(
        iscsiadm,
        sessions,
        LunRescan(commands, iscsiadm, sessions, inventory.fresh, use, release),
        PortalRemoval(commands, inventory.fresh, use, release),
        inventory.current,
        doors.route_to,
        boot_id(),
    )
    return Portals(tools, services.store, services.board.publish, again=services.again)


def serve(config: Config, doors: Doors) -> int:
    """Be the daemon until it is told to stop; returns the exit status."""
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    engine, services = build(config, doors)
    connection = doors.connect()
    failed: list[str] = []

    def fail(why: str) -> None:
        failed.append(why)
        loop.quit()

    def stop_workers() -> None:
        try:
            engine.stop()
        finally:
            GLib.idle_add(loop.quit)

    def stop() -> bool:
        notify.stopping()
        # Not on this thread where there is another: the bus answers while workers commit their last ones.
        start_or_run(stop_workers, "stop")
        return False

    def reload() -> bool:
        engine.reload()
        return True

    def alive() -> bool:
        notify.alive()
        return True

    def tidy() -> bool:
        start_or_skip(engine.tidy, "tidy")
        return True

    engine.records.audit.start(doors.version)
    engine.reload()
    lost = partial(fail, "the connection to the system bus was lost")
    service = Service(engine, connection, doors.authority(connection), doors.version, lost, memory.give_back)
    watcher = Watcher(services.inventory.mark_dirty, doors.events())
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, stop)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGHUP, reload)
    if interval := notify.watchdog_interval_s():
        GLib.timeout_add(int(interval * 1000), alive)
    watcher.start()

    def publish() -> bool:
        if not published:
            try:
                service.start()
            except P2vdError as error:
                fail(str(error))
                return False
            published.append(True)
            # What is there now stays: else each collection walks all of it, and nobody is answered meanwhile.
            gc.collect()
            gc.freeze()
            notify.ready("running")
            log.info("p2vd %s is ready", doors.version)
        return False

    # A client that was just told `ready` finds the sources there; a disk that hangs delays that, not more.
    published: list[bool] = []
    engine.rescan(lambda _: GLib.idle_add(publish))
    engine.start()
    tidy()
    GLib.timeout_add_seconds(_FIRST_SCAN_S, publish)
    GLib.timeout_add_seconds(_TIDY_S, tidy)
    loop.run()
    engine.stop()
    if published:
        service.stop()
    watcher.stop()
    engine.records.audit.stop()
    services.store.close()
    if failed:
        log.error("%s", failed[0])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
