"""The audit and receipts as text for people. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from p2vd.cli.layout import facts, table
from p2vd.cli.render import SHORT_ID
from p2vd.cli.render import time_text as _time
from p2vd.model.size import format_size


def audit(entries: Sequence[Mapping[str, Any]]) -> str:
    """One line an entry; below it, indented, the sentence that belongs to it."""
    head = ("ENTRY", "TIME", "WHO", "ABOUT", "WHAT")
    rows = [
        (str(entry["number"]), _time(entry["time_us"])[:19], _who(entry), _about(entry), _what(entry))
        for entry in entries
    ]
    return table(head, rows, notes=[entry.get("text", "") for entry in entries])


def _who(entry: Mapping[str, Any]) -> str:
    who = entry.get("who")
    if not who:
        return "-"
    return f"uid {who['uid']}" + (f" {who['unit']}" if who["unit"] else "")


def _what(entry: Mapping[str, Any]) -> str:
    kind, verb, outcome = entry["kind"], entry.get("verb", ""), entry.get("outcome", "")
    match kind:
        case "asked":
            return " ".join([verb, *(f"{key}={_short(item)}" for key, item in _arguments(entry).items())])
        case "ended":
            return f"{verb} of entry {entry['asked']}: {outcome}"
        case "denied":
            times = entry.get("times", 1)
            return f"{verb} refused: {outcome}" + (f", {times} times" if times > 1 else "")
        case "daemon":
            return f"p2vd {outcome}"
        case "pool":
            return f"the thin pool {_short(_arguments(entry).get('pool', ''))}: {outcome}"
        case "hook":
            return f"the hook {_short(_arguments(entry).get('hook', ''))}: {outcome}"
        case "auto":
            return f"by itself: {outcome}"
        case "file":
            return f"the audit's file: {outcome}"
    return f"{kind} {outcome}"


def _arguments(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry.get("arguments", {})
    return found


def _short(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _about(entry: Mapping[str, Any]) -> str:
    jobs = [f"job {uuid[:SHORT_ID]}" for uuid in entry.get("job", ())]
    machine = entry.get("machine_name") or entry.get("machine", "")[:SHORT_ID]
    wwids = () if jobs else entry.get("wwid", ())  # a job has one, and the line an end
    return " ".join(filter(None, (machine, *jobs, *wwids))) or "-"


def verdict(found: Mapping[str, Any]) -> str:
    """What a check of the audit found."""
    lines = [f"! {finding}" for finding in found["Findings"]]
    if not found["Entries"]:
        lines.append("The audit has no entries.")
    elif not lines:
        span = f"{found['Entries']} entries, {found['First']} to {found['Last']}"
        lines.append(f"The audit is whole: {span}. Its last hash: {found['LastHash']}")
    return "\n".join([*lines, *filter(None, (found["Journal"],))])


def receipts(notes: Sequence[Mapping[str, Any]]) -> str:
    """One line a receipt; below, which cannot be trusted."""
    rows = [
        (
            note["Job"],
            note["MachineName"] or "?",
            note["SourceId"] or "?",
            _time(note["EndTime"]),
            "no" if note["Problem"] else "yes",
        )
        for note in notes
    ]
    bad = [f"{note['Job']}: {note['Problem']}" for note in notes if note["Problem"]]
    return "\n".join(
        [table(("JOB", "MACHINE", "SOURCE", "PROVEN", "WHOLE"), rows), *([""] if bad else []), *bad]
    )


def _target(target: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a disk was copied to; receipts from before there were kinds are of volumes."""
    size = format_size(target["size_bytes"])
    match target.get("kind", "lv"):
        case "file":
            return ("Target", f"{target['path']}, {target['format']}, {size}"), ("File", target["file_id"])
        case "lun":
            return (("Target", f"LUN {target['wwid']}, {size}"),)
    thin = f"thin in {target['pool_name']}" if target["pool_name"] else target["provisioning"]
    name = f"{target['vg_name']}/{target['lv_name']}"
    return ("Target", f"{name}, {thin}, {size}"), ("Volume", target["lv_uuid"])


def _form(source: Mapping[str, Any]) -> str:
    """How an image held the disk; receipts of before know raw ones only."""
    form = source.get("format", "raw")
    return "" if form == "raw" else f", {form}"


def receipt(page: Mapping[str, Any]) -> str:
    """A receipt, whose checksum fits, as one reads it."""
    source, target, proof, count = page["source"], page["target"], page["proof"], page["bytes"]
    offline = page["source_offline"]
    by = f"by uid {offline['by']['uid']}"
    bad = f"{format_size(count['bad'])} in {len(page['bad_ranges'])} places" if count["bad"] else "none"
    told = (
        ("Machine", f"{page['machine']['name']} ({page['machine']['uuid']})"),
        (
            "Source",
            f"{source['id']} ({format_size(source['size_bytes'])}, {source['sector_size']}-byte sectors, "
            f"{source['transport']}{_form(source)})",
        ),
        *_target(target),
        ("Policy", f"{page['plan']['policy']} ({page['plan']['policy_file']})"),
        ("Plan", page["plan"]["id"]),
        ("Started", f"{_time(page['start_time_us'])} {by}"),
        ("Proven", _time(page["end_time_us"])),
        (
            "Offline",
            f"declared {by}, {_time(offline['declared_us'])}" if offline["declared"] else "not declared",
        ),
        ("Copied", f"{format_size(count['copied'])} of data, {format_size(count['zero'])} of zeros"),
        ("Verified", f"{proof['verify']}, {format_size(count['verified'])} read"),
        ("Unchanged", f"{proof['source_stable']}: the source, read again"),
        ("Unreadable", bad),
        ("Digest", proof["digest"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in sorted(page["versions"].items()))),
        ("Checksum", f"{page['sha256']} (fits)"),
    )
    return f"Receipt of job {page['job']}\n\n{facts(told, indent=2)}"
