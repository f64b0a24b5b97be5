"""How much of the bandwidth under a total each copy gets. Pure.

Every copy has the same share, but for those that may not or do not read as much: what they leave goes to the
others. A copy that left something is given more than it reads, so that it can take its share again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from p2vd.model.bandwidth import Grant, Why
from p2vd.model.size import MIB

LEAST_TOTAL_BYTES_PER_S = MIB
"""Of less, the shares of many copies would come to nothing, and none is no limit."""

_QUARTER = 4


@dataclass(frozen=True)
class Demand:
    """A copy that runs. `own_limit` 0: none. `used`: what it reads a second; None: all that it gets."""

    job: str
    own_limit: int = 0
    used: int | None = None


def own(limit: int) -> Grant:
    """Return what a copy may read that shares with nobody."""
    return Grant(limit, Why.OWN) if limit else Grant()


def share(total: int, demands: Sequence[Demand]) -> tuple[Grant, ...]:
    """Return a grant for each of `demands`, in their order; `total` 0: there is none to share.

    Holds, for a total of at least as many bytes as there are demands: the grants together are never more than
    the total, none is zero nor beyond its own limit; what a copy leaves of an even share is given away; equal
    demands get equal grants.
    """
    if not total:
        return tuple(own(demand.own_limit) for demand in demands)
    limits = [min(demand.own_limit or total, total) for demand in demands]
    # What it uses and a quarter more, but no less than a quarter of an even share: that is its way back.
    least = max(1, total // (_QUARTER * max(1, len(demands))))
    caps = [
        limit if demand.used is None else min(limit, max(demand.used + demand.used // _QUARTER, least))
        for demand, limit in zip(demands, limits, strict=True)
    ]
    levels = _fill(total, caps)
    if left := total - sum(levels):  # nobody uses it now: whoever can some day
        more = _fill(left, [limit - level for limit, level in zip(limits, levels, strict=True)])
        levels = [level + plus for level, plus in zip(levels, more, strict=True)]
    even = total // max(1, len(demands))
    return tuple(
        Grant(level, _why(demand, level, even), total, len(demands))
        for demand, level in zip(demands, levels, strict=True)
    )


def _why(demand: Demand, level: int, even: int) -> Why:
    if level == demand.own_limit:
        return Why.OWN
    return Why.USE if level < even else Why.SHARE


def _fill(total: int, caps: Sequence[int]) -> list[int]:
    """Share `total` out evenly up to each one's cap; of a remainder nobody gets more than others."""
    shares = [0] * len(caps)
    order = sorted(range(len(caps)), key=lambda at: caps[at])
    for position, index in enumerate(order):
        even = total // (len(caps) - position)
        if caps[index] > even:  # and so are those of all that follow
            for other in order[position:]:
                shares[other] = even
            break
        shares[index] = caps[index]
        total -= caps[index]
    return shares
