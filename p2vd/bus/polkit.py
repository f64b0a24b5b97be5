"""Asks polkit, without ever waiting for it."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dbus

from p2vd.bus.port import Verdict

log = logging.getLogger(__name__)

_POLKIT = "org.freedesktop.PolicyKit1"
_ALLOW_USER_INTERACTION = 1  # CheckAuthorizationFlags of polkit's D-Bus reference
_ANSWER_S = 20.0
_PERSON_ANSWERS_S = 300.0


class Polkit:
    """The authority of the system bus: the uid from the bus itself, the decision from polkit."""

    def __init__(self, connection: Any, always: Collection[int] = (0,)) -> None:
        """`always`: uids that are never asked about; they could change polkit's rules anyhow."""
        self._connection = connection
        self._always = frozenset(always)

    def authorize(self, sender: str, action: str, interactive: bool, done: Callable[[Verdict], None]) -> None:
        """See `port.Authority`."""

        def known(credentials: Mapping[str, object]) -> None:
            uid, pid = credentials.get("UnixUserID"), credentials.get("ProcessID", 0)
            if uid is None:
                done(Verdict(-1, allowed=False, reason="the bus does not say which user asks."))
            else:
                self._ask(_Who(sender, int(str(uid)), int(str(pid))), action, interactive, done)

        def unknown(error: dbus.DBusException) -> None:
            done(Verdict(-1, allowed=False, reason=f"the bus does not say who asks: {error}."))

        self._connection.call_async(
            dbus.BUS_DAEMON_NAME,
            dbus.BUS_DAEMON_PATH,
            dbus.BUS_DAEMON_IFACE,
            "GetConnectionCredentials",
            "s",
            (sender,),
            known,
            unknown,
            timeout=_ANSWER_S,
        )

    def _ask(self, who: "_Who", action: str, interactive: bool, done: Callable[[Verdict], None]) -> None:
        if not action or who.uid in self._always:
            done(Verdict(who.uid, allowed=True, pid=who.pid))
            return

        def decided(result: tuple[object, object, object]) -> None:
            authorized, challenge, _ = result
            reason = _refusal(bool(challenge), interactive)
            done(Verdict(who.uid, allowed=bool(authorized), reason=reason, pid=who.pid))

        def silent(error: dbus.DBusException) -> None:
            log.warning("polkit does not decide about %s: %s", action, error)
            reason = f"polkit does not answer: {error}. Ask as root."
            done(Verdict(who.uid, allowed=False, reason=reason, pid=who.pid))

        subject = ("system-bus-name", {"name": dbus.String(who.sender, variant_level=1)})
        self._connection.call_async(
            _POLKIT,
            "/org/freedesktop/PolicyKit1/Authority",
            f"{_POLKIT}.Authority",
            "CheckAuthorization",
            "(sa{sv})sa{ss}us",
            (subject, action, {}, _ALLOW_USER_INTERACTION if interactive else 0, ""),
            decided,
            silent,
            timeout=_PERSON_ANSWERS_S if interactive else _ANSWER_S,
        )


@dataclass(frozen=True)
class _Who:
    sender: str
    uid: int
    pid: int


def _refusal(challenge: bool, interactive: bool) -> str:
    if not challenge:
        return "the host's rules do not allow it to this user. Ask as root."
    if interactive:
        return "no authentication agent is running that could ask for a password. Ask as root."
    return "a password is needed, and the call did not permit to ask for one."
