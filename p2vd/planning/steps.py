"""A plan's steps and warnings, as an administrator reads them."""

from collections.abc import Iterator

from p2vd.domain.definition import Definition
from p2vd.model.copying import Verify
from p2vd.model.disk import Source, Transport
from p2vd.model.domain import Conversion
from p2vd.model.forms import PACKED, SourceFormat
from p2vd.model.plan import CopyOptions, Cutover, DomainOptions, Firmware, Provisioning
from p2vd.model.size import format_size
from p2vd.planning.admission import metadata_room
from p2vd.planning.choice import Choice
from p2vd.planning.contents import backup_table
from p2vd.planning.files import FileChoice, file_step, file_warnings
from p2vd.planning.luns import LunChoice, lun_step, lun_warnings
from p2vd.planning.targets import LvChoice
from p2vd.policy.describe import extension_text
from p2vd.policy.domain import NO_HYPERVISOR
from p2vd.policy.model import Rule
from p2vd.policy.window import window_text

_VERIFY_STEPS = {
    Verify.READ_BACK: "Read the whole target again and compare it with the digests of what was copied; "
    "read the first and last MiB and 1024 random MiB of the source again.",
    Verify.BOTH: "Read the whole target and the whole source again and compare both with the digests.",
    Verify.NONE: "Compare nothing but the first and last MiB and 1024 random MiB of the source.",
}


def disk_steps(source: Source, choice: Choice, copy: CopyOptions) -> list[str]:
    """Return what would be done with a disk, in order, with every number that matters."""
    size = format_size(source.size_bytes)
    limit = (
        f", at most {format_size(copy.bandwidth_bytes_per_s)} a second" if copy.bandwidth_bytes_per_s else ""
    )
    bad = f" Up to {copy.bad_sectors} sectors that cannot be read become zeros." if copy.bad_sectors else ""
    windows = " or ".join(window_text(window) for window in copy.windows)
    when = f" It is done only {windows}." if windows else ""
    return [
        f"{_open(source)}: {_kind(source)}, {_paths(source)}{size}, sectors of {source.sector_size} bytes.",
        _make(choice, source),
        f"Copy {size}, {copy.queue_depth} requests at a time{limit}, with a checkpoint of what is durable."
        f"{bad}{when}",
        _VERIFY_STEPS[copy.verify],
    ]


def _open(source: Source) -> str:
    """Only a device of this host can be set read-only, and be opened to the exclusion of others."""
    match source.transport:
        case Transport.NBD:
            return f"Connect to the source {source} for reading"
        case Transport.IMAGE:
            return f"Open the source {source} for reading"
    return f"Set the source {source} read-only and open it exclusively"


def machine_steps(domain: DomainOptions, definition: Definition, cutover: Cutover) -> list[str]:
    """Return what is done when all disks of a machine are proven, in order."""
    told = f"When told to (p2vctl cutover {definition.name}), " if cutover is Cutover.MANUAL else ""
    if domain.uri == NO_HYPERVISOR:
        paths = ", ".join(disk.devnode for disk in definition.disks)
        return [f'Give {definition.name} to nobody (domain.hypervisor = "{NO_HYPERVISOR}"): {paths} stay.']
    steps = [told + _define(domain, definition)]
    if domain.started_by_p2vd:
        unless = ", unless told not to (--no-start)" if told else ""
        steps.append(f"{told}start the virtual machine {definition.name}{unless}.")
    if domain.conversion is Conversion.VIRT_V2V:
        convert = "convert the guest by virt-v2v-in-place, after an undo point of each volume."
        steps.insert(0, told + convert)
    return [step[0].upper() + step[1:] for step in steps]


def _define(domain: DomainOptions, definition: Definition) -> str:
    disks = len(definition.disks)
    sectors = f", in sectors of {domain.logical_block_size} bytes" if domain.logical_block_size else ""
    where = f"for {domain.uri} by files in {domain.directory}" if domain.directory else f"at {domain.uri}"
    return (
        f"define the virtual machine {definition.name} {where}: {format_size(domain.memory_bytes)} of "
        f"memory, {domain.vcpus} CPUs, {domain.firmware.value}, "
        f"{'its disk' if disks == 1 else f'its {disks} disks'} on {domain.bus.value}{sectors}, "
        f"{_nics(definition)}."
    )


