"""One virtual machine of the lab: start, command, cut the power, collect its logs, stop."""

import base64
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from integration.lab import image as images
from integration.lab.machine import Monitor, command_line, create_disks
from integration.lab.recipe import lab_dir

BOOT_DEADLINE_S = 600.0
"""A boot takes 16 s on an idle machine, and far longer on one that is shared by several."""

POLL_S = 0.02


@dataclass(frozen=True)
class Completed:
    """What a command in the guest did."""

    command: str
    returncode: int
    stdout: str
    stderr: str


class GuestError(Exception):
    """A command in the guest failed or did not end, or the guest does not answer."""


class Vm:
    """A machine, running or powered off, with its files in `directory`. See `layers.up` and `attach`."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory

    @classmethod
    def attach(cls, name: str) -> Self:
        """Return the machine of that name that another process started."""
        directory = lab_dir() / "vms" / name
        if not directory.exists():
            raise GuestError(f"no machine named {name}: start it with `lab up -i {name}`")
        return cls(name, directory)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the machines that have files, running or not."""
        return sorted(path.name for path in (lab_dir() / "vms").glob("*"))

    @classmethod
    def start(
        cls,
        name: str,
        image: Path,
        snapshot: Path | None,
        *,
        cache: str,
        freezable: bool = False,
        tied: bool = True,
    ) -> Self:
        """Start a fresh machine from a snapshot (2-3 s), or boot the image (half a minute).

        `freezable` lets it become a snapshot; `tied` ends it with the process that started it.
        """
        vm = cls(name, lab_dir() / "vms" / name)
        vm.down()
        vm.directory.mkdir(parents=True)
        (vm.directory / "image").symlink_to(image)
        if snapshot is not None:
            (vm.directory / "snapshot").symlink_to(snapshot)
            os.utime(snapshot)
        create_disks(vm.directory, image, snapshot)
        if snapshot is None:
            vm._launch(vm.directory / "ram", cache=cache, shared_ram=True, incoming=None, tied=tied)
        else:
            ram = snapshot / "ram"
            if freezable:
                ram = vm.directory / "ram"
                subprocess.run(["cp", "--sparse=always", str(snapshot / "ram"), str(ram)], check=True)
            vm._launch(ram, cache=cache, shared_ram=freezable, incoming=snapshot / "state", tied=tied)
        return vm

    # ---- commands and files ----------------------------------------------------------------

    def run(
        self, command: str | Sequence[str], *, timeout_s: float = 300.0, check: bool = True, stdin: str = ""
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

    def out(self, command: str | Sequence[str], *, timeout_s: float = 300.0) -> str:
        """Run a command that must succeed; its output without the last newline."""
        return self.run(command, timeout_s=timeout_s).stdout.rstrip("\n")

    def stream(self, command: str, *, timeout_s: float | None = None) -> int:
        """Run a command on this process's own terminal; its exit status."""
        return subprocess.run(self._ssh(command), timeout=timeout_s, check=False).returncode

    def popen(self, command: str) -> subprocess.Popen[str]:
        """Start a command and return at once; its output is in the pipes of the returned process."""
        return subprocess.Popen(
            self._ssh(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

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

    # ---- life ------------------------------------------------------------------------------

    def kill(self) -> None:
        """Cut the power: what the guest did not flush is gone (with `cache="writeback"`). The disks stay."""
        self._end(signal.SIGKILL)

    def boot_again(self, *, cache: str = "writeback", tied: bool = True) -> None:
        """Boot from the disks as they are, after `kill`; returns when the guest says that it is up."""
        for name in ("console.log", "ram", "qmp", "ctl"):
            (self.directory / name).unlink(missing_ok=True)
        self._launch(self.directory / "ram", cache=cache, shared_ram=True, incoming=None, tied=tied)

    def down(self) -> None:
        """End the machine and delete its files; nothing happens when there is none."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def running(self) -> bool:
        """Say whether its QEMU lives."""
        return self._pid() is not None

    def freeze(self, target: Path) -> None:
        """Make this machine (started `freezable`, or booted) the snapshot `target`, and end it."""
        self.run("sync; udevadm settle")
        self._close_ssh()
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with Monitor(self.directory / "qmp") as monitor:
            monitor.execute("stop")
            monitor.ignore_shared_ram()
            monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(str(partial / 'state'))}")
            while (status := monitor.execute("query-migrate").get("status")) != "completed":
                if status in ("failed", "cancelled"):
                    raise GuestError(f"{self.name}: QEMU could not save its state")
                time.sleep(POLL_S)
            monitor.execute("quit")
        self._await_end()
        for file in [*self.directory.glob("*.qcow2"), self.directory / "ram"]:
            file.rename(partial / file.name)
        partial.rename(target)
        shutil.rmtree(self.directory)

    # ---- inside ----------------------------------------------------------------------------

    def _launch(self, ram: Path, *, cache: str, shared_ram: bool, incoming: Path | None, tied: bool) -> None:
        image = (self.directory / "image").resolve()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        (self.directory / "port").write_text(str(port))
        command = command_line(
            self.directory,
            image,
            name=f"p2vd-lab-{self.name}",
            cache=cache,
            ram=ram,
            shared_ram=shared_ram,
            incoming=incoming is not None,
            port=port,
        )
        if tied:
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with (self.directory / "qemu.log").open("a") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.directory / "pid").write_text(str(process.pid))
        try:
            if incoming is not None:
                self._restore(process, incoming)
            else:
                self._await_boot(process)
        except BaseException:
            process.kill()
            process.wait()
            raise

    def _restore(self, process: subprocess.Popen[bytes], state: Path) -> None:
        while not (self.directory / "qmp").exists():
            self._must_live(process)
            time.sleep(POLL_S)
        with Monitor(self.directory / "qmp") as monitor:
            monitor.ignore_shared_ram()
            monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
            while monitor.execute("query-status")["status"] == "inmigrate":
                self._must_live(process)
                time.sleep(POLL_S)
            monitor.execute("cont")
        # A clone must not repeat its parent's clock and random numbers.
        seed = base64.b64encode(os.urandom(64)).decode()
        self._open_ssh()
        self.run(f"/usr/local/sbin/lab-clone {time.time():.3f} {seed}")

    def _await_boot(self, process: subprocess.Popen[bytes]) -> None:
        console = self.directory / "console.log"
        deadline = time.monotonic() + BOOT_DEADLINE_S
        while not (console.exists() and b"LAB-READY" in console.read_bytes()):
            self._must_live(process)
            if time.monotonic() > deadline:
                tail = console.read_text(errors="replace")[-2000:] if console.exists() else ""
                raise GuestError(
                    f"{self.name}: not up after {BOOT_DEADLINE_S:.0f} s; its console ends:\n{tail}"
                )
            time.sleep(0.1)
        self._open_ssh()

    def _must_live(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            raise GuestError(f"{self.name}: QEMU ended:\n{(self.directory / 'qemu.log').read_text()[-2000:]}")

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

    def _open_ssh(self) -> None:
        # Detached: a master that inherits the caller's output would keep that pipe open for good.
        master = self._ssh()
        master[-1:] = ["-fN", master[-1]]
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

    def _close_ssh(self) -> None:
        if (self.directory / "ctl").exists():
            subprocess.run(
                ["ssh", "-q", "-O", "exit", "-o", f"ControlPath={self.directory}/ctl", "x"],
                stderr=subprocess.DEVNULL,
                check=False,
            )

    def _pid(self) -> int | None:
        """Return the process id of this machine's QEMU, never that of a stranger with a recycled id."""
        try:
            pid = int((self.directory / "pid").read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            ours = str(self.directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return None
        return pid if ours and state != "Z" else None

    def _end(self, how: signal.Signals) -> None:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, how)
            self._await_end()
        self._close_ssh()

    def _await_end(self) -> None:
        deadline = time.monotonic() + 30
        while (pid := self._pid()) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += 30
            time.sleep(POLL_S)
