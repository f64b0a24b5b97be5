"""Commands and files of a guest, over one ssh connection that stays open."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.lab import image as images

PATIENCE_S = 600.0
"""How long anything may take that is waited for: on a busy machine an emulated guest is five times slower."""


@dataclass(frozen=True)
class Completed:
    """What a command in the guest did."""

    command: str
    returncode: int
    stdout: str
    stderr: str


class GuestError(Exception):
    """A command in the guest failed or did not end, or the guest does not answer."""


class Shell:
    """Root's shell in the guest whose files are `directory`; its ssh port is in the file `port` there."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory

    @property
    def bus(self) -> Path:
        """This boot's socket that leads to the guest's system bus, as root."""
        return self.directory / "bus"

    def run(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float = PATIENCE_S,
        check: bool = True,
        stdin: str = "",
    ) -> Completed:
        """Run a shell command, or an argument list, as root. Raises GuestError (exit status, timeout)."""
        line = command if isinstance(command, str) else shlex.join(command)
        try:
            done = subprocess.run(
                self._ssh(line), input=stdin.encode(), capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise GuestError(f"{self.name}: no end after {timeout_s:.0f} s: {line}") from late
        result = Completed(
            line, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if check and result.returncode:
            said = result.stdout[-4000:] + result.stderr[-4000:]
            raise GuestError(f"{self.name}: exit {result.returncode}: {line}\n{said}")
        return result

    def out(self, command: str | Sequence[str], *, timeout_s: float = PATIENCE_S) -> str:
        """Run a command that must succeed; its output without the last newline."""
        return self.run(command, timeout_s=timeout_s).stdout.rstrip("\n")

    def stream(self, command: str, *, timeout_s: float | None = None) -> int:
        """Run a command on this process's own terminal; its exit status."""
        return subprocess.run(self._ssh(command), timeout=timeout_s, check=False).returncode

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file of the guest, making its directory."""
        quoted = shlex.quote(path)
        self.run(f'mkdir -p "$(dirname {quoted})" && cat > {quoted} && chmod {mode} {quoted}', stdin=text)

    def push(self, source: Path, destination: str, files: Sequence[Path] | None = None) -> None:
        """Copy a directory (or only `files` of it) into a directory of the guest, or one file to a path."""
        if source.is_dir():
            names = [str(path) for path in files] if files is not None else ["."]
            into = shlex.quote(destination)
            packing = [
                "tar",
                "-C",
                str(source),
                "--owner=0",
                "--group=0",
                "--exclude=__pycache__",
                "-cf",
                "-",
                *names,
            ]
            with subprocess.Popen(packing, stdout=subprocess.PIPE) as tar:
                unpacking = self._ssh(f"mkdir -p {into} && tar -C {into} -xf -")
                done = subprocess.run(unpacking, stdin=tar.stdout, capture_output=True, check=False)
            if done.returncode or tar.returncode:
                raise GuestError(
                    f"{self.name}: push of {source} failed: {done.stderr.decode(errors='replace')}"
                )
            return
        with source.open("rb") as file:
            done = subprocess.run(
                self._ssh(f"cat > {shlex.quote(destination)}"), stdin=file, capture_output=True, check=False
            )
        if done.returncode:
            raise GuestError(f"{self.name}: push of {source} failed: {done.stderr.decode(errors='replace')}")

    def pull(self, source: str, destination: Path) -> None:
        """Copy a file of the guest to `destination`."""
        with destination.open("wb") as file:
            done = subprocess.run(
                self._ssh(f"cat {shlex.quote(source)}"), stdout=file, stderr=subprocess.PIPE, check=False
            )
        if done.returncode:
            raise GuestError(f"{self.name}: pull of {source} failed: {done.stderr.decode(errors='replace')}")

    def _ssh(self, *command: str) -> list[str]:
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ControlMaster=auto",
            f"ControlPath={self.directory}/ctl",
            "ControlPersist=3600",
            "ConnectTimeout=30",
            "Ciphers=aes128-ctr",
            "KexAlgorithms=curve25519-sha256",
        ]
        base = [
            "ssh",
            "-q",
            "-F",
            "none",
            "-i",
            str(images.ssh_key()),
            "-p",
            (self.directory / "port").read_text(),
        ]
        return [*base, *(part for option in options for part in ("-o", option)), "root@127.0.0.1", *command]

    def open_ssh(self) -> None:
        """Open the connection that all commands share. Raises GuestError when the guest does not answer."""
        # Detached: a master that inherits the caller's output would keep that pipe open for good.
        master = self._ssh()
        bus = f"{self.bus}:/run/dbus/system_bus_socket"
        master[-1:] = ["-fN", "-o", "StreamLocalBindUnlink=yes", "-L", bus, master[-1]]
        for _ in range(5):
            done = subprocess.run(
                ["timeout", "60", *master],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
            if done.returncode == 0:
                return
        raise GuestError(f"{self.name}: the guest does not answer on ssh")

    def close_ssh(self) -> None:
        """Close it; nothing happens when there is none."""
        if (self.directory / "ctl").exists():
            subprocess.run(
                ["ssh", "-q", "-O", "exit", "-o", f"ControlPath={self.directory}/ctl", "x"],
                stderr=subprocess.DEVNULL,
                check=False,
            )
