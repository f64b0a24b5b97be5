"""Fibre Channel: this host's ports, the ports that they see, and how port names are written."""

import re
from dataclasses import dataclass

_ONLINE = "Online"
# With 0x as the kernel prints it ("0x%llx"): leading zeros are left out.
_WWN = re.compile(r"0x[0-9a-f]{1,16}|[0-9a-f]{16}")


@dataclass(frozen=True)
class RemotePort:
    """A port that an HBA sees: an array's, or another host's.

    `name` is the kernel's (`rport-7:0-0`). `state` and `roles` are in the kernel's words
    (scsi_transport_fc.c): `Online`, `Blocked`, `Not Present`; `FCP Target`. `target` is
    HOST:CHANNEL:TARGET of its LUNs, empty where it has none.
    """

    name: str
    wwpn: str
    wwnn: str
    port_id: str
    state: str
    roles: tuple[str, ...] = ()
    target: str = ""

    @property
    def online(self) -> bool:
        """Whether the HBA is logged in to it."""
        return self.state == _ONLINE


@dataclass(frozen=True)
class Hba:
    """A Fibre Channel port of this host; `host` is its SCSI host of this moment (`host7`).

    `state` is that of its link, in the kernel's words: `Online`, `Linkdown`, `Offline`.
    """

    host: str
    wwpn: str
    wwnn: str
    port_id: str
    state: str
    port_type: str = ""
    speed: str = ""
    symbolic_name: str = ""
    remote_ports: tuple[RemotePort, ...] = ()

    @property
    def online(self) -> bool:
        """Whether its link is up."""
        return self.state == _ONLINE


def format_wwn(text: str) -> str:
    """Return a port or node name as switches write it: `0x200002fc00000002` -> `20:00:02:fc:...`.

    Takes it with `0x`, with colons, or bare, in either case. Raises ValueError for what is none.
    """
    plain = text.strip().lower().replace(":", "")
    if not _WWN.fullmatch(plain):
        raise ValueError(
            f"{text!r} is no Fibre Channel name: 16 hexadecimal digits, as 20:00:02:fc:00:00:00:02"
        )
    digits = plain.removeprefix("0x").zfill(16)
    return ":".join(digits[at : at + 2] for at in range(0, 16, 2))


def plain_wwn(glob: str) -> str:
    """Return a name, or a glob of names, without what differs between ways of writing: `0x`, colons, case."""
    return glob.strip().lower().removeprefix("0x").replace(":", "")
