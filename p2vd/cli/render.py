"""Objects as text for people, folded as layout says; `--json` prints properties as on the bus instead."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from p2vd.bus.names import JOB, MACHINE, ROOT, object_id
from p2vd.cli.client import Object
from p2vd.cli.layout import facts, fold, prose
from p2vd.cli.layout import table as table
from p2vd.cli.lookup import domain_command, machine_name
from p2vd.model.duration import format_latency
from p2vd.model.size import format_size

SHORT_ID = 8

_SIZES = frozenset(
    {
        "Size",
        "Free",
        "ExtentSize",
        "ChunkSize",
        "VirtualSize",
        "Reserved",
        "TakenByOthers",
        "MetadataSize",
        "Bytes",
        "BytesCopied",
        "BytesZero",
        "BytesVerified",
        "BytesCommitted",
        "BadBytes",
        "ResumedFrom",
    }
)
_TIMES = frozenset({"StartTime", "EndTime", "ExpectedEndTime", "LastCheckpoint"})


def as_json(value: object) -> str:
    """Return JSON as `--json` prints it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_dicts(objects: Iterable[Object]) -> list[dict[str, Any]]:
    """Objects for `--json`: the properties and the path."""
    return [{"Path": item.path, **item.properties} for item in objects]


def time_text(time_us: int) -> str:
    """Return a time as people read it; a dash for none."""
    return datetime.fromtimestamp(time_us / 1e6).astimezone().isoformat(" ", "seconds") if time_us else "-"


def sources(objects: Sequence[Object]) -> str:
    """One line a source; below, why some cannot be used: what many have in common is said once."""
    rows = [
        (
            item["Id"],
            item["Name"],
            format_size(item["Size"]),
            str(item["SectorSize"]),
            _transport(item),
            f"{item['PathsReady']}/{item['PathsTotal']}" if item["PathsTotal"] else "-",
            item["MatchedPolicy"] or "none",
            _usable(item),
        )
        for item in objects
    ]
    head = ("ID", "NAME", "SIZE", "SECTOR", "TRANSPORT", "PATHS", "POLICY", "USABLE")
    told = _by_reason((reason, item["Id"], item["Name"]) for item in objects for reason in item["Reasons"])
    reasons = [_shared(reason, named, "sources") for reason, named in told.items()]
    return "\n".join([table(head, rows), *([""] if reasons else []), *reasons])


def _transport(source: Object) -> str:
    form = source.properties.get("Format", "raw")
    return str(source["Transport"]) if form == "raw" else f"{source['Transport']} ({form})"


