"""The virtual machine of a plan: how it will look, or why it cannot be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DiskKind, DomainDisk
from p2vd.domain.errors import DomainImpossible
from p2vd.model.errors import Reason
from p2vd.model.forms import TargetFormat
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskBus, DomainOptions, FileTarget, LunTarget, LvTarget, Target
from p2vd.planning.contents import firmware
from p2vd.planning.disk import Draft


@dataclass(frozen=True)
class PlannedDomain:
    """The machine, and `options` by which it is defined just so when its disks are proven."""

    options: DomainOptions
    definition: Definition


def plan_domain(
    drafts: Sequence[Draft], machine_name: str, passport: Passport | None
) -> PlannedDomain | Reason | None:
    """Return the machine with everything filled in that was left open, or why there can be none.

    The rule of the first disk, the one that it boots from, says how it looks. None where it is not known
    yet which disks it would have: each draft says why.
    """
    disks = [disk for each in drafts if (disk := _disk(each)) is not None]
    options = options_of(drafts[0], passport)
    if options is None or len(disks) < len(drafts):
        return None
    try:
        definition = define(machine_name, "", passport, disks, options)
    except DomainImpossible as error:
        return Reason(f"domain-{error.key.replace('_', '-')}", str(error))
    return PlannedDomain(resolved(options, definition), definition)


def options_of(first: Draft, passport: Passport | None) -> DomainOptions | None:
    """Return how the machine of that first disk shall look, as far as its rule says; None without one."""
    if first.rule is None or first.choice is None:
        return None
    return replace(
        first.rule.domain,
        logical_block_size=first.choice.logical_block_size,
        firmware=firmware(first.source, first.rule, passport),
    )


def domain_disk(target: Target, serial: str, sector_size: int) -> DomainDisk:
    """Return what a definition is told of a target; `serial`: the WWID or id of its source."""
    form, kind = TargetFormat.RAW, DiskKind.BLOCK
    match target:
        case LvTarget():
            frees = bool(target.pool_name)
        case LunTarget():
            frees = target.unmap
        case FileTarget():
            frees, form, kind = True, target.format, DiskKind.FILE
    return DomainDisk(
        devnode=target.path,
        serial=serial,
        thin=frees,
        sector_size=sector_size,
        size_bytes=target.size_bytes,
        kind=kind,
        format=form,
    )


def _disk(drafted: Draft) -> DomainDisk | None:
    if drafted.rule is None or drafted.choice is None:
        return None
    source, choice = drafted.source, drafted.choice
    return domain_disk(choice.target(drafted.rule), source.wwid or source.id, choice.logical_block_size)


def resolved(options: DomainOptions, definition: Definition) -> DomainOptions:
    """Return options that define the same machine, with or without its passport's numbers."""
    buses = {disk.bus for disk in definition.disks} - {DiskBus.XEN}
    return replace(
        options,
        memory_bytes=definition.memory_bytes,
        vcpus=definition.topology.count,
        bus=buses.pop() if len(buses) == 1 else options.bus,
    )
