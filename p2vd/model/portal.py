"""iSCSI portals as the administrator asked for them, and what has become of that. Pure."""

import enum
import ipaddress
import re
from dataclasses import dataclass, field

from p2vd.model.disk import Portal
from p2vd.model.errors import InvalidArgument

DEFAULT_PORT = 3260  # IANA: iscsi-target
DEFAULT_INTERFACE = "default"
"""What open-iscsi calls a session that is bound to no network interface."""

_SECRET_BYTES = 255  # open-iscsi: AUTH_STR_MAX_LEN, less the end of the string
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_SYNTAX = "write ADDRESS, ADDRESS:PORT or [IPv6]:PORT, each with @INTERFACE behind it or not"


class PortalState(enum.Enum):
    """How far a portal is. `impaired`: it was connected, and not all of its sessions are up now."""

    CONNECTING = "connecting"
    RETRYING = "retrying"
    CONNECTED = "connected"
    IMPAIRED = "impaired"
    REFUSED = "refused"
    REMOVING = "removing"


@dataclass(frozen=True)
class PortalName:
    """A portal by the interface that reaches it: two interfaces to one portal are two paths."""

    portal: Portal
    interface: str = ""

    def __str__(self) -> str:
        return f"{self.portal}@{self.interface}" if self.interface else str(self.portal)


class Secret:
    """A CHAP secret; only `reveal` shows it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, for open-iscsi's root-only files and nothing else."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of anything


@dataclass(frozen=True)
class Chap:
    """Credentials: what this host proves to the target and, with `user_in`, the target to this host.

    `discovery`: they are used for the discovery as well.
    """

    user: str
    secret: Secret
    user_in: str = ""
    secret_in: Secret | None = None
    discovery: bool = False


@dataclass(frozen=True)
class Node:
    """One target behind a portal. `address` is written as the target writes it.

    `record_made`: p2vd made open-iscsi's record of it. `session_boot`: the host's boot in which p2vd
    logged in. A session with neither is another's.
    """

    target_iqn: str
    address: str
    port: int
    tpgt: int
    record_made: bool = False
    session_boot: str = ""

    @property
    def portal(self) -> Portal:
        """Where it is, in one way of writing."""
        return same_writing(Portal(self.address, self.port))

    @property
    def key(self) -> tuple[str, Portal]:
        """What tells it from the others behind the same interface."""
        return (self.target_iqn, self.portal)


@dataclass(frozen=True)
class PortalRecord:
    """What p2vd remembers of a portal; no secret. `settled`: it has been connected once.

    `targets`: only these; none: every target that the portal offers. `interface_made`: p2vd made
    open-iscsi's record of the interface.
    """

    portal: Portal
    interface: str = ""
    targets: tuple[str, ...] = ()
    chap: bool = False
    interface_made: bool = False
    settled: bool = False
    nodes: tuple[Node, ...] = ()

    @property
    def name(self) -> PortalName:
        """What it is called by."""
        return PortalName(self.portal, self.interface)

    @property
    def id(self) -> str:
        """The name as text."""
        return str(self.name)


@dataclass(frozen=True)
class PortalSession:
    """A session to a target of a portal. `state` is the kernel's word; `number` -1: there is none."""

    target_iqn: str
    number: int
    state: str
    ours: bool

    @property
    def up(self) -> bool:
        """Whether it carries I/O now."""
        return self.state == "LOGGED_IN"


@dataclass(frozen=True)
class RescanReport:
    """What a rescan of LUNs found, each a sentence or an identity. `time_us` 0: there was none yet."""

    time_us: int = 0
    new: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    left_alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """How packets leave for a portal. `mtu_bytes` is the interface's, or the route's where it has one."""

    nic: str
    source_address: str
    mtu_bytes: int
    gateway: str = ""


