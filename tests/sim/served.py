"""p2vd --sim as a process that tests steer: `python -m tests.sim.served ADDRESS STATE_DIR SCRIPT`.

One JSON list a line on standard input, [NAME, ARGUMENTS]: a change of the SAN. One line back.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2vd.config import Config
from p2vd.daemon import serve, simulation
from p2vd.sim.script import Luns
from p2vd.sim.world import World


class Steering:
    """What a test may do to the SAN."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._san = world.san

    def grow(self, wwid: str, size_bytes: int) -> float:
        """Returns when the uevent was sent, monotonic."""
        self._san.grow(wwid, size_bytes)
        return time.monotonic()

    def path(self, device: str, ready: bool) -> None:
        self._san.set_path(device, ready=ready)

    def detach(self, wwid: str) -> None:
        self._san.detach(wwid)

    def attach(self, paths: int, size_bytes: int) -> str:
        (lun,) = self._san.attach(Luns(paths=paths, size_bytes=size_bytes))
        return lun.wwid

    def storm(self, count: int) -> None:
        """So many uevents as fast as they can be made, over all maps and paths."""
        names = [
            name for lun in self._san.luns.values() for name in (lun.device, *(p.device for p in lun.paths))
        ]
        for number in range(count):
            self._san.uevents.send("change", names[number % len(names)])

    def waiting(self) -> int:
        return self._san.uevents.waiting()

    def counts(self) -> dict[str, int]:
        return dict(self._world.commands.counts)

    def domains(self) -> list[str]:
        return sorted(self._world.volumes.domains)

    def kill(self, job: str) -> None:
        self._world.processes.workers[job][0].kill()

    def stall(self, job: str, hangs: bool) -> None:
        self._world.processes.stall(job, hangs)


def steer(steering: Steering) -> None:
    for line in sys.stdin:
        name, arguments = json.loads(line)
        action: Callable[..., Any] = getattr(steering, name)
        print(json.dumps(action(*arguments)), flush=True)


def main(address: str, state_dir: str, script: str) -> int:
    config = Config(policy_dirs=(Path(state_dir) / "policy.d",))
    config, doors, world = simulation(config, Path(script), Path(state_dir), address)
    threading.Thread(target=steer, args=(Steering(world),), daemon=True).start()
    return serve(config, doors)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
