"""iSCSI sessions as sysfs shows them: which portal and target a path goes to."""

import re
from dataclasses import dataclass
from pathlib import Path

from p2vd.discovery.sysfs import list_directory, read_text
from p2vd.model.disk import Portal, clean_inquiry

_SESSION = re.compile(r"/(session\d+)/")
_DEFAULT_PORT = 3260


@dataclass(frozen=True)
class Endpoint:
    """The far end of a session."""

    target_iqn: str
    portal: Portal | None


def session_of(devpath: str) -> str:
    """Return the session in a disk's place in sysfs (`.../host6/session1/...`), "" for none."""
    match = _SESSION.search(devpath)
    return match.group(1) if match else ""


def read_sessions(sysfs: Path) -> dict[str, Endpoint]:
    """Return the far end of every iSCSI session by the session's name.

    The portal is the one that was configured (`persistent_address`), not where a login
    redirect may have led.
    """
    portals: dict[str, Portal] = {}
    connections = sysfs / "class/iscsi_connection"
    for name in list_directory(connections):
        session = "session" + name.removeprefix("connection").partition(":")[0]
        portal = _portal(connections / name)
        if portal is not None:
            portals.setdefault(session, portal)
    sessions = sysfs / "class/iscsi_session"
    return {
        name: Endpoint(clean_inquiry(read_text(sessions / name / "targetname")), portals.get(name))
        for name in list_directory(sessions)
    }


def _portal(directory: Path) -> Portal | None:
    for kind in ("persistent_", ""):
        address = read_text(directory / f"{kind}address")
        port = read_text(directory / f"{kind}port")
        if address and address != "(null)":
            return Portal(address, int(port) if port.isascii() and port.isdigit() else _DEFAULT_PORT)
    return None
