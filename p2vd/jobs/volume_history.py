"""What is known to have happened to a volume since it was proven: why it may rightly differ by now."""

import time
from dataclasses import replace

from p2vd.model.job import Machine
from p2vd.system.clock import now_us


def ran_now(machine: Machine) -> Machine:
    """Return the machine with a note that it runs now; the first such note stays."""
    return machine if machine.ran_us else replace(machine, ran_us=now_us())


def uses(machine: Machine, writes: int | None) -> tuple[str, ...]:
    """Return what explains a difference, a sentence each. `writes`: since the proof, None: not known."""
    found = []
    if machine.ran_us:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(machine.ran_us / 1e6))
        found.append(f"The machine {machine.name} has run since; p2vd first knew of it on {when}.")
    if machine.converted:
        found.append("The guest was converted after the copy, by virt-v2v-in-place, as policy says.")
    if writes:
        found.append(f"This host's kernel has counted {writes} writes to it since it was proven.")
    return tuple(found)
