"""The virtual machine of a plan: how it will look, or why it cannot be. Pure."""

from dataclasses import dataclass, replace

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.domain.errors import DomainImpossible
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskBus, DomainOptions
from p2vd.planning.contents import firmware
from p2vd.planning.targets import Choice
from p2vd.policy.model import Rule


@dataclass(frozen=True)
class PlannedDomain:
    """The machine, and `options` by which it is defined just so when its disks are proven."""

    options: DomainOptions
    definition: Definition


def plan_domain(
    rule: Rule, source: Source, choice: Choice, machine_name: str, passport: Passport | None
) -> PlannedDomain | Reason:
    """Return the machine with everything filled in that was left open, or why there can be none."""
    options = replace(
        rule.domain,
        logical_block_size=choice.logical_block_size,
        firmware=firmware(source, rule, passport),
    )
    disk = DomainDisk(
        devnode=f"/dev/{choice.vg.name}/{choice.lv_name}",
        serial=source.wwid or source.id,
        thin=choice.pool is not None,
        sector_size=choice.logical_block_size,
        size_bytes=choice.size_bytes,
    )
    try:
        definition = define(machine_name, "", passport, (disk,), options)
    except DomainImpossible as error:
        return Reason(f"domain-{error.key.replace('_', '-')}", str(error))
    return PlannedDomain(resolved(options, definition), definition)


def resolved(options: DomainOptions, definition: Definition) -> DomainOptions:
    """Return options that define the same machine, with or without its passport's numbers."""
    buses = {disk.bus for disk in definition.disks} - {DiskBus.XEN}
    return replace(
        options,
        memory_bytes=definition.memory_bytes,
        vcpus=definition.topology.count,
        bus=buses.pop() if len(buses) == 1 else options.bus,
    )
