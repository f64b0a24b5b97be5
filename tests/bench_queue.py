"""A long queue against a short one, over the simulator: how quick the bus stays, and who starts when.

    .venv/bin/python -m tests.bench_queue [--few 5] [--many 500] [--seconds 20] [--directory DIR]

Both are measured in one run, a daemon each: what counts is the ratio. The table tells how even the turns of
the arrays' jobs are, as the scheduler gives them: half of all jobs are on the first array, and the oldest.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dbus

from p2vd.bus.names import JOB
from p2vd.model.limits import Limits
from p2vd.planning.schedule import Kind, Resource, Work, schedule
from tests.bench_scale import Figure, ping
from tests.bus.harness import Client, private_bus
from tests.sim.harness import Simulated

_ARRAYS = 5
_EACH = 2
_WITHIN = 1.5  # how much slower an answer may be with the long queue


def script(jobs: int) -> str:
    """The SAN: a small LUN a job, slow enough that the queue outlasts the measurement."""
    return f"""
luns = [{{ count = {jobs}, paths = 2, size = "1 GiB" }}]
[[volume_group]]
name = "vg_san"
size = "4 TiB"
pool = {{ size = "3 TiB" }}
[speed]
copy = "20 MiB"
verify = "20 MiB"
"""


@contextmanager
def queue(jobs: int, directory: Path | None) -> Iterator[tuple[Client, Simulated]]:
    """A daemon with so many jobs, all but max_jobs of which wait."""
    with (
        tempfile.TemporaryDirectory(prefix="p2vd-queue-", dir=directory) as name,
        private_bus(Path(name)) as address,
    ):
        client = Client(address)
        with Simulated(address, Path(name) / "state", script(jobs)) as daemon:
            daemon.await_ready(client)
            for wwid in daemon.tell("spare")[:jobs]:
                migrate(client, wwid)
            yield client, daemon
        client.close()


def migrate(client: Client, wwid: str) -> None:
    """Plan and start one; its disk may have to be looked at first."""
    options = dbus.Dictionary({"source-offline": True}, signature="sv")
    none = dbus.Dictionary({}, signature="sv")
    deadline = time.monotonic() + 60
    while True:
        try:
            plan_id, _ = client.manager("Plan", "asa{sv}", [wwid], options)
            client.manager("Migrate", "sa{sv}", plan_id, none)
        except dbus.DBusException as error:
            if "is being looked at" not in str(error) or time.monotonic() > deadline:
                raise
        else:
            return


def measured(jobs: int, seconds: float, directory: Path | None) -> tuple[list[float], int]:
    """Milliseconds that answers took while jobs end and begin; how many jobs waited in the end."""
    with queue(jobs, directory) as (client, _):
        answers = list(ping(client, time.monotonic() + seconds))
        found = [own[JOB] for own in client.objects().values() if JOB in own]
        return answers, sum("slot" in job["Holds"] for job in found)


def turns(jobs: int) -> Iterator[str]:
    """A table: of each array, its jobs, and how many of the first half of all starts they were."""
    works = [
        Work(
            str(at), frozenset({Resource(Kind.ARRAY, "1" if at < jobs // 2 else str(2 + at % (_ARRAYS - 1)))})
        )
        for at in range(jobs)
    ]
    array = {work.job: next(iter(work.uses)).id for work in works}
    left, begun = list(works), list[str]()
    at_work: tuple[str, ...] = ()
    while left:
        inside = [work for work in left if work.job in at_work]
        decided = schedule(
            inside, [work for work in left if work not in inside], Limits(_ARRAYS * _EACH, per_array=_EACH)
        )
        begun += [name for name in decided.running if name not in at_work]
        at_work = decided.running
        over = next(name for name in begun if name in at_work)  # that which works longest
        at_work = tuple(name for name in at_work if name != over)
        left = [work for work in left if work.job != over]
    early, all_jobs = Counter(array[name] for name in begun[: jobs // 2]), Counter(array.values())
    yield f"{'array':8} {'jobs':>6} {'of the first half that start':>30}"
    for name, count in sorted(all_jobs.items()):
        yield f"{name:8} {count:6} {early[name]:30}"


def main() -> int:
    """Measure and print; 1 where the bus is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=5)
    parser.add_argument("--many", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    memory = Path("/dev/shm")
    parser.add_argument("--directory", type=Path, default=memory if memory.is_dir() else None)
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs", flush=True)
    medians = []
    for jobs in (arguments.few, arguments.many):
        answers, waiting = measured(jobs, arguments.seconds, arguments.directory)
        medians.append(statistics.median(answers))
        print(Figure(f"{jobs} jobs, {waiting} of them waiting: median answer", medians[-1], 0, "ms"))
        print(Figure(f"  slowest of {len(answers)}", max(answers), 0, "ms"), flush=True)
    ratio = Figure("an answer with many against one with few", medians[1] / medians[0], _WITHIN, "times")
    print(ratio)
    print("\n".join(("", *turns(arguments.many))))
    return 1 if str(ratio).endswith("MISSED") else 0


if __name__ == "__main__":
    sys.exit(main())
