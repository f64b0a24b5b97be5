"""Which devices this host's own LVM filter rejects: p2vd makes nothing there (design: §4.7).

No manual says that a command heeds the filter for what `--devices` names, so p2vd itself minds what an
administrator hid. Its volume groups are seen all the same, to be refused by name.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.model.errors import OutputUnclear
from p2vd.model.lvm import Pv, Vg
from p2vd.system.command import Commands

_SETTINGS = ("filter", "global_filter", "use_devicesfile", "devicesfile")
_DEVICES_FILES = "etc/lvm/devices"
_TEXT = r'"((?:[^"\\]|\\.)*)"'
_TEXTS = re.compile(rf"\[?\s*(?:{_TEXT}\s*,?\s*)*\]?")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
# LVM's regular expressions know no counts.
_COUNTS = re.compile(r"(?<!\\)([{}])")

Patterns = Sequence[tuple[bool, re.Pattern[str]]]


@dataclass(frozen=True)
class HostFilter:
    """The host's filters, each a list of patterns that accept or reject. A device has to pass each one."""

    filters: tuple[Patterns, ...] = ()

    def rejects(self, names: Collection[str]) -> bool:
        """Whether a device with these names, which are all of its nodes and links, is rejected.

        Of each name the first pattern that matches counts. A device is accepted where one of its names is,
        or where none matches at all (lvm.conf, devices/filter).
        """
        return any(_rejects(patterns, names) for patterns in self.filters)


def read_filter(commands: Commands, root: Path) -> HostFilter:
    """Return the filters in force. Raises CommandFailed, CommandTimedOut, OutputUnclear.

    Where there is a devices file LVM heeds no filter (lvmdevices(8)).
    """
    argv = ["lvm", "lvmconfig", "--type", "full", *(f"devices/{name}" for name in _SETTINGS)]
    answer = commands.query(argv).stdout
    settings = dict(line.strip().partition("=")[::2] for line in answer.splitlines())
    in_use = settings.get("use_devicesfile")
    if in_use not in ("0", "1"):
        raise OutputUnclear(" ".join(argv), answer[:80])
    try:
        (name,) = _texts(settings.get("devicesfile", '"system.devices"'))
        if in_use == "1" and (root / _DEVICES_FILES / name).exists():
            return HostFilter()
        values = [settings[name] for name in ("filter", "global_filter") if name in settings]
        filters = [tuple(_pattern(text) for text in _texts(value)) for value in values]
    except (ValueError, re.error) as error:
        raise OutputUnclear(" ".join(argv), f"{answer[:200]} ({error})") from error
    # One that only accepts rejects nothing: LVM's own default is of these.
    return HostFilter(tuple(one for one in filters if not all(accepts for accepts, _ in one)))


def with_rejected(
    volume_groups: Iterable[Vg], host: HostFilter, tree: BlockTree, root: Path
) -> tuple[Vg, ...]:
    """Return the volume groups with the PVs marked that the host's filter rejects."""
    if not host.filters:
        return tuple(volume_groups)
    nodes = {node.devnode: node for node in tree.nodes.values()}

    def marked(pv: Pv) -> Pv:
        node = nodes.get(pv.device)
        return replace(pv, rejected=node is not None and host.rejects(_names(node, root)))

    return tuple(replace(vg, pvs=tuple(marked(pv) for pv in vg.pvs)) for vg in volume_groups)


def _rejects(patterns: Patterns, names: Collection[str]) -> bool:
    verdicts = {next((accepts for accepts, regex in patterns if regex.search(name)), None) for name in names}
    return False in verdicts and True not in verdicts


def _names(node: Node, root: Path) -> set[str]:
    """Return the node and its links, which udev knows (its database has a line `S:LINK` for each)."""
    names = {node.devnode, f"/dev/{node.name}"}
    try:
        lines = (root / "run/udev/data" / f"b{node.number}").read_text(errors="replace").splitlines()
    except OSError:  # udev has not looked at it yet
        return names
    return names | {f"/dev/{line[2:]}" for line in lines if line.startswith("S:")}


def _texts(value: str) -> list[str]:
    """Return the texts of a setting: of one, or of a list of them. Raises ValueError."""
    if not _TEXTS.fullmatch(value):
        raise ValueError(f"{value!r} is no list of texts")
    return [re.sub(r"\\(.)", r"\1", text) for text in re.findall(_TEXT, value)]


def _pattern(text: str) -> tuple[bool, re.Pattern[str]]:
    """Return whether a pattern accepts, and what it matches: `a|REGEX|`, with any separator.

    Raises ValueError.
    """
    kind, opener, rest = text[:1], text[1:2], text[2:]
    if kind not in ("a", "r") or not rest.endswith(_CLOSERS.get(opener, opener)) or not rest:
        raise ValueError(f"{text!r} is no pattern")
    return kind == "a", re.compile(_COUNTS.sub(r"\\\1", rest[:-1]))
