"""The virtual machine of a plan: how it will look, or why it cannot be. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.domain.errors import DomainImpossible
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskBus, DomainOptions
from p2vd.planning.contents import firmware
from p2vd.planning.disk import Draft
from p2vd.planning.targets import Choice


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
    disks = [_disk(each.source, each.choice) for each in drafts if each.choice is not None]
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


def _disk(source: Source, choice: Choice) -> DomainDisk:
    return DomainDisk(
        devnode=f"/dev/{choice.vg.name}/{choice.lv_name}",
        serial=source.wwid or source.id,
        thin=choice.pool is not None,
        sector_size=choice.logical_block_size,
        size_bytes=choice.size_bytes,
    )


def resolved(options: DomainOptions, definition: Definition) -> DomainOptions:
    """Return options that define the same machine, with or without its passport's numbers."""
    buses = {disk.bus for disk in definition.disks} - {DiskBus.XEN}
    return replace(
        options,
        memory_bytes=definition.memory_bytes,
        vcpus=definition.topology.count,
        bus=buses.pop() if len(buses) == 1 else options.bus,
    )
