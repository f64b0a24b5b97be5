"""Reads what the doctor judges: settings and states of this host that can cost a job, or a guest's disk."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from p2vd.discovery.exposure import QUARANTINE_RULES, read_exposures, rule_in_effect
from p2vd.discovery.iscsi import read_sessions
from p2vd.discovery.multipath import MultipathdUnclear
from p2vd.discovery.sysfs import list_directory, read_text
from p2vd.model.doctor import HostFacts, Multipath, Session
from p2vd.model.errors import P2vdError, Reason
from p2vd.system.command import Commands

_TIMEOUT_S = 15.0
_SECTION = re.compile(r"^(\w+) \{$")
_SETTING = re.compile(r'^\t(\w+) "?([^"\n]*)"?$')
# libmultipath's snprint_queueing: what stands for no_path_retry "queue".
_QUEUES_FOR_EVER = "on"


def read_host_facts(commands: Commands, sysfs: Path = Path("/sys"), root: Path = Path("/")) -> HostFacts:
    """Return what is to be judged. What cannot be read becomes a problem."""
    problems: list[str] = []
    try:
        exposures = read_exposures(commands, root)
    except P2vdError as error:
        text = f"It is not known what this host does to disks: {error}"
        exposures = (Reason("unknown-exposure", text),)
    multipath = None
    try:
        multipath = read_multipath(commands)
    except P2vdError as error:
        problems.append(str(error))
    return HostFacts(
        exposures=exposures,
        rules=tuple(rule_in_effect(root, name) for name in QUARANTINE_RULES),
        multipath=multipath,
        sessions=tuple(_sessions(sysfs)),
        no_space_timeout_s=_seconds(sysfs / "module/dm_thin_pool/parameters/no_space_timeout"),
        problems=tuple(problems),
    )


def read_multipath(commands: Commands) -> Multipath:
    """Return what multipathd says of its settings and maps.

    Raises CommandFailed, CommandTimedOut, MultipathdUnclear.
    """
    # `local`: without the hundreds of arrays that it knows and that are not here.
    config = commands.query(["multipathd", "show", "config", "local"], timeout_s=_TIMEOUT_S).stdout
    settings = parse_config(config)
    if "defaults" not in settings:
        raise MultipathdUnclear(config[:80])
    answer = commands.query(["multipathd", "show", "maps", "json"], timeout_s=_TIMEOUT_S).stdout
    try:
        queueing = tuple(
            str(one["name"]) for one in json.loads(answer)["maps"] if one["queueing"] == _QUEUES_FOR_EVER
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MultipathdUnclear(answer[:80]) from error
    recheck = settings.get("overrides", {}).get("recheck_wwid") or settings["defaults"].get("recheck_wwid")
    return Multipath(recheck or "", queueing)


def parse_config(text: str) -> dict[str, dict[str, str]]:
    """Return the settings of multipathd's sections; not those of sections inside a section."""
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        if section := _SECTION.match(line):
            current = sections.setdefault(section.group(1), {})
        elif setting := _SETTING.match(line):
            current[setting.group(1)] = setting.group(2)
    return sections


def _sessions(sysfs: Path) -> Iterator[Session]:
    sessions = sysfs / "class/iscsi_session"
    connections = sysfs / "class/iscsi_connection"
    for name, endpoint in read_sessions(sysfs).items():
        own = f"connection{name.removeprefix('session')}:"
        connection = next((one for one in list_directory(connections) if one.startswith(own)), "")
        yield Session(
            name=name,
            target_iqn=endpoint.target_iqn,
            portal=endpoint.portal,
            recovery_s=_seconds(sessions / name / "recovery_tmo"),
            ping_interval_s=_seconds(connections / connection / "recv_tmo"),
            ping_timeout_s=_seconds(connections / connection / "ping_tmo"),
        )


def _seconds(path: Path) -> int:
    """Return a time; -1 where it cannot be read, or is off."""
    text = read_text(path)
    return int(text) if text.isdecimal() else -1
