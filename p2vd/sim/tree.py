"""The simulated host's /sys and /proc, as files below a directory.

Files and not values in memory, because discovery then runs as it runs on a host, system calls
included: what it costs here is what it costs there. Put the state directory on a tmpfs.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from p2vd.model.hardware import HostHardware

_FILE = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC


class Tree:
    """Block devices below `root`, made anew. Not thread-safe: its owner has the lock."""

    def __init__(self, root: Path) -> None:
        """Make an empty host; what an earlier one left there is removed."""
        shutil.rmtree(root, ignore_errors=True)
        self._sys = str(root / "sys")
        kinds = ("block", "iscsi_session", "iscsi_connection", "scsi_host", "fc_host", "fc_remote_ports")
        for kind in kinds:
            (root / "sys/class" / kind).mkdir(parents=True)
        for directory in ("sys/block", "sys/class/misc/loop-control", "proc/1", "etc/iscsi"):
            (root / directory).mkdir(parents=True)
        (root / "proc/1/mountinfo").touch()
        (root / "etc/iscsi/iscsid.conf").touch()
        (root / "proc/swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")

    def hardware(self, host: HostHardware) -> None:
        """Show what the host has for guests."""
        root = Path(self._sys).parent
        cpus = root / "sys/devices/system/cpu"
        cpus.mkdir(parents=True)
        (cpus / "online").write_text(f"0-{host.cpus - 1}\n" if host.cpus > 1 else "0\n")
        (root / "proc/meminfo").write_text(f"MemTotal:       {host.memory_bytes // 1024} kB\n")
        sizes = f"address sizes\t: {host.address_bits} bits physical, 48 bits virtual\n"
        (root / "proc/cpuinfo").write_text(f"processor\t: 0\n{sizes}")
        if host.kvm:
            (root / "sys/class/misc/kvm").mkdir()

    def add(self, name: str, place: str, attributes: Mapping[str, str | bytes]) -> None:
        """Show the disk `name` at `place` below /sys; `attributes` by their path in its directory."""
        directory = f"{self._sys}/{place}"
        os.makedirs(f"{directory}/holders")  # noqa: PTH103  (thousands of them: pathlib takes three times as long)
        os.mkdir(f"{directory}/slaves")  # noqa: PTH102
        made = {""}
        for attribute, value in attributes.items():
            parent = attribute.rpartition("/")[0]
            if parent not in made:
                made.add(parent)
                os.mkdir(f"{directory}/{parent}")  # noqa: PTH102
            _write(f"{directory}/{attribute}", value)
        # The links come last: a device is there as a whole or not at all.
        os.symlink(f"../../{place}", f"{self._sys}/class/block/{name}")  # noqa: PTH211
        os.symlink(f"../{place}", f"{self._sys}/block/{name}")  # noqa: PTH211

    def remove(self, name: str) -> None:
        """Take a disk away, and its name from what it was stacked on."""
        directory = self._place(name)
        for links in ("block", "class/block"):
            (Path(self._sys) / links / name).unlink()
        for lower in os.listdir(f"{directory}/slaves"):  # noqa: PTH208
            (Path(self._place(lower)) / "holders" / name).unlink()
        shutil.rmtree(directory)

    def write(self, name: str, attribute: str, value: str) -> None:
        """Change an attribute of a disk."""
        _write(f"{self._place(name)}/{attribute}", value)

    def stack(self, lower: str, upper: str) -> None:
        """Say that the disk `upper` holds the disk `lower`."""
        _write(f"{self._place(lower)}/holders/{upper}", "")
        _write(f"{self._place(upper)}/slaves/{lower}", "")

    def unstack(self, lower: str, upper: str) -> None:
        """Say that the disk `upper` no longer holds the disk `lower`."""
        (Path(self._place(lower)) / "holders" / upper).unlink()
        (Path(self._place(upper)) / "slaves" / lower).unlink()

    def port(self, kind: str, name: str, attributes: Mapping[str, str]) -> None:
        """Show a SCSI host, an HBA or a remote port of Fibre Channel, or change its attributes."""
        directory = f"{self._sys}/class/{kind}/{name}"
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        for attribute, value in attributes.items():
            _write(f"{directory}/{attribute}", f"{value}\n")

    def session(self, number: int, host: int, address: str, iqn: str) -> None:
        """Show an iSCSI session with its one connection to port 3260."""
        place = f"devices/platform/host{host}/session{number}/iscsi_session/session{number}"
        session = Path(self._sys) / place
        session.mkdir(parents=True)
        for attribute, value in (("targetname", iqn), ("ifacename", "default"), ("state", "LOGGED_IN")):
            (session / attribute).write_text(f"{value}\n")
        (Path(self._sys) / f"class/iscsi_session/session{number}").symlink_to(f"../../{place}")
        connection = Path(self._sys) / f"class/iscsi_connection/connection{number}:0"
        connection.mkdir()
        for kind in ("", "persistent_"):
            (connection / f"{kind}address").write_text(f"{address}\n")
            (connection / f"{kind}port").write_text("3260\n")

    def _place(self, name: str) -> str:
        """Return a disk's directory. Raises KeyError where there is none of that name."""
        try:
            return f"{self._sys}/block/{os.readlink(f'{self._sys}/block/{name}')}"  # noqa: PTH115
        except FileNotFoundError:
            raise KeyError(name) from None


def _write(path: str, value: str | bytes) -> None:
    # Plain system calls, for speed as above; the file is replaced as a whole by one write.
    descriptor = os.open(path, _FILE, 0o644)
    try:
        os.write(descriptor, value.encode() if isinstance(value, str) else value)
    finally:
        os.close(descriptor)
