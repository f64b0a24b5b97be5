"""What is on a source, as text for people. Pure."""

from collections.abc import Mapping
from typing import Any

from p2vd.cli.layout import table
from p2vd.model.size import format_size

_STATES = {
    "no": "not looked at: no policy matches it, it is in use, or a job has it",
    "under-way": "being looked at",
    "silent": "does not answer",
    "failed": "could not be read",
}
_TABLES = {
    "none": "no partition table",
    "other": "a partition table of another kind",
    "mbr": "MBR",
    "gpt": "GPT",
    "hybrid": "GPT with a hybrid MBR",
    "gpt-other-sectors": "GPT for sectors of another size",
    "gpt-damaged": "damaged GPT",
}
_BOOT = {
    "both": "boots by BIOS and UEFI",
    "bios": "boots by BIOS",
    "uefi": "boots by UEFI",
    "none": "not bootable",
}
# The types that a server's disk usually has; others are shown as they are.
_TYPES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "a19d880f-05fc-4d3b-a006-743f0f84911e": "Linux RAID",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Microsoft data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
}


def contents(value: Mapping[str, Any]) -> str:
    """Return the Contents of a source: a line, and its partitions."""
    state, problem = value["State"], value["Problem"]
    if "Table" not in value:
        said = "known only after its copy" if state == "no" and problem else _STATES.get(state, state)
        return "\n".join(filter(None, (f"Contents: {said}", problem)))
    facts = [
        _TABLES.get(value["Table"], value["Table"]),
        _BOOT.get(value["Boot"], value["Boot"]),
        f"physical sectors of {value['PhysicalSectorSize']} bytes",
    ]
    if held := _holds(value):
        facts.insert(1, f"holds {held}")
    if value["Reservation"]:
        facts.append(f"reserved by {value['Reservation']}")
    again = ["It is being looked at again."] if state == "under-way" else []
    lines = [f"Contents: {', '.join(facts)}", *again, *value["Problems"]]
    rows = [
        (
            str(part["Number"]),
            format_size(part["Start"]),
            format_size(part["Size"]),
            _TYPES.get(part["Type"], part["Type"]),
            _holds(part) or "-",
            part["Label"] or part["Name"] or "-",
        )
        for part in value["Partitions"]
    ]
    head = ("PARTITION", "START", "SIZE", "TYPE", "HOLDS", "LABEL")
    return "\n".join([*lines, *(["", table(head, rows)] if rows else [])])


def _holds(place: Mapping[str, Any]) -> str:
    words = [place["Holds"].replace("|", " or ")]
    words += [f"of {place['VolumeGroup']}"] if place["VolumeGroup"] else []
    words += ["dirty"] if place["Dirty"] else []
    words += ["hibernated"] if place["Hibernated"] else []
    return " ".join(filter(None, words))
