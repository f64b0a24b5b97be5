"""p2vd --sim as a process of its own, steered by a test."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from p2vd.bus.names import BUS_NAME
from tests.bus.harness import PATIENCE_S, Client


class Simulated:
    """The process that served.py is; a context that ends it as a daemon ends."""

    def __init__(self, address: str, state_dir: Path, script: str, max_jobs: int = 4) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        path = state_dir / "script.toml"
        path.write_text(script)
        self.log = state_dir / "log"
        self._log = self.log.open("a")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim.served", address, str(state_dir), str(path), str(max_jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # as units/p2vd.service has it
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, name: str, *arguments: object) -> Any:
        """Call a method of served.Steering; returns what it returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def await_ready(self, client: Client) -> None:
        """Wait until it is on the bus. Fails with its log where it ends before."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while not client.connection.name_has_owner(BUS_NAME):
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def wait(self) -> int:
        """Wait for its end; returns its exit status."""
        return self._process.wait(PATIENCE_S)

    def power_cut(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, as systemd stops it; returns its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()
