"""Who may do what in the simulation: everybody everything, but what the script denies."""

from collections.abc import Callable, Collection

from p2vd.bus.port import Authority, Verdict


class SimAuthority:
    """An authority that asks `bus` who it is and the script whether they may; polkit is not asked."""

    def __init__(self, bus: Authority, denied: Collection[str]) -> None:
        """`bus`: anything that answers an empty action with the caller's uid."""
        self._bus = bus
        self._denied = frozenset(denied)

    def authorize(self, sender: str, action: str, interactive: bool, done: Callable[[Verdict], None]) -> None:
        """See `port.Authority`."""

        def known(who: Verdict) -> None:
            if who.allowed and action in self._denied:
                reason = "the simulator's script denies it."
                done(Verdict(who.uid, allowed=False, reason=reason, pid=who.pid))
            else:
                done(who)

        self._bus.authorize(sender, "", interactive, known)
