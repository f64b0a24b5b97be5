"""What the service manager is told: ready, alive, stopping (sd_notify(3))."""

import os

from systemd import daemon


def ready(status: str) -> None:
    """The daemon answers on the bus."""
    daemon.notify(f"READY=1\nSTATUS={status}")


def status(status: str) -> None:
    """Say in one line what the daemon does, for `systemctl status`."""
    daemon.notify(f"STATUS={status}")


def alive() -> None:
    """The main loop turns: feed the watchdog."""
    daemon.notify("WATCHDOG=1")


def stopping() -> None:
    """The daemon ends."""
    daemon.notify("STOPPING=1")


def watchdog_interval_s() -> float:
    """Return how often `alive` is due: half of what systemd allows; 0 where it does not watch."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
