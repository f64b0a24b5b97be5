"""Many clients and jobs: no signal is lost, what is read was told, and nobody suffers by one who sleeps."""

import itertools
import random
import time
from pathlib import Path
from typing import Any

import dbus
import pytest
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

from p2vd.bus.names import BUS_NAME, INTERFACES, JOB, MANAGER, OBJECT_MANAGER, PROPERTIES, ROOT
from p2vd.bus.views_work import COUNTERS
from tests.bus.harness import PATIENCE_S, Client
from tests.sim.conftest import Start
from tests.sim.fuzz import RawBus, blob, bus_call
from tests.sim.test_end_to_end import NONE, migrate, of, usable

JOBS, CLIENTS, CALLS_A_SECOND = 20, 50, 200
MIB = 1 << 20
# What the daemon's memory may differ by from a fifth of the time to its end. A leak of a kilobyte a call is
# 15 times that in ten minutes.
FLAT_BYTES = 8 * MIB
# Counters are told at most twice a second.
QUIET_S = 2.0

SCRIPT = f"""
luns = [{{ count = {JOBS}, size = "8 GiB" }}]
[[volume_group]]
name = "vg_san"
size = "1 TiB"
pool = {{ name = "pool0", size = "512 GiB" }}
[speed]
copy = "8 MiB"
"""


Objects = dict[str, dict[str, dict[str, Any]]]


class Mirror:
    """A client that keeps what it was told, and asks."""

    def __init__(self, address: str) -> None:
        self.connection = dbus.bus.BusConnection(address, mainloop=DBusGMainLoop())
        self.known: Objects = {}
        self.differences: list[str] = []
        self.answers = 0
        self.connection.add_signal_receiver(
            self._changed, "PropertiesChanged", PROPERTIES, BUS_NAME, path_keyword="path"
        )
        self.connection.add_signal_receiver(self._added, "InterfacesAdded", OBJECT_MANAGER, BUS_NAME)
        self.connection.add_signal_receiver(self._removed, "InterfacesRemoved", OBJECT_MANAGER, BUS_NAME)
        self.known = self.objects()

    def objects(self) -> Objects:
        """All that there is now."""
        found = self.connection.call_blocking(
            BUS_NAME, ROOT, OBJECT_MANAGER, "GetManagedObjects", "", (), timeout=PATIENCE_S
        )
        return {
            str(path): {str(name): dict(values) for name, values in own.items() if name in INTERFACES}
            for path, own in found.items()
        }

    def _changed(self, interface: str, values: dict[str, Any], _: Any, path: str) -> None:
        if path in self.known:
            self.known[path][str(interface)].update(values)

    def _added(self, path: str, own: dict[str, Any]) -> None:
        self.known[str(path)] = {str(name): dict(values) for name, values in own.items()}

    def _removed(self, path: str, _: Any) -> None:
        self.known.pop(str(path), None)

    def ask(self, job: str, name: str) -> None:
        """Read a property, and compare it with what signals said: they came before the answer."""

        def answered(value: Any) -> None:
            self.answers += 1
            told = self.known[job][JOB][name]
            if told != value:
                self.differences.append(f"{name} of {job} is {value}, signals said {told}")

        def failed(error: dbus.DBusException) -> None:
            self.answers += 1
            self.differences.append(f"{name} of {job}: {error}")

        self.connection.call_async(
            BUS_NAME, job, PROPERTIES, "Get", "ss", (JOB, name), answered, failed, timeout=PATIENCE_S
        )

    def unequal(self, now: Objects) -> list[str]:
        """Where what signals said is not what is there."""
        return [
            f"{path} {interface}.{name}: {self.known.get(path, {}).get(interface, {}).get(name)}, not {value}"
            for path, own in now.items()
            for interface, values in own.items()
            for name, value in values.items()
            if self.known.get(path, {}).get(interface, {}).get(name) != value
        ]


def resident_bytes(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line)
    return int(line.split()[1]) * 1024


def sleeper(address: str) -> RawBus:
    """A client that wants every signal and asks for everything, and never reads its socket."""
    raw = RawBus(address)
    rule = GLib.Variant("(s)", (f"type='signal',sender='{BUS_NAME}'",))
    raw.send(bus_call("AddMatch", rule, serial=2))
    for serial in range(3, 103):  # the bus has a limit of 128 at a time
        raw.send(blob(BUS_NAME, ROOT, OBJECT_MANAGER, "GetManagedObjects", serial=serial))
    return raw


def listen(seconds: float) -> None:
    """Take what comes, for so long."""
    over: list[bool] = []
    GLib.timeout_add(int(seconds * 1000), lambda: over.append(True))
    while not over:
        GLib.MainContext.default().iteration(True)


@pytest.mark.campaign
def test_fifty_clients_twenty_jobs_and_one_who_never_reads(
    start: Start, client: Client, bus_address: str, campaign_seed: int, request: pytest.FixtureRequest
) -> None:
    seconds = 600 if request.config.getoption("--full") else 6
    daemon = start(SCRIPT, max_jobs=JOBS)
    begun = [migrate(client, source, f"m{number}") for number, source in enumerate(usable(client))]
    jobs = [job for _, job in begun]
    client.until(lambda: all(own["Activity"] == "running" for own in of(client, JOB).values()))
    asleep = sleeper(bus_address)
    mirrors = [Mirror(bus_address) for _ in range(CLIENTS)]
    turns, chance = itertools.cycle(mirrors), random.Random(campaign_seed)
    names = sorted(set(mirrors[0].known[jobs[0]][JOB]) - COUNTERS)
    asked, memory = 0, 0
    began = time.monotonic()
    context = GLib.MainContext.default()
    woken = GLib.timeout_add(5, lambda: True)
    while (now := time.monotonic() - began) < seconds or not memory:
        while asked < now * CALLS_A_SECOND:
            asked += 1
            if asked % 50 == 0:  # something that signals have to tell
                verb = "Resume" if asked % 100 == 0 else "Pause"
                client.call(chance.choice(jobs), JOB, verb, "a{sv}", NONE)
            next(turns).ask(chance.choice(jobs), chance.choice(names))
        context.iteration(True)
        if not memory and now > seconds / 5:
            memory = resident_bytes(daemon.pid)
    GLib.source_remove(woken)
    client.until(lambda: sum(mirror.answers for mirror in mirrors) == asked)
    grown = resident_bytes(daemon.pid) - memory
    assert [line for mirror in mirrors for line in mirror.differences] == []
    for job in jobs:
        client.call(job, JOB, "Pause", "a{sv}", NONE)
    client.until(lambda: all(own["Activity"] == "idle" for own in of(client, JOB).values()))
    listen(QUIET_S)
    # Counters are told twice a second at most, and on a busy machine later.
    client.until(lambda: not [line for mirror in mirrors for line in mirror.unequal(mirrors[0].objects())])
    assert grown < FLAT_BYTES
    assert "simulation" in client.get(ROOT, MANAGER, "Version")
    asleep.close()
    for mirror in mirrors:
        mirror.connection.close()
