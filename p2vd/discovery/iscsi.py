"""iSCSI sessions as sysfs shows them: which portal and target a path goes to, and whether it is up."""

import re
from dataclasses import dataclass
from pathlib import Path

from p2vd.discovery.sysfs import list_directory, read_text
from p2vd.model.disk import Portal
from p2vd.model.inquiry import clean_inquiry
from p2vd.model.portal import DEFAULT_INTERFACE, DEFAULT_PORT, PortalName, same_writing

_SESSION = re.compile(r"/(session\d+)/")
_HOST = re.compile(r"/(host\d+)/")


@dataclass(frozen=True)
class Endpoint:
    """The far end of a session."""

    target_iqn: str
    portal: Portal | None


@dataclass(frozen=True)
class Session:
    """A session of this moment. `number` is iscsiadm's sid, `host` the SCSI host it has to itself.

    `state` is the kernel's word: LOGGED_IN, FAILED or FREE.
    """

    number: int
    host: str
    target_iqn: str
    portal: Portal
    interface: str
    state: str

    @property
    def name(self) -> PortalName:
        """The portal it goes to, by the interface it is bound to."""
        return PortalName(self.portal, self.interface)


def session_of(devpath: str) -> str:
    """Return the session in a disk's place in sysfs (`.../host6/session1/...`), "" for none."""
    match = _SESSION.search(devpath)
    return match.group(1) if match else ""


def read_sessions(sysfs: Path) -> dict[str, Endpoint]:
    """Return the far end of every iSCSI session by the session's name.

    The portal is the one that was configured (`persistent_address`), not where a login
    redirect may have led.
    """
    portals = _portals(sysfs)
    sessions = sysfs / "class/iscsi_session"
    return {
        name: Endpoint(clean_inquiry(read_text(sessions / name / "targetname")), portals.get(name))
        for name in list_directory(sessions)
    }


def list_sessions(sysfs: Path = Path("/sys")) -> tuple[Session, ...]:
    """Return every iSCSI session that has a portal."""
    portals = _portals(sysfs)
    sessions = sysfs / "class/iscsi_session"
    found = []
    for name in list_directory(sessions):
        portal = portals.get(name)
        host = _HOST.search(_link(sessions / name))
        if portal is None or host is None:
            continue
        interface = read_text(sessions / name / "ifacename")
        found.append(
            Session(
                number=int(name.removeprefix("session")),
                host=host.group(1),
                target_iqn=clean_inquiry(read_text(sessions / name / "targetname")),
                portal=same_writing(portal),
                interface="" if interface in (DEFAULT_INTERFACE, "(null)", "<NULL>") else interface,
                state=read_text(sessions / name / "state"),
            )
        )
    return tuple(found)


def _portals(sysfs: Path) -> dict[str, Portal]:
    portals: dict[str, Portal] = {}
    connections = sysfs / "class/iscsi_connection"
    for name in list_directory(connections):
        session = "session" + name.removeprefix("connection").partition(":")[0]
        portal = _portal(connections / name)
        if portal is not None:
            portals.setdefault(session, portal)
    return portals


def _portal(directory: Path) -> Portal | None:
    for kind in ("persistent_", ""):
        address = read_text(directory / f"{kind}address")
        port = read_text(directory / f"{kind}port")
        if address and address != "(null)":
            return Portal(address, int(port) if port.isascii() and port.isdigit() else DEFAULT_PORT)
    return None


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:  # it went, or it is no link
        return ""
