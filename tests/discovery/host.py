"""A recorded host: its sysfs and proc in a directory, its commands as a fake."""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2vd.discovery.scanner import Discovery
from p2vd.model.errors import Reason
from p2vd.system.command import Result
from tests.fakes import FakeCommands

FIXTURES = Path(__file__).parent.parent / "fixtures/discovery"


@dataclass
class Host:
    """A directory that looks like the host of a recording; tests change it by writing files."""

    root: Path
    commands: FakeCommands = field(default_factory=FakeCommands)
    image_directories: tuple[Path, ...] = ()

    @property
    def sysfs(self) -> Path:
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def discovery(self) -> Discovery:
        return Discovery(self.commands, self.sysfs, self.proc, self.root, self.image_directories)

    def write(self, path: str, content: str | bytes) -> None:
        """Write a sysfs attribute; `block/X/...` follows the link as the kernel's does."""
        file = self.sysfs / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def disk(self, name: str, devpath: str, number: str, size_bytes: int, **attributes: str | bytes) -> None:
        """Add a whole disk; attributes with `__` for a slash."""
        (self.sysfs / "block").mkdir(parents=True, exist_ok=True)
        (self.sysfs / devpath / "holders").mkdir(parents=True)
        (self.sysfs / "block" / name).symlink_to(f"../{devpath}")
        basic = {"dev": number, "size": str(size_bytes // 512), "queue__logical_block_size": "512"}
        for attribute, value in {**basic, **attributes}.items():
            self.write(f"{devpath}/{attribute.replace('__', '/')}", value)

    def rule(self, name: str, text: str = "# rules\n", directory: str = "usr/lib/udev/rules.d") -> None:
        """Put a udev rule in place."""
        file = self.root / directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def recording(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return data


def recorded_commands(name: str) -> FakeCommands:
    """Commands that answer as they did when `name` was recorded, whatever the device lists are.

    What discovery came to ask later, older recordings do not hold: pools of those labs had no profile and
    LVM's own defaults, and no PV was there twice; the files under their loop devices are given ids here, and
    all files a time at which they were written last.
    """
    commands = FakeCommands()
    commands.on("lvm lvmconfig --type full activation/thin_pool_autoextend_threshold", AUTOEXTEND)
    commands.on("lvm pvs", NO_CLONES).on("stat", _stat).on(FILTER, NO_FILTER)
    for answer in recording(name)["commands"]:
        argv = answer["argv"]
        stdout = _LATER.get(" ".join(argv[:2]) if argv[0] == "lvm" else argv[0], str)(answer["stdout"])
        result = Result(tuple(argv), answer["returncode"], stdout, answer["stderr"])
        commands.replace(question(argv), result)
    return commands


def question(argv: Sequence[str]) -> Sequence[str]:
    """What of a command tells which question it is: device lists differ."""
    if argv[0] == "stat":
        return argv[:1]
    if argv[0] == "find":  # the names of image files that are looked for have become more
        return argv[:2]
    return argv[:2] if tuple(argv[:2]) in _LISTS else argv


_LISTS = (("lvm", "fullreport"), ("lvm", "pvs"), ("lvm", "systemid"), ("multipathd", "show"))
AUTOEXTEND = "thin_pool_autoextend_threshold=100\nthin_pool_autoextend_percent=20\n"
FILTER = "lvm lvmconfig --type full devices/filter"
NO_FILTER = 'filter=["a|.*|"]\nglobal_filter=["a|.*|"]\nuse_devicesfile=0\ndevicesfile="system.devices"\n'

NO_CLONES = '{"report": [{"pv": []}]}'


def _stat(argv: tuple[str, ...]) -> str:
    return "".join(
        f"{1 << 20} {len(path)}@1700000000.000000000 1700000000.000000 {path}\0" for path in argv[3:]
    )


def _with_times(stdout: str) -> str:
    return re.sub(r"(\d+@\d+\.\d{9}) ", r"\1 1700000000.000000 ", stdout)


def _with_profiles(stdout: str) -> str:
    report = json.loads(stdout)
    for section in report["report"]:
        for lv in section.get("lv", ()):
            lv.setdefault("lv_profile", "")
    return json.dumps(report)


_LATER = {"lvm fullreport": _with_profiles, "stat": _with_times, "find": _with_times}


def recorded_host(name: str, root: Path) -> Host:
    """Build the host of the recording `name` below `root`."""
    data = recording(name)
    host = Host(root, recorded_commands(name))
    for path, entry in data["sysfs"].items():
        target = host.sysfs / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if "link" in entry:
            _real(target, entry["link"]).mkdir(parents=True, exist_ok=True)
            target.symlink_to(entry["link"])
        elif "names" in entry:
            target.mkdir(parents=True, exist_ok=True)
            for one in entry["names"]:
                (target / one).touch()
        else:
            raw = base64.b64decode(entry["base64"]) if "base64" in entry else entry["text"].encode()
            target.write_bytes(raw)
    (host.proc / "1").mkdir(parents=True)
    (host.proc / "1/mountinfo").write_text(data["mountinfo"])
    (host.proc / "swaps").write_text(data["swaps"])
    return host


def empty_host(root: Path) -> Host:
    """Build a host without disks whose LVM and multipath have nothing to say."""
    host = Host(root)
    (host.sysfs / "block").mkdir(parents=True)
    (host.proc / "1").mkdir(parents=True)
    (host.proc / "1/mountinfo").write_text("")
    host.commands.on("multipathd", '{"maps": []}').on("lvm fullreport", '{"report": []}')
    host.commands.on("lvm systemid", "  system ID: host1\n")
    host.commands.on("lvm lvmconfig", "scan_lvs=0\nevent_activation=1\n")
    host.commands.on("lvm pvs", NO_CLONES).on("stat", _stat).on(FILTER, NO_FILTER)
    return host


def _real(link: Path, target: str) -> Path:
    parts: list[str] = list(link.parent.parts)
    for part in Path(target).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return Path(*parts)


def codes(reasons: Iterable[Reason]) -> list[str]:
    return [reason.code for reason in reasons]