def _by_reason(said: Iterable[tuple[str, str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Reasons, each with the ids and names of all that it stands against."""
    told: dict[str, list[tuple[str, str]]] = {}
    for reason, identity, name in said:
        told.setdefault(reason, []).append((identity, name or identity))
    return told


def _shared(reason: str, named: Sequence[tuple[str, str]], what: str) -> str:
    """A reason with the one thing, or the things, that it stands against."""
    if len(named) == 1:
        return f"{named[0][0]}: {reason}"
    names = prose(", ".join(name for _, name in named), first="  ", rest="  ")
    return f"{len(named)} {what}: {reason}\n{names}"


def _usable(source: Object) -> str:
    count = len(source["Warnings"])
    warnings = f", {count} warning{'s' if count > 1 else ''}" if count else ""
    return ("yes" if source["Usable"] else "no") + warnings


def findings(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the doctor found, a paragraph each."""
    return "\n\n".join(
        "\n".join((f"{row['Severity']}: {row['Code']}", *fold(f"  {row['Text']}", 2))) for row in rows
    )


def volume_groups(objects: Sequence[Object]) -> str:
    """One line a volume group and one a thin pool in it."""
    rows = []
    for item in objects:
        rows.append((item["Name"], "", format_size(item["Size"]), format_size(item["Free"]), *[""] * 4))
        rows += [
            (
                item["Name"],
                pool["Name"],
                format_size(pool["Size"]),
                format_size(round(pool["Size"] * (100 - pool["DataPercent"]) / 100)),
                f"{pool['DataPercent']:.1f} %",
                f"{pool['MetadataPercent']:.1f} %",
                format_size(pool.get("TakenByOthers", 0)),
                pool["Health"] or ("well" if pool["Active"] else "inactive"),
            )
            for pool in item["ThinPools"]
        ]
    head = ("VG", "THIN POOL", "SIZE", "FREE", "DATA", "METADATA", "BY OTHERS", "HEALTH")
    reasons = [f"{item['Name']}: {reason}" for item in objects for reason in item["Reasons"]]
    return "\n".join([table(head, rows), *([""] if reasons else []), *reasons])


def fabric(hbas: Sequence[Mapping[str, Any]]) -> str:
    """One line a remote port; an HBA that sees none has a line too."""
    rows = []
    for hba in hbas:
        own = (hba["Host"], hba["Wwpn"], hba["State"], hba["Speed"] or "-")
        rows += [
            (
                *own,
                port["Wwpn"],
                port["State"],
                ", ".join(role.removeprefix("FCP ").lower() for role in port["Roles"]) or "-",
                port["Target"] or "-",
                str(len(port["Luns"])),
            )
            for port in hba["RemotePorts"]
        ] or [(*own, "-", "-", "-", "-", "-")]
    head = ("HBA", "WWPN", "LINK", "SPEED", "REMOTE PORT", "STATE", "ROLES", "TARGET", "LUNS")
    return table(head, rows)


def paths(found: Sequence[Mapping[str, Any]]) -> str:
    """One line a path of a LUN; over Fibre Channel with this host's port and the array's."""
    rows = [
        (
            path["Device"],
            path["Hctl"] or "-",
            path["Host"] or "-",
            path["State"],
            str(path["Priority"]) if path["Group"] else "-",
            str(path["Group"]) if path["Group"] else "-",
            path["Portal"] or path["TargetWwpn"] or "-",
            path["HbaWwpn"] or "-",
            path["PortState"] or "-",
        )
        for path in found
    ]
    head = ("PATH", "HCTL", "HOST", "STATE", "PRIORITY", "GROUP")
    if any(path["HbaWwpn"] for path in found):
        return table((*head, "ARRAY PORT", "HBA", "PORT STATE"), rows)
    return table((*head, "PORTAL"), [row[:7] for row in rows])


def physical_volumes(found: Sequence[Mapping[str, Any]]) -> str:
    """The PVs of a volume group and the disks that they are on."""
    rows = [
        (
            pv["Device"],
            pv["Source"] or "-",
            format_size(pv["Size"]),
            format_size(pv["Free"]),
            "missing" if pv["Missing"] else "there twice" if pv["Duplicate"] else "well",
        )
        for pv in found
    ]
    return table(("PHYSICAL VOLUME", "DISK", "SIZE", "FREE", "STATE"), rows)


def logical_volumes(found: Sequence[Mapping[str, Any]]) -> str:
    """The LVs of a volume group with their tags."""
    rows = [
        (
            lv["Name"],
            format_size(lv["Size"]),
            lv["Pool"] or "-",
            "yes" if lv["Active"] else "no",
            ", ".join(lv["Tags"]) or "-",
        )
        for lv in found
    ]
    return table(("LOGICAL VOLUME", "SIZE", "THIN POOL", "ACTIVE", "TAGS"), rows)


def jobs(objects: Sequence[Object]) -> str:
    """One line a job, those that wait in the order in which they start; below, why some failed or wait."""
    found = sorted(
        (item for item in objects if item.interface == JOB), key=lambda item: int(item["QueuePlace"])
    )
    rows = [
        (
            item["Uuid"][:SHORT_ID],
            machine_name(item, objects),
            item["SourceId"],
            item["Target"],
            item["Stage"],
            state(item),
            f"{item['Progress']:.0%}",
            rate(item),
            time_left(item),
        )
        for item in found
    ]
    head = ("JOB", "MACHINE", "SOURCE", "TARGET", "STAGE", "STATE", "DONE", "RATE", "LEFT")
    said = [f"{item['Uuid'][:SHORT_ID]}: {item['Error'][1]}" for item in found if item["Error"][1]]
    said += [f"{item['Uuid'][:SHORT_ID]}: {item['BackOff']}" for item in found if item["BackOff"]]
    waiting = _by_reason((item["Waiting"], item["Uuid"][:SHORT_ID], "") for item in found if item["Waiting"])
    said += [_shared(reason, named, "jobs wait") for reason, named in waiting.items()]
    return "\n".join([table(head, rows), *([""] if said else []), *said])


def portals(objects: Sequence[Object]) -> str:
    """One line a portal; below, what is wrong with some."""
    rows = [
        (
            item["Id"],
            item["State"],
            f"{_sessions_up(item)}/{len(item['Sessions'])}",
            str(item["Luns"]),
            item["Nic"] or "-",
            item["SourceAddress"] or "-",
            str(item["Mtu"] or "-"),
        )
        for item in objects
    ]
    head = ("PORTAL", "STATE", "SESSIONS", "LUNS", "NIC", "SOURCE", "MTU")
    wrong = [f"{item['Id']}: {item['Error'][1]}" for item in objects if item["Error"][1]]
    wrong += [f"{item['Id']}: {text}" for item in objects for text in item["LastRescan"]["LeftAlone"]]
    return "\n".join([table(head, rows), *([""] if wrong else []), *wrong])


def portal(item: Object) -> str:
    """What a portal is now, in a sentence."""
    if item["State"] == "connecting":
        return f"{item['Id']} is being connected. See: p2vctl portals list"
    foreign = sum(not session["Ours"] for session in item["Sessions"])
    used = f" ({foreign} of them there before, and not p2vd's to end)" if foreign else ""
    way = f" by {item['Nic']}, {item['SourceAddress']}, MTU {item['Mtu']}" if item["Nic"] else ""
    return (
        f"{item['Id']} is connected: {_sessions_up(item)} of {len(item['Sessions'])} sessions{used}{way}. "
        "See: p2vctl sources"
    )


def rescan(item: Object) -> str:
    """What a rescan of a portal found, a line each."""
    report = item["LastRescan"]
    lines = [f"new: {wwid}" for wwid in report["New"]]
    for word, key in (("grown", "Grown"), ("vanished", "Vanished"), ("replaced", "Replaced")):
        lines += [f"{word}: {text}" for text in report[key]]
    lines += [f"! left alone: {text}" for text in report["LeftAlone"]]
    return "\n".join([f"{item['Id']}: {'' if lines else 'nothing has changed.'}".rstrip(), *lines])


def _sessions_up(item: Object) -> int:
    return sum(session["State"] == "LOGGED_IN" for session in item["Sessions"])


def state(job: Object) -> str:
    """What a job does now: why it is held and its place in the queue, else its activity."""
    if job["Holds"]:
        place = f" (number {job['QueuePlace']})" if job["QueuePlace"] else ""
        return "held: " + ", ".join(job["Holds"]) + place
    return str(job["Activity"])


def rate(job: Object) -> str:
    """How fast a job is, or a dash."""
    return f"{format_size(job['Rate'])}/s" if job["Rate"] else "-"


def latency(time_us: int) -> str:
    """What a read of the source takes, or a dash."""
    return format_latency(time_us) if time_us else "-"


def time_left(job: Object, now_us: int | None = None) -> str:
    """How long a job will take yet, or a dash."""
    if not job["ExpectedEndTime"]:
        return "-"
    now = int(datetime.now().timestamp() * 1e6) if now_us is None else now_us
    seconds = max(0, (job["ExpectedEndTime"] - now) // 1_000_000)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def details(item: Object) -> str:
    """Every property of one object, a line each; but for those that have a page of their own."""
    own_page = ("Contents", "BootTest", "Verification")
    told = {name: value for name, value in item.properties.items() if name not in own_page}
    text = facts((name, _value(name, value)) for name, value in told.items())
    return "\n\n".join(filter(None, (text, _next_step(item))))


def _value(name: str, value: Any) -> str:
    if name in _SIZES:
        return f"{format_size(value)} ({value})" if value >= 1024 else str(value)
    if name in _TIMES:
        return time_text(value)
    if name == "Progress":
        return f"{value:.2%}"
    if name == "Rate":
        return f"{format_size(value)}/s"
    if name == "Bandwidth":
        return f"{format_size(value)}/s" if value else "no limit"
    if name == "ReadLatency":
        return latency(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "Devices":
        return f"{len(value)}"
    if name == "ThinPools":
        return "; ".join(f"{pool['Name']} ({pool['DataPercent']:.1f} % used)" for pool in value) or "-"
    if isinstance(value, list):
        return ", ".join(_named(part) for part in value if part) or "-"
    return _named(value) or "-"


def _named(value: object) -> str:
    """A value as a word; of an object's path its id, which people and p2vctl use."""
    text = str(value)
    return object_id(text) if text.startswith(f"{ROOT}/") else text


def _next_step(item: Object) -> str:
    if item.interface == JOB and item["Stage"] == "failed":
        short = item["Uuid"][:SHORT_ID]
        return f"To go on: p2vctl retry {short}\nTo give up: p2vctl cancel {short} --remove-target"
    if item.interface == JOB and "user" in item["Holds"]:
        return f"To go on: p2vctl resume {item['Uuid'][:SHORT_ID]}"
    if item.interface == MACHINE:
        return _machine_next_step(item)
    return ""


def _machine_next_step(machine: Object) -> str:
    short = machine["Uuid"][:SHORT_ID]
    if machine["State"] == "ready" and machine["CutoverMode"] == "manual" and not machine["Error"][1]:
        return f"To register it: p2vctl cutover {short}"
    command = domain_command(machine)
    told = [f"The virtual machine: {command}"] if command else []
    if machine["State"] == "registered":
        told += [
            f"To take it back: p2vctl rollback {short}",
            f"To keep it for good, and remove its sources from this host: p2vctl accept {short}",
        ]
    return "\n".join(told)
