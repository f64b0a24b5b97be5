"""The empty LUN that a disk becomes: the smallest that holds it, or every reason why none does. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from p2vd.model.contents import Contents, Examination, Table
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.plan import LunTarget
from p2vd.model.size import format_size
from p2vd.policy.match import match_failures
from p2vd.policy.model import PolicySet, Rule, SectorSizeRemedy

_NAMED = 5


@dataclass(frozen=True)
class LunChoice:
    """A LUN that can be filled as a whole. It takes nothing of anything: its bytes are there already."""

    lun: Source
    logical_block_size: int
    worst_case_bytes: int

    @property
    def size_bytes(self) -> int:
        """The LUN's."""
        return self.lun.size_bytes

    def target(self, rule: Rule) -> LunTarget:
        """Return the LUN that is to be filled."""
        return LunTarget(
            id=self.lun.id,
            wwid=self.lun.wwid,
            name=self.lun.name,
            size_bytes=self.lun.size_bytes,
            sector_size=self.lun.sector_size,
            link=stable_link(self.lun),
            unmap=rule.target.unmap,
        )


def choose_lun(
    rule: Rule, source: Source, inventory: Inventory, lun_id: str = ""
) -> LunChoice | tuple[Reason, ...]:
    """Return the smallest empty LUN of the rule that holds `source`, else what is wrong with each.

    `lun_id`: no other is asked.
    """
    named = [lun for lun in candidates(rule, inventory) if lun_id in ("", lun.id)]
    reasons: list[Reason] = []
    for lun in sorted(named, key=lambda lun: (lun.size_bytes, lun.id)):
        problems = tuple(_reasons(rule, source, lun, inventory))
        if not problems:
            unlike = source.sector_size != lun.sector_size or source.sector_size != 512
            return LunChoice(lun, source.sector_size if unlike else 0, lun.size_bytes)
        reasons += problems
    if not named:
        what = f"The LUN {lun_id} is not attached any more" if lun_id else "No LUN that is attached"
        fits = "." if lun_id else f' is one that the policy "{rule.name}" describes in target.lun.'
        return (Reason("lun-not-found", f"{what}{fits} Map one to this host, then rescan."),)
    if len(reasons) > _NAMED:
        more = len(reasons) - _NAMED
        reasons[_NAMED:] = [Reason("luns-unfit", f"And {more} more reasons of other LUNs like these.")]
    return tuple(reasons)


def reserve_lun(inventory: Inventory, choice: LunChoice) -> Inventory:
    """Return the inventory as the machine's next disk shall find it: this LUN is taken."""
    return with_lun_taken(inventory, choice.lun.id)


def with_lun_taken(inventory: Inventory, lun_id: str) -> Inventory:
    """Return the inventory with a LUN that a planned disk goes to."""
    return replace(inventory, claims={**inventory.claims, lun_id: ""})


def candidates(rule: Rule, inventory: Inventory) -> tuple[Source, ...]:
    """Return the LUNs that the rule describes as its targets, whatever their state."""
    return tuple(lun for lun in inventory.sources if describes(rule, lun))


def describes(rule: Rule, lun: Source) -> bool:
    """Whether the rule describes a disk as a LUN that it may fill."""
    wanted = rule.target.luns
    return wanted is not None and bool(lun.wwid) and not match_failures(wanted, lun)


def target_reasons(source: Source, inventory: Inventory, policies: PolicySet) -> Iterator[Reason]:
    """Yield why a disk is no source: it is, or may become, what another disk is copied to."""
    if job := inventory.claims.get(source.id):
        yield Reason(
            "is-target",
            f"{source} is what job {job} copies to: it is never a source. Where that machine is not needed "
            "any more, roll it back, or cancel the job and keep the target: it is free once it is empty.",
        )
        return
    rule = next((rule for rule in policies.rules if describes(rule, source)), None)
    if rule is not None:
        yield Reason(
            "may-become-target",
            f'The policy "{rule.name}" describes {source} in target.lun: it is kept for what is copied to '
            "it, and is never a source. Describe the LUNs there more narrowly if it is one.",
        )


