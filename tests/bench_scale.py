"""The daemon at scale, over the simulator: prints figures beside their goals, for the README's limits table.

    .venv/bin/python -m tests.bench_scale [--luns 2000] [--paths 4] [--idle 60] [--rounds 9] [--directory DIR]

Everything is as on a host but for the devices and commands: files like sysfs' (put DIR on a tmpfs), a bus
of its own, a client that hears signals. Commands answer at once here; what the real ones take comes on top.
On a shared machine figures vary: the load is printed, and CPU seconds beside wall time where it matters;
`chrt -f 1` in front keeps others from slowing it down.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dbus

from p2vd.bus.names import JOB, MACHINE, MANAGER, ROOT, SOURCE, object_path
from p2vd.model.size import GIB, MIB, format_size
from tests.bus.harness import Client, private_bus
from tests.sim.harness import Simulated

_STORM = 10_000
_JOBS = 20
_NONE = dbus.Dictionary({}, signature="sv")
_WAVE = 200
_QUIET_S = 0.5  # the watcher's, before it tells of a burst


@dataclass(frozen=True)
class Figure:
    """One line: what was measured, what it shall be below, and the unit of both."""

    what: str
    value: float
    goal: float
    unit: str

    def __str__(self) -> str:
        goal = f"{self.goal:g} {self.unit}" if self.goal else "-"
        verdict = "" if not self.goal else "met" if self.value < self.goal else "MISSED"
        return f"{self.what:58} {self.value:10.1f} {self.unit:8} {goal:>12}  {verdict}"


def script(luns: int, paths: int) -> str:
    """The SAN: two LUNs of it are the PVs of one volume group."""
    return f"""
luns = [{{ count = {luns - 2}, paths = {paths}, size = "100 GiB" }}]
[[volume_group]]
name = "vg_san"
luns = 2
paths = {paths}
size = "20 TiB"
pool = {{ size = "15 TiB" }}
"""


def status(pid: int, field: str) -> int:
    """A number of /proc/PID/status; of kB, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            number, *unit = value.split()
            return int(number) * (1024 if unit else 1)
    raise KeyError(field)


