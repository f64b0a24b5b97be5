"""How long a copy will take, by what was measured on others. Pure.

An estimate is no part of a plan's id: what was measured meanwhile makes no other plan.
"""

from collections.abc import Sequence
from statistics import median

from p2vd.model.copying import Verify
from p2vd.model.disk import Source
from p2vd.model.plan import DiskPlan
from p2vd.model.rates import CopyRate, Estimate
from p2vd.model.size import format_size

KEPT = 20
"""How many copies of one array to one place are remembered: the latest."""

_NEAR = 10  # of these, so many count
_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400


def array_of(source: Source) -> str:
    """Return which array a source is on: an IQN or a WWNN; of another disk, its transport."""
    arrays = sorted({path.target_iqn or path.target_wwnn for path in source.paths} - {""})
    return arrays[0] if arrays else source.transport.value


def too_many(rates: Sequence[CopyRate], place: tuple[str, str]) -> list[CopyRate]:
    """Return those of a place, which is from where to where, that need no longer be kept."""
    return sorted((rate for rate in rates if rate.place == place), key=lambda rate: rate.measured_us)[:-KEPT]


def estimate(disk: DiskPlan, array: str, rates: Sequence[CopyRate], total_bytes_per_s: int = 0) -> Estimate:
    """Return what copying a disk takes. `total_bytes_per_s`: of all copies together; 0: no limit."""
    limits = [limit for limit in (disk.copy.bandwidth_bytes_per_s, total_bytes_per_s) if limit]
    limit, size = min(limits, default=0), disk.source.size_bytes
    near, where = _nearest(rates, array, disk.target.store_id)
    if not near:
        why = "no copy from this array or to this place has been measured yet"
        if not limit:
            return Estimate(text=f"Not known: {why}.")
        seconds = -(-size // limit)
        return Estimate(
            seconds, limit, f"At least {_span(seconds)}, by its limit of {format_size(limit)}/s; {why}."
        )
    rate = _median(near, verified=False)
    limited = bool(limit) and limit < rate
    rate = min(rate, limit) if limit else rate
    seconds = -(-size // rate) + _verify_s(disk, near, rate)
    copies = f"{len(near)} {'copy' if len(near) == 1 else 'copies'}"
    basis = (
        f"its limit; without it {copies} {where} were faster" if limited else f"measured on {copies} {where}"
    )
    return Estimate(seconds, rate, f"About {_span(seconds)} at {format_size(rate)}/s, {basis}.")


def together(estimates: Sequence[Estimate]) -> Estimate:
    """Return what the disks of a machine take, that are copied at once: the longest of them."""
    if len(estimates) == 1:
        return estimates[0]
    unknown = sum(not each.seconds for each in estimates)
    longest = max(estimates, key=lambda each: each.seconds)
    if not longest.seconds:
        return longest
    rest = f" Of {unknown} of them it is not known." if unknown else ""
    return Estimate(
        longest.seconds,
        longest.bytes_per_s,
        f"Its {len(estimates)} disks at once, as the longest of them: {_lower(longest.text)}{rest}",
    )


def _nearest(rates: Sequence[CopyRate], array: str, store_id: str) -> tuple[list[CopyRate], str]:
    """The latest copies that say most, and what they have in common with this one."""
    known = sorted((each for each in rates if each.copied_ms), key=lambda rate: rate.measured_us)
    for where, found in (
        ("from this array to this place", [e for e in known if e.place == (array, store_id)]),
        ("from this array", [each for each in known if each.array == array]),
        ("to this place", [each for each in known if each.store_id == store_id]),
    ):
        if found:
            return found[-_NEAR:], where
    return [], ""


def _median(rates: Sequence[CopyRate], *, verified: bool) -> int:
    """Bytes a second; 0 where none was measured. One odd copy decides nothing."""
    each = [
        (rate.verified_bytes * 1000 // rate.verified_ms if rate.verified_ms else 0)
        if verified
        else (rate.copied_bytes * 1000 // rate.copied_ms)
        for rate in rates
    ]
    found = [one for one in each if one]
    return max(1, round(median(found))) if found else 1 if not verified else 0


def _verify_s(disk: DiskPlan, near: Sequence[CopyRate], rate: int) -> int:
    if disk.copy.verify is Verify.NONE:
        return 0
    reading = _median(near, verified=True) or rate
    if disk.copy.verify is Verify.BOTH:
        reading = min(reading, rate)  # the source is read again, under the same limit
    return -(-disk.source.size_bytes // reading)


def _span(seconds: int) -> str:
    """As one says it: what is short in minutes, what is long in hours."""
    for unit, length, until in (
        ("min", _MINUTE_S, 100 * _MINUTE_S),
        ("h", _HOUR_S, 48 * _HOUR_S),
        ("days", _DAY_S, 0),
    ):
        if seconds < until or not until:
            amount = seconds / length
            return (
                f"{amount:.1f} {unit}" if amount < 10 and unit != "min" else f"{max(1, round(amount))} {unit}"
            )
    raise AssertionError  # the last one fits always


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
