"""One virtual machine of the lab: start, command, cut the power, collect its logs, stop."""

import base64
import contextlib
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from integration.lab.machine import Monitor, command_line, create_disks
from integration.lab.recipe import lab_dir
from integration.lab.shell import Completed, GuestError, Shell

__all__ = ["Completed", "GuestError", "Vm"]

BOOT_DEADLINE_S = 600.0
_END_S = 30.0
"""A boot takes 16 s on an idle machine, and far longer on one that is shared by several."""

POLL_S = 0.02


class Vm(Shell):
    """A machine, running or powered off, with its files in `directory`. See `layers.up` and `attach`."""

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

    # ---- life ------------------------------------------------------------------------------

    def kill(self) -> None:
        """Cut the power: what the guest did not flush is gone (with `cache="writeback"`). The disks stay."""
        self._end(signal.SIGKILL)

    def boot_again(self, *, cache: str = "writeback", tied: bool = True) -> None:
        """Boot from the disks as they are, after `kill`; returns when the guest says that it is up."""
        for name in ("console.log", "ram", "qmp", "ctl", "bus"):
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
        self.close_ssh()
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        process = os.pidfd_open(self._pid() or 0)
        with Monitor(self.directory / "qmp") as monitor:
            monitor.execute("stop")
            monitor.ignore_shared_ram()
            monitor.execute("migrate", uri=f"exec:cat > {shlex.quote(str(partial / 'state'))}")
            while (status := monitor.execute("query-migrate").get("status")) != "completed":
                if status in ("failed", "cancelled"):
                    raise GuestError(f"{self.name}: QEMU could not save its state")
                time.sleep(POLL_S)
            monitor.execute("quit")
        _await_end(process)
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
        self.open_ssh()
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
        self.open_ssh()

    def _must_live(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            raise GuestError(f"{self.name}: QEMU ended:\n{(self.directory / 'qemu.log').read_text()[-2000:]}")

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
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in this moment
                process = os.pidfd_open(pid)
                signal.pidfd_send_signal(process, how)
                _await_end(process)
        self.close_ssh()


def _await_end(process: int) -> None:
    """Wait until a process is gone with all its threads, as its pidfd tells (pidfd_open(2)).

    Not by /proc: of a process that is about to close its disks, and still holds their locks, the
    command line is empty already. Kills it where it does not end by itself.
    """
    try:
        if not select.select([process], [], [], _END_S)[0]:
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [])
    finally:
        os.close(process)