def lun_step(choice: LunChoice, source: Source) -> str:
    """Return what is done to the LUN, as an administrator reads it."""
    added = choice.size_bytes - source.size_bytes
    rest = f"; the {format_size(added)} beyond the source become zero" if added else ""
    return (
        f"Take the LUN {choice.lun} of {format_size(choice.size_bytes)} as a whole, after it was found empty "
        f"on its exclusive open: no signature, first and last MiB zero, no reservation{rest}."
    )


def lun_warnings(rule: Rule, choice: LunChoice) -> Iterator[str]:
    """Yield what does not forbid the LUN, but should be known."""
    if len(choice.lun.paths) == 1:
        yield f"The target {choice.lun} has one path only: the copy waits while that is down."
    if rule.target.unmap:
        yield (
            f"Zeros on {choice.lun} are unmapped, and read back: the policy says that this array can do that "
            "(target.unmap = true)."
        )


def stable_link(lun: Source) -> str:
    """Return a path that names the LUN on every boot, as udev makes it for maps and for SCSI disks."""
    if lun.dm_uuid:
        return f"/dev/disk/by-id/dm-uuid-{lun.dm_uuid}"
    if lun.wwid.startswith("3"):  # of page 83: a NAA identifier, which udev calls a WWN
        return f"/dev/disk/by-id/wwn-0x{lun.wwid[1:]}"
    if lun.wwid.startswith(("nvme.", "eui.", "uuid.")):
        return f"/dev/disk/by-id/nvme-{lun.wwid}"
    return f"/dev/disk/by-id/scsi-{lun.wwid}"


def _reasons(rule: Rule, source: Source, lun: Source, inventory: Inventory) -> Iterator[Reason]:
    """Yield why this LUN cannot take the source."""
    if lun.id == source.id:
        yield Reason("lun-is-source", f"{lun} is the source itself.")
        return
    if lun.size_bytes < source.size_bytes:
        yield Reason(
            "lun-too-small",
            f"{lun} has {format_size(lun.size_bytes)}, {source} {format_size(source.size_bytes)}.",
        )
        return
    if lun.id in inventory.claims:
        whose = (
            f"job {inventory.claims[lun.id]}" if inventory.claims[lun.id] else "another disk of the machine"
        )
        yield Reason("lun-claimed", f"{lun} is taken by {whose}.")
        return
    if lun.id in inventory.origins:
        yield Reason(
            "lun-is-source",
            f"{lun} is what job {inventory.origins[lun.id]} copied from, and its machine can still be taken "
            "back to it: accept that machine, or describe the LUNs in target.lun more narrowly.",
        )
        return
    if lun.sector_size != source.sector_size and rule.target.sector_size_remedy is SectorSizeRemedy.NONE:
        yield Reason(
            "sector-sizes-differ",
            f"{source} has sectors of {source.sector_size} bytes, the LUN {lun} of {lun.sector_size}: "
            "partition tables count in sectors. Map a LUN with equal ones, or let the virtual machine see "
            'the old size by the policy\'s target.sector_size_remedy = "domain".',
        )
    yield from lun.reasons
    device = next(
        (
            pv.device
            for vg in inventory.volume_groups
            for pv in vg.pvs
            if pv.device in (lun.devnode, f"/dev/mapper/{lun.name}")
        ),
        "",
    )
    if device:
        yield Reason("lun-not-empty", f"{lun} is a physical volume of LVM ({device}).")
    elif lun.examination is Examination.UNDER_WAY:
        yield Reason("under-examination", f"{lun} is being looked at. Plan again in a moment.")
    elif lun.contents is not None and (what := _holds(lun.contents)):
        yield Reason(
            "lun-not-empty",
            f"{lun} is not empty: {what}. If that may be lost, remove it on the host that it belongs to "
            "(wipefs -a), and zero its first and last MiB; or map a fresh LUN.",
        )


def _holds(contents: Contents) -> str:
    """Return what keeps a LUN from being empty; "" where nothing was found."""
    if contents.reservation is not None:
        return f"the host with the key {contents.reservation.key} has reserved it"
    if contents.registered_keys:
        return f"{contents.registered_keys} keys of hosts are registered at it"
    found = [f"{signature.type} on {where}" for where, signature in contents.places()]
    if contents.table is not Table.NONE:
        found.insert(0, f"a partition table ({contents.table.value})")
    if found:
        return "it holds " + ", ".join(found[:_NAMED])
    return "" if contents.blank else "its first or last MiB is not zero"
