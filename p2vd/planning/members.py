"""Which disks a machine has: those that the caller names, or those of its record. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2vd.domain.disks import plain_wwid
from p2vd.model.contents import BootStyle
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.size import format_size
from p2vd.planning.contents import boots_nowhere


@dataclass(frozen=True)
class Members:
    """The sources in the machine's order, why some disk is missing, and what should be known of the rest."""

    sources: tuple[Source, ...]
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[str, ...] = ()


def members(source_ids: Sequence[str], passport: Passport | None, inventory: Inventory) -> Members:
    """Return the disks that `passport` names, in its order, then the others of `source_ids`.

    Raises NotFound and Refused where one of `source_ids` names no source.
    """
    found: dict[str, Source] = {}
    reasons: list[Reason] = []
    warnings: list[str] = []
    for disk in passport.disks if passport else ():
        if not disk.wwid:
            warnings.append(_nameless(disk, passport))
        elif (source := _by_wwid(disk.wwid, inventory)) is None:
            reasons.append(_not_seen(disk, passport))
        else:
            found[source.id] = source
            warnings += _other_size(disk, source, passport)
    recorded = frozenset(found)
    listed: set[str] = set()
    for name in source_ids:
        source = inventory.source(name)
        if source.id in listed:
            reasons.append(Reason("source-twice", f"{source} is named twice. Name each disk once."))
        listed.add(source.id)
        if passport is not None and source.id not in recorded:
            warnings.append(
                f"The record of {passport.name} does not know {source}; it comes behind its disks."
            )
        found.setdefault(source.id, source)
    return Members(tuple(found.values()), tuple(reasons), tuple(warnings))


def boot_first(found: Members, record: Passport | None) -> Members:
    """Return the disks with the one first that the machine boots from: a BIOS starts no other.

    That is the one of which its record says so; else the first, unless on that nothing is made to boot from
    and on another there is.
    """
    boots = {plain_wwid(disk.wwid) for disk in record.disks if disk.boots} if record else set()
    for source in found.sources:
        if source.wwid and plain_wwid(source.wwid) in boots:
            return replace(found, sources=_first(source, found.sources))
    given = found.sources[0]
    if not boots_nowhere(given):
        return found
    for source in found.sources[1:]:
        if source.contents is not None and source.contents.boot is not BootStyle.NONE:
            told = (
                f"{source} comes first, for it is made to boot from ({source.contents.boot.value}), and "
                f"nothing on {given} is. If the machine boots from another disk, say so in its record: "
                "p2vd-machine(5), boots."
            )
            return replace(found, sources=_first(source, found.sources), warnings=(*found.warnings, told))
    return found


def _first(source: Source, sources: tuple[Source, ...]) -> tuple[Source, ...]:
    return (source, *(other for other in sources if other is not source))


def _by_wwid(wwid: str, inventory: Inventory) -> Source | None:
    return next((source for source in inventory.sources if wwid in (source.wwid, source.id)), None)


def _of(passport: Passport | None) -> str:
    return passport.name if passport else ""


def _nameless(disk: PassportDisk, passport: Passport | None) -> str:
    return (
        f"The disk {disk.name} of {_of(passport)} ({format_size(disk.size_bytes)}) has no WWID in the "
        "record, so it is left out. If it is to move too, name its source beside the record."
    )


def _not_seen(disk: PassportDisk, passport: Passport | None) -> Reason:
    return Reason(
        "disk-not-seen",
        f"The disk {disk.name} of {_of(passport)} ({disk.wwid}, {format_size(disk.size_bytes)}) is not "
        "attached to this host. Map its LUN here, then: p2vctl rescan. To leave it behind, name the other "
        "disks instead of the record.",
    )


def _other_size(disk: PassportDisk, source: Source, passport: Passport | None) -> list[str]:
    if not disk.size_bytes or disk.size_bytes == source.size_bytes:
        return []
    return [
        f"{source} has {format_size(source.size_bytes)}; the record of {_of(passport)} says "
        f"{format_size(disk.size_bytes)} of its {disk.name}."
    ]
