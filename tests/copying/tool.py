"""`p2vd-copy` as a process of its own, to be killed and run again."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


class Tool:
    """One command line of the tool, with --json."""

    def __init__(self, source: object, target: Path, *words: object):
        self.target, self.checkpoint = target, target.with_name(f"{target.name}.checkpoint")
        words = (source, target, "--checkpoint", self.checkpoint, "--json", *words)
        self._argv = [sys.executable, "-m", "p2vd.copying.worker", *(str(word) for word in words)]
        self.running: subprocess.Popen[str]
        self.told: list[dict[str, Any]] = []
        self.said = ""

    def start(self, *words: object) -> None:
        """Start it; the words are added to its line."""
        argv = [*self._argv, *(str(word) for word in words)]
        self.running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.told = []

    def hear(self) -> dict[str, Any]:
        """The next line; empty at its end."""
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        if line:
            self.told.append(json.loads(line))
        return self.told[-1] if line else {}

    def until_committed(self) -> int:
        """Wait until some of it is committed, and return how many bytes."""
        while (told := self.hear()) and not told.get("committed_bytes"):
            pass
        assert told.get("type") == "progress", f"it ended before: {self.told}"
        return int(told["committed_bytes"])

    def kill(self) -> None:
        """End it without a word."""
        self.running.send_signal(signal.SIGKILL)
        self.running.communicate()

    def end(self) -> tuple[int, dict[str, Any]]:
        """Hear it to its end; return its exit status and report."""
        out, self.said = self.running.communicate()
        self.told += [json.loads(line) for line in out.splitlines()]
        return self.running.returncode, self.told[-1] if self.told else {}

    def run(self, *words: object) -> tuple[int, dict[str, Any]]:
        """Start it and hear it to its end."""
        self.start(*words)
        return self.end()