@dataclass(frozen=True)
class PortalView:
    """Everything about a portal at one moment. `error_name` is empty when there is none."""

    record: PortalRecord
    state: PortalState
    error_name: str = ""
    error: str = ""
    sessions: tuple[PortalSession, ...] = ()
    luns: int = 0
    nic: str = ""
    source_address: str = ""
    gateway: str = ""
    mtu_bytes: int = 0
    rescanning: bool = False
    rescan: RescanReport = field(default_factory=RescanReport)


def parse_portal(text: str) -> PortalName:
    """Return the portal that `text` names; its address is written in one way. Raises InvalidArgument."""
    location, at, interface = text.strip().partition("@")
    place = f"portal {text!r}"
    if at and not _INTERFACE.fullmatch(interface):
        raise InvalidArgument(place, f"{interface!r} is no name of an interface: {_SYNTAX}.")
    host, port = _split(location)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise InvalidArgument(place, f"{port!r} is no port: {_SYNTAX}.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise InvalidArgument(
            place, f"{host!r} is no IPv4 or IPv6 address: {_SYNTAX}. Names are not looked up."
        ) from error
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local:
        raise InvalidArgument(
            place, "a link-local address means another host on each interface: give a routable one."
        )
    if address.is_unspecified or address.is_multicast:
        raise InvalidArgument(place, f"{host} is no address of a single host.")
    return PortalName(Portal(str(address), int(port)), "" if interface == DEFAULT_INTERFACE else interface)


def same_writing(portal: Portal) -> Portal:
    """Return `portal` with its address in the one way in which equal addresses are equal texts."""
    try:
        return Portal(str(ipaddress.ip_address(portal.address)), portal.port)
    except ValueError:
        return portal


def parse_secret(raw: bytes, place: str) -> Secret:
    """Return what a secret's file holds, without the end of its line. Raises InvalidArgument, without it."""
    text = raw.decode("ascii", "replace").removesuffix("\n").removesuffix("\r")
    _check_plain(text, place)
    return Secret(text)


def make_chap(
    user: str, secret: Secret | None, user_in: str, secret_in: Secret | None, *, discovery: bool
) -> Chap | None:
    """Return the credentials, None where none were given. Raises InvalidArgument where they do not fit."""
    given = bool(user or secret or user_in or secret_in)
    if not given and not discovery:
        return None
    if not user or secret is None:
        raise InvalidArgument("CHAP", "give both a user (chap-user) and its secret (chap-secret).")
    if bool(user_in) != (secret_in is not None):
        raise InvalidArgument(
            "mutual CHAP", "give both the target's user (chap-user-in) and its secret (chap-secret-in)."
        )
    if secret == secret_in:
        # RFC 7143, 9.2.1: with one secret an attacker lets the target answer its own challenge.
        raise InvalidArgument("mutual CHAP", "the secrets of the two directions must differ.")
    _check_plain(user, "chap-user")
    if user_in:
        _check_plain(user_in, "chap-user-in")
    return Chap(user, secret, user_in, secret_in, discovery)


def _check_plain(text: str, place: str) -> None:
    # open-iscsi keeps both in lines of `name = value` and strips the blanks around the value.
    if not 0 < len(text) <= _SECRET_BYTES:
        raise InvalidArgument(place, f"it must have 1 to {_SECRET_BYTES} characters.")
    if not (text.isascii() and text.isprintable()) or text != text.strip():
        raise InvalidArgument(
            place, "only printable ASCII in one line works, and no blank at its beginning or end."
        )


def _split(location: str) -> tuple[str, str]:
    """Split an address from its port: `[::1]:860`, `::1`, `10.0.0.1:860`, `10.0.0.1`."""
    if location.startswith("["):
        host, _, rest = location[1:].partition("]")
        return host, rest.removeprefix(":") if rest else str(DEFAULT_PORT)
    if location.count(":") == 1:
        host, _, port = location.partition(":")
        return host, port
    return location, str(DEFAULT_PORT)
