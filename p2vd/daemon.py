"""p2vd, the daemon: puts the rooms together, and nothing else."""

import argparse
import logging
import pwd
import signal
import sys
import threading
from pathlib import Path

import dbus
import dbus.mainloop.glib
from gi.repository import GLib

from p2vd import __version__
from p2vd.bus.polkit import Polkit
from p2vd.bus.service import Service
from p2vd.config import Config, load, policy_texts, show
from p2vd.discovery.scanner import Discovery
from p2vd.discovery.watcher import Watcher
from p2vd.jobs.board import Board
from p2vd.jobs.engine import Engine
from p2vd.jobs.inventory_keeper import InventoryKeeper
from p2vd.jobs.policies import PolicyKeeper
from p2vd.jobs.pool_watch import PoolWatch
from p2vd.jobs.services import Services
from p2vd.jobs.store import Store
from p2vd.model.errors import P2vdError
from p2vd.provisioning.lvm import Volumes
from p2vd.provisioning.quarantine import Quarantine
from p2vd.registration.libvirt_domain import Libvirt
from p2vd.system import notify
from p2vd.system.command import SystemCommands

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path("/etc/p2vd/p2vd.toml")
_FIRST_SCAN_S = 20


def main() -> int:
    """Run `p2vd`; returns the exit status: 0 stopped, 1 could not start."""
    parser = argparse.ArgumentParser(prog="p2vd", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="configuration file")
    parser.add_argument("--show-config", action="store_true", help="print what is in force and exit")
    parser.add_argument("--check-config", action="store_true", help="check configuration and policies, exit")
    parser.add_argument("--version", action="version", version=f"p2vd {__version__}")
    options = parser.parse_args()
    try:
        config = load(options.config)
        if options.show_config:
            print(show(config), end="")
            return 0
        if options.check_config:
            return _check(config)
        _log_to_stderr(config)
        return _serve(config)
    except P2vdError as error:
        print(f"p2vd: {error}", file=sys.stderr)
        return 1


def _check(config: Config) -> int:
    errors = PolicyKeeper(lambda: policy_texts(config)).reload()
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


def _log_to_stderr(config: Config) -> None:
    # Under systemd standard error is the journal, which adds time and unit.
    logging.basicConfig(
        level=config.log_level.upper(), format="%(levelname)s %(threadName)s %(name)s: %(message)s"
    )


def build(config: Config) -> tuple[Engine, Services]:
    """Return the engine and its parts, as `config` says; nothing runs yet."""
    state = config.state_dir
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    commands = SystemCommands()
    host = Discovery(commands)
    store = Store(state / "state.db")
    policies = PolicyKeeper(lambda: policy_texts(config))
    user = pwd.getpwnam(config.worker_user)
    engine: Engine

    inventory = InventoryKeeper(host, lambda seen: engine.inventory_changed(seen))
    services = Services(
        config=config,
        store=store,
        board=Board(store),
        inventory=inventory,
        host=host,
        commands=commands,
        volumes=Volumes(commands, host.volume_group),
        quarantine=Quarantine(config.quarantine_dir),
        pools=PoolWatch(commands),
        libvirt=Libvirt,
        policies=policies.current,
        worker_ids=(user.pw_uid, user.pw_gid),
    )
    engine = Engine(services, policies)
    return engine, services


def _serve(config: Config) -> int:
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    loop = GLib.MainLoop()
    engine, services = build(config)
    connection = dbus.SystemBus()
    failed: list[str] = []

    def fail(why: str) -> None:
        failed.append(why)
        loop.quit()

    def lost() -> None:
        fail("the connection to the system bus was lost")

    def stop_workers() -> None:
        engine.stop()
        GLib.idle_add(loop.quit)

    def stop() -> bool:
        notify.stopping()
        # Not on this thread: the bus answers while the workers commit their last checkpoints.
        threading.Thread(target=stop_workers, name="stop").start()
        return False

    def reload() -> bool:
        engine.reload()
        return True

    def alive() -> bool:
        notify.alive()
        return True

    engine.reload()
    service = Service(engine, connection, Polkit(connection), __version__, lost)
    watcher = Watcher(services.inventory.mark_dirty)
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, stop)
    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGHUP, reload)
    if interval := notify.watchdog_interval_s():
        GLib.timeout_add(int(interval * 1000), alive)
    watcher.start()
    engine.start()

    def publish() -> bool:
        if not published:
            try:
                service.start()
            except P2vdError as error:
                fail(str(error))
                return False
            published.append(True)
            notify.ready("running")
            log.info("p2vd %s is ready", __version__)
        return False

    # A client that was just told `ready` finds the sources there; a disk that hangs delays that, not more.
    published: list[bool] = []
    engine.rescan(lambda _: GLib.idle_add(publish))
    GLib.timeout_add_seconds(_FIRST_SCAN_S, publish)
    loop.run()
    engine.stop()
    if published:
        service.stop()
    watcher.stop()
    services.store.close()
    if failed:
        log.error("%s", failed[0])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