def warnings(
    rule: Rule, source: Source, choice: Choice, copy: CopyOptions, domain: DomainOptions
) -> Iterator[str]:
    """Yield what does not forbid the plan, but should be known before it runs."""
    if source.transport in (Transport.ISCSI, Transport.FC):
        if len(source.paths) < 2:
            yield f"{source} has one path only: the copy waits while that is down."
        elif source.paths_ready < len(source.paths):
            yield f"Only {source.paths_ready} of {len(source.paths)} paths of {source} are ready."
    if source.format in PACKED and rule.copy.bad_sectors:
        yield (
            f"No sector of {source} may be unreadable, whatever copy.bad_sectors says: what follows such a "
            "place in a compressed image cannot be unpacked."
        )
    if copy.verify is Verify.NONE:
        yield 'The target is not read again (verify = "none"): what was lost without an error stays unseen.'
    if domain.logical_block_size > 512 and domain.firmware is Firmware.BIOS:
        yield (
            f"SeaBIOS does not boot from disks with sectors of {domain.logical_block_size} bytes; "
            'set domain.firmware = "uefi" if the machine shall boot from this disk.'
        )
    yield from backup_table(source, choice.size_bytes)
    match choice:
        case LvChoice():
            yield from _volume_warnings(rule, choice, copy)
        case LunChoice():
            yield from lun_warnings(rule, choice)
        case FileChoice():
            yield from file_warnings(choice, copy.pool_reserve_percent)


def _volume_warnings(rule: Rule, choice: LvChoice, copy: CopyOptions) -> Iterator[str]:
    if unit := choice.vg.late_change:
        yield (
            f"The volume group {choice.vg.name} takes no new work now: the command in "
            f"p2vd-change-{unit}.service does not end. The job waits until it has."
        )
    if choice.pool:
        free = choice.pool.size_bytes * (100 - copy.pool_reserve_percent) // 100 - choice.pool.used_bytes
        path = f"{choice.vg.name}/{choice.pool.name}"
        if choice.worst_case_bytes > free:
            yield (
                f"The copy may need {format_size(choice.worst_case_bytes)} of the pool {path}, which has "
                f"{format_size(max(free, 0))} free beyond the reserve of {copy.pool_reserve_percent} %: the "
                f'job is held ("pool") before the pool is full, and goes on after lvextend -L +SIZE {path}.'
            )
        room = metadata_room(choice.pool, copy.pool_reserve_percent)
        if room is not None and choice.worst_case_bytes > room:
            yield (
                f"The metadata of the pool {path} has room for {format_size(room)} beyond the reserve of "
                f"{copy.pool_reserve_percent} %, and the copy may need "
                f"{format_size(choice.worst_case_bytes)}: lvextend --poolmetadatasize +SIZE {path}."
            )
        if copy.pool_extension is not None:
            yield (
                f"p2vd extends the pool {path} if it runs short: {extension_text(copy.pool_extension)}. It "
                f"has {format_size(choice.pool.size_bytes)} now."
            )
    if not rule.target.autoactivate:
        path = f"{choice.vg.name}/{choice.lv_name}"
        yield (
            f"No host activates {path} at its boot (autoactivate = false): p2vd does before it starts the "
            f"machine; before a start by hand run lvchange -ay {path}."
        )
    if rule.target.single_host:
        yield f"No other host may use the volume group {choice.vg.name}: the policy says single_host = true."


def _nics(definition: Definition) -> str:
    if not definition.nics:
        return "no network"
    networks = dict.fromkeys(f"the {nic.kind.value} {nic.network}" for nic in definition.nics)
    count = f"{len(definition.nics)} NICs" if len(definition.nics) > 1 else "a NIC"
    return f"{count} on {', '.join(networks)}"


def _kind(source: Source) -> str:
    form = "" if source.format is SourceFormat.RAW else f" ({source.format.value})"
    return f"{source.transport.value}{form}"


def _paths(source: Source) -> str:
    return f"{source.paths_ready} of {len(source.paths)} paths ready, " if source.paths else ""


def _make(choice: Choice, source: Source) -> str:
    match choice:
        case LvChoice():
            return _volume(choice, source)
        case LunChoice():
            return lun_step(choice, source)
        case FileChoice():
            return file_step(choice)


def _volume(choice: LvChoice, source: Source) -> str:
    path = f"{choice.vg.name}/{choice.lv_name}"
    kind = Provisioning.THIN if choice.pool else Provisioning.THICK
    added = choice.size_bytes - source.size_bytes
    rounding = (
        f" ({format_size(added)} more than the source, to whole extents of "
        f"{format_size(choice.vg.extent_size_bytes)}; the rest is zero)"
        if added
        else ""
    )
    pool = f" in the pool {choice.pool.name}" if choice.pool else ""
    return f"Create the {kind.value} volume {path} of {format_size(choice.size_bytes)}{rounding}{pool}."