def wakeups(pid: int) -> int:
    """How often the process's threads have been woken."""
    tasks = Path(f"/proc/{pid}/task").glob("*/status")
    lines = (line for task in tasks for line in task.read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def cpu_s(pid: int) -> float:
    """CPU seconds of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_inventory(daemon: Simulated) -> Iterator[Figure]:
    """From the daemon's start to its objects on the bus."""
    times = daemon.tell("times")
    yield Figure("first inventory (every LUN on the bus)", times["published"] - times["began"], 5, "s")
    yield Figure("  of it CPU of the daemon", times["cpu"], 0, "s")
    yield Figure("daemon, most memory so far (VmHWM)", status(daemon.pid, "VmHWM") / MIB, 200, "MiB")


def changes(daemon: Simulated, client: Client, wwids: list[str], rounds: int) -> Iterator[Figure]:
    """One LUN grows: from its uevent to PropertiesChanged, without the watcher's wait for more events."""
    taken, cpu = [], []
    for number in range(rounds):
        wwid = wwids[number * 7 % len(wwids)]
        path, before = object_path(SOURCE, wwid), cpu_s(daemon.pid)
        sent = daemon.tell("grow", wwid, (200 + number) * GIB)
        client.until(partial(client.changes, path))
        taken.append((time.monotonic() - sent - _QUIET_S) * 1000)
        cpu.append((cpu_s(daemon.pid) - before) * 1000)
        client.forget()
        time.sleep(1)
    yield Figure(
        f"one change, median of {rounds} (and {_QUIET_S:g} s of coalescing)",
        statistics.median(taken),
        50,
        "ms",
    )
    yield Figure("  slowest", max(taken), 0, "ms")
    yield Figure("  CPU of the daemon, median", statistics.median(cpu), 0, "ms")


def commands(daemon: Simulated, client: Client, wwid: str) -> Iterator[Figure]:
    """What one change asks the host."""
    before = daemon.tell("counts")
    daemon.tell("grow", wwid, 900 * GIB)
    client.until(lambda: client.changes(object_path(SOURCE, wwid)))
    after = daemon.tell("counts")
    asked = sum(after.values()) - sum(before.values())
    yield Figure("  commands that it runs", asked, 3, "")


def ping(client: Client, until: float) -> Iterator[float]:
    """Milliseconds that each of many calls took."""
    while time.monotonic() < until:
        began = time.monotonic()
        client.get(ROOT, MANAGER, "Version")
        yield (time.monotonic() - began) * 1000
        time.sleep(0.002)


def storm(daemon: Simulated, client: Client) -> Iterator[Figure]:
    """A portal fails: a path of every LUN, and a storm of uevents; a client keeps asking meanwhile."""
    calm = list(ping(client, time.monotonic() + 3))
    client.forget()
    scans = daemon.tell("looks")
    daemon.tell("fail_a_path_each")
    daemon.tell("storm", _STORM)
    answers: list[float] = []
    quiet_since = 0.0
    while not quiet_since or time.monotonic() - quiet_since < 5:
        answers += ping(client, time.monotonic() + 0.5)
        busy = daemon.tell("waiting") or daemon.tell("looking")
        quiet_since = 0.0 if busy else quiet_since or time.monotonic()
    client.until(lambda: len(client.heard("PropertiesChanged")) >= len(daemon.tell("spare")))
    looks = {name: count - scans[name] for name, count in daemon.tell("looks").items()}
    yield Figure(f"storm of {_STORM} uevents: slowest answer on the bus", max(answers), 100, "ms")
    yield Figure(f"  median of {len(answers)} answers", statistics.median(answers), 0, "ms")
    yield Figure("  slowest answer in calm", max(calm), 0, "ms")
    yield Figure("  looks at the host that it cost", sum(looks.values()), 0, "")
    yield Figure("  sources that changed", len(client.heard("PropertiesChanged")), 0, "")


def idle(daemon: Simulated, seconds: int) -> Iterator[Figure]:
    """Nothing happens: nothing shall wake."""
    time.sleep(30)  # the one timer of the start is over then
    before, cpu = wakeups(daemon.pid), cpu_s(daemon.pid)
    time.sleep(seconds)
    yield Figure(f"idle: wake-ups in {seconds} s", wakeups(daemon.pid) - before, 1, "")
    yield Figure("idle: CPU", (cpu_s(daemon.pid) - cpu) * 1000, 0, "ms")
    san_bytes = daemon.tell("times")["san_bytes"]  # a host has it not: its SAN is elsewhere
    yield Figure("idle: memory (VmRSS)", (status(daemon.pid, "VmRSS") - san_bytes) / MIB, 80, "MiB")
    yield Figure("  besides, of the simulated SAN", san_bytes / MIB, 0, "MiB")


def whole_list(address: str, client: Client) -> Iterator[Figure]:
    """What asks for everything."""
    began = time.monotonic()
    client.objects()
    yield Figure("GetManagedObjects, seen by a client", (time.monotonic() - began) * 1000, 0, "ms")
    began = time.monotonic()
    words = [sys.executable, "-m", "p2vd.cli.main", "--bus", address, "sources"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    yield Figure("p2vctl sources", (time.monotonic() - began) * 1000, 0, "ms")


def busy(daemon: Simulated, client: Client, wwids: list[str]) -> Iterator[Figure]:
    """As many jobs as there may be, and an iscsiadm that hangs; a client keeps asking meanwhile."""
    options = {"source-offline": True}
    paths = []
    for wwid in wwids[:_JOBS]:
        named = dbus.Dictionary({**options, "name": f"m{wwid[-6:]}"}, signature="sv")
        plan_id, _ = client.manager("Plan", "asa{sv}", [wwid], named)
        paths.append(str(client.manager("Migrate", "sa{sv}", plan_id, _NONE)))
    jobs = [str(client.get(path, MACHINE, "Jobs")[0]) for path in paths]
    client.until(lambda: all(client.get(job, JOB, "Activity") == "running" for job in jobs))
    daemon.tell("fault", "command-slow", {"command": "iscsiadm"})
    client.manager("AddPortal", "sa{sv}", "192.0.2.1", _NONE)
    answers = list(ping(client, time.monotonic() + 15))
    for job in jobs:
        began = time.monotonic()
        client.call(job, JOB, "SetBandwidth", "ta{sv}", GIB, _NONE)
        answers.append((time.monotonic() - began) * 1000)
    yield Figure(f"{len(jobs)} jobs, an iscsiadm that hangs: slowest answer", max(answers), 100, "ms")
    yield Figure(f"  median of {len(answers)} answers", statistics.median(answers), 0, "ms")
    daemon.tell("end_fault", "command-slow")


def wave(address: str, client: Client, wwids: list[str], directory: Path) -> Iterator[Figure]:
    """Two hundred machines planned as one, as somebody at a terminal waits for it."""
    path, count = directory / "wave.csv", min(_WAVE, len(wwids))
    lines = [f"{wwid},wave{number},yes" for number, wwid in enumerate(wwids[:count])]
    path.write_text("\n".join(["sources,name,source_offline", *lines]) + "\n")
    began = time.monotonic()
    words = [sys.executable, "-m", "p2vd.cli.main", "--bus", address, "plan", "--wave", str(path), "--json"]
    subprocess.run(words, check=False, stdout=subprocess.DEVNULL)
    yield Figure(f"a wave of {count} machines planned", time.monotonic() - began, 5, "s")


@contextmanager
def simulated(arguments: argparse.Namespace) -> Iterator[tuple[str, Simulated, Client]]:
    """The daemon and a client on a bus of their own."""
    with (
        tempfile.TemporaryDirectory(prefix="p2vd-scale-", dir=arguments.directory) as name,
        private_bus(Path(name)) as address,
    ):
        client = Client(address)
        san = script(arguments.luns, arguments.paths)
        with Simulated(address, Path(name) / "state", san, max_jobs=_JOBS) as daemon:
            daemon.await_ready(client)
            yield address, daemon, client
        client.close()


def main() -> int:
    """Measure and print; 1 where a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--luns", type=int, default=2000)
    parser.add_argument("--paths", type=int, default=4)
    parser.add_argument("--idle", type=int, default=60, help="seconds to watch it doing nothing")
    parser.add_argument("--rounds", type=int, default=9)
    memory = Path("/dev/shm")
    parser.add_argument("--directory", type=Path, default=memory if memory.is_dir() else None)
    arguments = parser.parse_args()
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    print(f"{arguments.luns} LUNs, {arguments.paths} paths each, {load}")
    missed = 0
    with simulated(arguments) as (address, daemon, client):
        wwids = daemon.tell("spare")
        for figures in (
            first_inventory(daemon),
            changes(daemon, client, wwids, arguments.rounds),
            commands(daemon, client, wwids[0]),
            whole_list(address, client),
            wave(address, client, wwids, daemon.log.parent),
            storm(daemon, client),
            idle(daemon, arguments.idle),
            busy(daemon, client, wwids),
        ):
            for figure in figures:
                print(figure, flush=True)
                missed += str(figure).endswith("MISSED")
    print(f"load at the end {os.getloadavg()[0]:.1f}; sizes: {format_size(100 * GIB)} a LUN")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
