"""What of a source forbids a plan, beyond what discovery found. Pure."""

import re
from collections.abc import Iterator

from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.names import machine_name_problem
from p2vd.model.size import MIB, format_size
from p2vd.planning.targets import find_groups
from p2vd.policy.model import Rule

_MIN_SOURCE_BYTES = MIB
"""A disk is bound by its first and last MiB (design: §3)."""


def source_reasons(source: Source, machine_name: str) -> Iterator[Reason]:
    """Yield why the source, or the name of its machine, cannot be planned with."""
    if problem := machine_name_problem(machine_name):
        yield Reason("machine-name", problem)
    if source.size_bytes < _MIN_SOURCE_BYTES:
        yield Reason(
            "source-too-small",
            f"{source} has {format_size(source.size_bytes)}; a disk of less than "
            f"{format_size(_MIN_SOURCE_BYTES)} cannot be told from another by its content.",
        )


def holds_source(rule: Rule, source: Source, inventory: Inventory) -> tuple[Reason, ...]:
    """Return which of the rule's volume groups have the source, or a partition of it, as a PV.

    No later volume group helps: the source then holds data of this host.
    """
    reasons = {}
    for wanted in rule.target.volume_groups:
        found = find_groups(wanted, inventory)
        for vg in found if not isinstance(found, Reason) else ():
            device = next((pv.device for pv in vg.pvs if _is_of(pv.device, source)), "")
            if device:
                reasons[vg.uuid] = Reason(
                    "source-is-pv",
                    f"{device}, a PV of the volume group {vg.name}, is on the source {source}: "
                    "it would be copied into itself. Name another volume group in the policy.",
                )
    return tuple(reasons.values())


def sector_sizes(source: Source) -> Iterator[Reason]:
    """Yield why the source's sectors cannot be shown to a guest at all."""
    if source.sector_size not in (512, 4096):
        yield Reason(
            "sector-size", f"{source} has sectors of {source.sector_size} bytes; only 512 and 4096 can be."
        )


def _is_of(device: str, source: Source) -> bool:
    """Whether `device` is the source or a partition of it, by the names of kernel, kpartx and udev.

    A map `db2` beside a map `db` is another disk: partition maps of `db` are `db-part2`.
    """
    mapped = f"/dev/mapper/{source.name}"
    part = "p?" if not source.device[-1:].isdecimal() else "p"
    return bool(
        re.fullmatch(rf"{re.escape(source.devnode)}({part}\d+)?", device)
        or re.fullmatch(rf"{re.escape(mapped)}(-part\d+)?", device)
    )
