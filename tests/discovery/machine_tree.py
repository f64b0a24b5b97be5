"""A physical machine's files in a directory: recorded, or written by a test."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2vd.discovery.passport.reading import Host

FIXTURES = Path(__file__).parent.parent / "fixtures/passport"


class Machine:
    """A directory that the collector takes for a machine; commands answer as recorded, or are not there."""

    def __init__(self, root: Path, answers: Mapping[str, tuple[str, str]] | None = None) -> None:
        self.root = root
        self.answers = dict(answers or {})

    def host(self, system_root: str = "") -> Host:
        """Return the collector's view; `system_root` as seen from the machine."""
        return Host(str(self.root), str(self.root) + system_root if system_root else "", self._run)

    def _run(self, argv: Any) -> tuple[str, str]:
        line = " ".join(argv).replace(str(self.root), "")
        return self.answers.get(line, ("", "No such file or directory"))

    def write(self, path: str, content: str | bytes = "") -> None:
        """Write a file, making its directory."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link; a directory that it leads to is made."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.symlink_to(target)

    def disk(self, name: str, where: str, **attributes: str | bytes) -> None:
        """Add a whole disk of 1 GiB at its place below /sys/devices; attributes with `__` for a slash."""
        place = f"/sys/devices/{where}/block/{name}"
        self.write(f"{place}/size", str((1 << 30) // 512))
        self.write(f"{place}/removable", "0")
        self.write(f"{place}/queue/logical_block_size", "512")
        for attribute, value in attributes.items():
            self.write(f"{place}/{attribute.replace('__', '/')}", value)
        for directory in ("/sys/block", "/sys/class/block"):
            depth = directory.count("/")
            self.link(f"{directory}/{name}", "../" * (depth - 1) + place.removeprefix("/sys/"))

    def nic(self, name: str, index: int, *, card: bool = False, **attributes: str) -> None:
        """Add a network interface."""
        for attribute, value in {"ifindex": str(index), "mtu": "1500", **attributes}.items():
            self.write(f"/sys/class/net/{name}/{attribute.replace('__', '/')}", value)
        if card:
            self.link(f"/sys/class/net/{name}/device/driver", "../../../bus/pci/drivers/igb")


def recorded(name: str, root: Path) -> Machine:
    """Build the machine of the recording `name` below `root`."""
    data = recording(name)
    machine = Machine(root, {line: (said, why) for line, (said, why) in data["commands"].items()})
    for path in data["directories"]:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, target in data["links"].items():
        machine.link(path, target)
    for path, content in data["files"].items():
        raw = base64.b64decode(content["base64"]) if isinstance(content, dict) else content
        machine.write(path, raw)
    for path, names in data["directories"].items():
        for one in names:
            entry = root / path.lstrip("/") / one
            if not entry.is_symlink() and not entry.exists():
                entry.touch()
    return machine


def recording(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return data
