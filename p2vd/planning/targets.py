"""Which volume group of a rule takes the disk: the first that can, or every reason why none can. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import INCOMPLETE_TAG, JOB_TAG, Lv, ThinPool, Vg
from p2vd.model.plan import LvTarget, Provisioning
from p2vd.model.size import format_size, round_up
from p2vd.planning.admission import metadata_room
from p2vd.planning.place import Place
from p2vd.planning.reservations import with_volume
from p2vd.policy.model import Rule, SectorSizeRemedy
from p2vd.policy.names import lv_name, lv_name_problem

_POOL_REMEDIES = {
    "failed": "Repair it: lvconvert --repair {pool}.",
    "out_of_data": "Extend it: lvextend -L +SIZE {pool}.",
    "metadata_read_only": "Repair it: lvconvert --repair {pool}; extend its metadata if that is full.",
    "needs_check": "Deactivate its volumes, then repair it: lvconvert --repair {pool}.",
}
"""By LVM's `lv_health_status`; `needs_check` by the kernel's status line."""


@dataclass(frozen=True)
class LvChoice:
    """A volume group that can take the disk, and the LV it would get.

    `worst_case_bytes`: what the copy takes of the pool (or VG) at most. `logical_block_size`: as in
    DomainOptions: QEMU shows sectors of 512 bytes unless told otherwise, whatever the LV has.
    """

    vg: Vg
    pool: ThinPool | None
    lv_name: str
    size_bytes: int
    worst_case_bytes: int
    logical_block_size: int

    def target(self, rule: Rule) -> LvTarget:
        """Return the volume that is to be made."""
        return LvTarget(
            vg_uuid=self.vg.uuid,
            vg_name=self.vg.name,
            lv_name=self.lv_name,
            provisioning=rule.target.provisioning,
            size_bytes=self.size_bytes,
            sector_size=self.vg.sector_size,
            pool_uuid=self.pool.uuid if self.pool else "",
            pool_name=self.pool.name if self.pool else "",
            single_host=rule.target.single_host,
            autoactivate=rule.target.autoactivate,
        )


def choose_lv(
    rule: Rule, source: Source, place: Place, inventory: Inventory, vg_uuid: str = ""
) -> LvChoice | tuple[Reason, ...]:
    """Return the first fitting volume group's choice, else what is wrong with each of them.

    `vg_uuid`: no other volume group of the rule is asked.
    """
    reasons: list[Reason] = []
    tried: set[str] = set()
    for wanted in rule.target.volume_groups:
        found = find_groups(wanted, inventory)
        if isinstance(found, Reason):
            reasons.append(found)
            continue
        for vg in found:
            if vg.uuid in tried or vg_uuid not in ("", vg.uuid):
                continue
            tried.add(vg.uuid)
            choice = _choice(rule, source, place, vg)
            problems = [*_access(rule, vg, inventory.system_id), *_fit(rule, source, choice)]
            if not problems:
                return choice
            reasons += problems
    if vg_uuid and not tried:
        reasons.append(Reason("vg-not-found", f"None of the rule's volume groups is {vg_uuid} any more."))
    return tuple(reasons)


def reserve_lv(inventory: Inventory, choice: LvChoice) -> Inventory:
    """Return the inventory as the machine's next disk shall find it: with this one's volume made and full.

    A volume that is only planned has no UUID yet.
    """
    planned = Lv("", choice.lv_name, choice.size_bytes, pool=choice.pool.name if choice.pool else "")
    vg = with_volume(choice.vg, planned, choice.pool, choice.worst_case_bytes)
    groups = tuple(vg if one.uuid == vg.uuid else one for one in inventory.volume_groups)
    return replace(inventory, volume_groups=groups)


def find_groups(wanted: str, inventory: Inventory) -> tuple[Vg, ...] | Reason:
    """Return the volume groups of that name or `@tag` in the order of their names, or why there are none."""
    if wanted.startswith("@"):
        tagged = [vg for vg in inventory.volume_groups if wanted[1:] in vg.tags]
        if tagged:
            return tuple(sorted(tagged, key=lambda vg: (vg.name, vg.uuid)))
        return Reason("vg-not-found", f"No volume group carries the tag {wanted[1:]} (vgchange --addtag).")
    named = tuple(vg for vg in inventory.volume_groups if vg.name == wanted)
    if len(named) > 1:
        return Reason(
            "vg-ambiguous",
            f"{len(named)} volume groups are named {wanted}: {', '.join(vg.uuid for vg in named)}. "
            "Rename one by its UUID with vgrename.",
        )
    if not named:
        seen = ", ".join(sorted(vg.name for vg in inventory.volume_groups)) or "none"
        unread = "".join(f" {problem}" for problem in inventory.problems)
        return Reason("vg-not-found", f"There is no volume group {wanted}; seen: {seen}.{unread}")
    return named


def _choice(rule: Rule, source: Source, place: Place, vg: Vg) -> LvChoice:
    pool = _pool(rule, vg) if rule.target.provisioning is Provisioning.THIN else None
    size = round_up(source.size_bytes, vg.extent_size_bytes)
    unlike = source.sector_size != vg.sector_size or source.sector_size != 512
    return LvChoice(
        vg=vg,
        pool=pool,
        lv_name=lv_name(rule.target.name, place.machine_name, source, place.number, place.of),
        size_bytes=size,
        worst_case_bytes=round_up(size, pool.chunk_size_bytes) if pool else size,
        logical_block_size=source.sector_size if unlike else 0,
    )


def _pool(rule: Rule, vg: Vg) -> ThinPool | None:
    if rule.target.thin_pool:
        return vg.pool(rule.target.thin_pool)
    return vg.thin_pools[0] if len(vg.thin_pools) == 1 else None


def _access(rule: Rule, vg: Vg, system_id: str) -> Iterator[Reason]:
    """Yield why this host may not make volumes in `vg` now (design: §4.7)."""
    yield from vg.refusals(system_id)
    if not (vg.shared or vg.system_id or rule.target.single_host):
        yield Reason(
            "vg-not-guarded",
            f"Nothing keeps other hosts off the volume group {vg.name}: it is neither shared by lvmlockd nor "
            f"does it carry this host's system ID. Set one (lvmsystemid(7)), or write "
            f'target.single_host = true in the policy "{rule.name}" if no other host ever uses it.',
        )


def _fit(rule: Rule, source: Source, choice: LvChoice) -> Iterator[Reason]:
    """Yield why the disk does not fit into the volume group as the rule wants it."""
    vg = choice.vg
    problem = lv_name_problem(vg.name, choice.lv_name)
    if problem:
        yield Reason("lv-name", f"{problem} Change target.name in the policy, or name the machine otherwise.")
    yield from _taken(choice)
    if source.sector_size != vg.sector_size and rule.target.sector_size_remedy is SectorSizeRemedy.NONE:
        yield Reason(
            "sector-sizes-differ",
            f"{source} has sectors of {source.sector_size} bytes, the volume group {vg.name} of "
            f"{vg.sector_size}: partition tables count in sectors. Choose a volume group with equal ones, "
            "or let the virtual machine see the old size by the policy's "
            'target.sector_size_remedy = "domain".',
        )
    if rule.target.provisioning is Provisioning.THICK:
        if choice.size_bytes > vg.free_bytes:
            yield Reason(
                "vg-too-small",
                f"{source} needs {format_size(choice.size_bytes)}, the volume group {vg.name} has "
                f"{format_size(vg.free_bytes)} free{_beside_others(vg)}. Add a PV (vgextend) or name another "
                "volume group.",
            )
    elif choice.pool is None:
        yield _no_pool(rule, vg)
    else:
        yield from _pool_fit(rule, choice, choice.pool)


def _taken(choice: LvChoice) -> Iterator[Reason]:
    vg, path = choice.vg, f"{choice.vg.name}/{choice.lv_name}"
    lv = next((lv for lv in vg.lvs if lv.name == choice.lv_name), None)
    tags = sorted(lv.tags) if lv else []
    made = next((tag.removeprefix(JOB_TAG) for tag in tags if tag.startswith(JOB_TAG)), "")
    if lv and not lv.uuid and not made:
        yield Reason(
            "lv-name-twice",
            f"Two disks of it would be named {path}: put {{disk}} or {{wwid}} into target.name in "
            "the policy.",
        )
        return
    if lv and not lv.uuid:
        yield Reason(
            "lv-name-taken",
            f"{path} is what the job {made} is about to make. Name the machine otherwise.",
        )
    elif lv and INCOMPLETE_TAG in lv.tags:
        yield Reason(
            "lv-name-taken",
            f"{path} is there already: the job {made} did not come to its end with it. Name the machine "
            f"otherwise. Only where that job is cancelled may the volume be removed: lvremove {path}.",
        )
    elif made:
        yield Reason(
            "lv-name-taken",
            f"{path} is there already: it is what the job {made} copied, and may be a virtual machine's "
            f"disk. Name the machine otherwise. Only where that machine was rolled back (p2vctl show {made}) "
            f"and the copy is not needed may the volume be removed: lvremove {path}.",
        )
    elif lv or any(pool.name == choice.lv_name for pool in vg.thin_pools):
        yield Reason(
            "lv-name-taken",
            f"{path} is there already. Name the machine otherwise, or remove that volume if it is not "
            "needed.",
        )


def _beside_others(vg: Vg) -> str:
    planned = [lv for lv in vg.lvs if not lv.uuid and not lv.pool]
    others = sum(lv.size_bytes for lv in planned if not lv.tags)
    jobs = sum(lv.size_bytes for lv in planned if lv.tags)
    told = [f"{format_size(others)} for other disks of the machine"] if others else []
    told += [f"{format_size(jobs)} for jobs that have not made their volumes yet"] if jobs else []
    return f" beside {' and '.join(told)}" if told else ""


def _no_pool(rule: Rule, vg: Vg) -> Reason:
    seen = ", ".join(pool.name for pool in vg.thin_pools)
    if not seen:
        return Reason("pool-not-found", f"The volume group {vg.name} has no thin pool. Make one: lvmthin(7).")
    if rule.target.thin_pool:
        return Reason(
            "pool-not-found",
            f"The volume group {vg.name} has no thin pool {rule.target.thin_pool}; it has: {seen}.",
        )
    return Reason("pool-ambiguous", f"{vg.name} has the thin pools {seen}: name one by target.thin_pool.")


def _pool_fit(rule: Rule, choice: LvChoice, pool: ThinPool) -> Iterator[Reason]:
    path = f"{choice.vg.name}/{pool.name}"
    if pool.health:
        remedy = _POOL_REMEDIES.get(pool.health, "See lvs -a {pool} and lvmthin(7).").format(pool=path)
        yield Reason("pool-unhealthy", f"The thin pool {path} is not well: {pool.health}. {remedy}")
    reserve = rule.copy.pool_reserve_percent
    if metadata_room(pool, reserve) == 0 and rule.copy.pool_extension is None:
        yield Reason(
            "pool-metadata-short",
            f"The metadata of the thin pool {path} is {pool.metadata_percent:.0f} % full, which leaves "
            f"nothing before its reserve of {reserve} %. Extend it: "
            f"lvextend --poolmetadatasize +SIZE {path}.",
        )
    promised = pool.virtual_size_bytes + choice.size_bytes
    if promised > pool.size_bytes * rule.over_commit:
        yield Reason(
            "pool-over-commit",
            f"With {choice.lv_name} the thin pool {path} of {format_size(pool.size_bytes)} would promise "
            f'{format_size(promised)}; the policy "{rule.name}" allows {rule.over_commit:g} times its size. '
            "Extend the pool, or raise pool.over_commit if it is watched.",
        )
