"""The table [rule.pool]: how far a thin pool may be used, and who extends it."""

from dataclasses import dataclass

from p2vd.model.plan import CopyOptions, PoolExtension
from p2vd.model.size import MIB, format_size
from p2vd.policy.model import Rule
from p2vd.policy.toml import Table

MAX_OVER_COMMIT = 1000.0
_LEAST_STEP_BYTES = 4 * MIB


@dataclass(frozen=True)
class PoolRule:
    """What a rule says of its thin pool."""

    over_commit: float
    reserve_percent: int
    extension: PoolExtension | None


def pool_rule(rule: Table) -> PoolRule:
    """Return what the rule's table `pool` says; records its errors."""
    table = rule.table("pool")
    found = PoolRule(
        over_commit=table.number("over_commit", Rule.over_commit, 0.01, MAX_OVER_COMMIT),
        reserve_percent=table.integer("reserve_percent", CopyOptions.pool_reserve_percent, 0, 90),
        extension=_extension(table.table("extend")) if table.data.get("extend", False) is not False else None,
    )
    if found.extension is None:
        table.flag("extend")  # false says what goes without saying
    table.finish()
    return found


def _extension(table: Table) -> PoolExtension:
    extension = PoolExtension(
        step_bytes=_step(table, "step", 0),
        max_bytes=table.size("max"),
        vg_free_bytes=table.size("vg_free"),
        metadata_step_bytes=_step(table, "metadata_step", PoolExtension.metadata_step_bytes),
    )
    for key, what in (("step", "by how much the pool grows at a time"), ("max", "the size it never exceeds")):
        if key not in table:
            table.error(key, f"is missing: {what}")
    if "max" in table and "step" in table and extension.max_bytes < extension.step_bytes:
        table.error("max", "must not be less than step")
    table.finish()
    return extension


def _step(table: Table, key: str, default: int) -> int:
    step = table.size(key, default)
    if key in table and step < _LEAST_STEP_BYTES:
        table.error(key, f"must be {format_size(_LEAST_STEP_BYTES)} at least")
    return step
