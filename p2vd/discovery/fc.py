"""Fibre Channel as sysfs shows it: HBAs (fc_host) and the ports that they see (fc_remote_ports).

FCoE looks the same. /sys/class/fc_transport names the port behind each target once more, without
its state: what a remote port itself says of its target id is enough. The attributes are those of the
kernel's scsi_transport_fc.c.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from p2vd.discovery.sysfs import list_directory, read_text
from p2vd.model.errors import OutputUnclear
from p2vd.model.fc import Hba, RemotePort, format_wwn
from p2vd.model.inquiry import clean_inquiry

_REMOTE_PORT = re.compile(r"rport-(\d+):(\d+)-\d+")
_NO_TARGET = "-1"


class Fabric:
    """What is there of Fibre Channel, and where each disk's path goes."""

    def __init__(self, hbas: Sequence[Hba] = ()) -> None:
        self.hbas = tuple(hbas)
        self._hosts = {hba.host: hba for hba in hbas}
        self._targets = {port.target: port for hba in hbas for port in hba.remote_ports if port.target}

    def ends(self, hctl: str) -> tuple[Hba | None, RemotePort | None]:
        """Return this host's port and the remote port of a SCSI device HOST:CHANNEL:TARGET:LUN."""
        host, target = hctl.partition(":")[0], hctl.rpartition(":")[0]
        return self._hosts.get(f"host{host}"), self._targets.get(target)


def read_hbas(sysfs: Path) -> tuple[Hba, ...]:
    """Return the Fibre Channel ports of this host. One that goes while it is read is left out.

    Raises OutputUnclear.
    """
    remote: dict[str, list[RemotePort]] = {}
    for name in list_directory(sysfs / "class/fc_remote_ports"):
        found = _REMOTE_PORT.fullmatch(name)
        port = (
            _remote_port(sysfs / "class/fc_remote_ports" / name, found.group(1), found.group(2))
            if found
            else None
        )
        if found and port is not None:
            remote.setdefault(f"host{found.group(1)}", []).append(port)
    hbas = (
        _hba(sysfs / "class/fc_host" / name, remote.get(name, []))
        for name in list_directory(sysfs / "class/fc_host")
    )
    return tuple(hba for hba in hbas if hba is not None)


def _hba(directory: Path, remote_ports: Sequence[RemotePort]) -> Hba | None:
    wwpn, wwnn = _wwn(directory / "port_name"), _wwn(directory / "node_name")
    state = _words(directory / "port_state")
    if not (wwpn and wwnn and state):
        return None
    return Hba(
        host=directory.name,
        wwpn=wwpn,
        wwnn=wwnn,
        port_id=_words(directory / "port_id"),
        state=state,
        port_type=_words(directory / "port_type"),
        speed=_words(directory / "speed"),
        symbolic_name=_words(directory / "symbolic_name"),
        remote_ports=tuple(remote_ports),
    )


def _remote_port(directory: Path, host: str, channel: str) -> RemotePort | None:
    wwpn, wwnn = _wwn(directory / "port_name"), _wwn(directory / "node_name")
    state = _words(directory / "port_state")
    if not (wwpn and wwnn and state):
        return None
    target = read_text(directory / "scsi_target_id")
    if target not in ("", _NO_TARGET) and not (target.isascii() and target.isdecimal()):
        raise OutputUnclear(str(directory / "scsi_target_id"), target[:80])
    roles = _words(directory / "roles")
    return RemotePort(
        name=directory.name,
        wwpn=wwpn,
        wwnn=wwnn,
        port_id=_words(directory / "port_id"),
        state=state,
        roles=tuple(role.strip() for role in roles.split(",") if role.strip()),
        target=f"{host}:{channel}:{target}" if target not in ("", _NO_TARGET) else "",
    )


def _wwn(path: Path) -> str:
    text = read_text(path)
    try:
        return format_wwn(text) if text else ""
    except ValueError as error:
        raise OutputUnclear(str(path), text[:80]) from error


def _words(path: Path) -> str:
    return clean_inquiry(read_text(path))
