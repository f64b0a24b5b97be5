"""What somebody asks of a portal, checked: its name, its targets, its credentials."""

import os
import re
from dataclasses import dataclass

from p2vd.model.errors import InvalidArgument
from p2vd.model.portal import Chap, PortalName, PortalRecord, Secret, make_chap, parse_portal, parse_secret
from p2vd.system.secrets import read_descriptor

# A caller is answered within a second, and two secrets may have to be read.
_SECRET_S = 0.4

# RFC 7143, 4.2.7: iqn., eui. or naa. names; * and ? are ours.
_TARGET = re.compile(r"[A-Za-z0-9.:*?-]{1,223}")


@dataclass(frozen=True)
class PortalRequest:
    """A portal to be added. Secrets come as descriptors, which become ours; None: not given."""

    portal: str
    targets: tuple[str, ...] = ()
    chap_user: str = ""
    chap_secret: int | None = None
    chap_user_in: str = ""
    chap_secret_in: int | None = None
    discovery_chap: bool = False

    def read(self) -> tuple[PortalRecord, Chap | None]:
        """Return what to remember and the credentials; closes the descriptors. Raises InvalidArgument."""
        try:
            name = parse_portal(self.portal)
            chap = make_chap(
                self.chap_user,
                _secret(self.chap_secret, "chap-secret"),
                self.chap_user_in,
                _secret(self.chap_secret_in, "chap-secret-in"),
                discovery=self.discovery_chap,
            )
            return self._record(name, chap), chap
        finally:
            for fd in (self.chap_secret, self.chap_secret_in):
                if fd is not None:
                    os.close(fd)

    def _record(self, name: PortalName, chap: Chap | None) -> PortalRecord:
        for target in self.targets:
            if not _TARGET.fullmatch(target):
                raise InvalidArgument("targets", f"{target!r} is no name of an iSCSI target.")
        return PortalRecord(name.portal, name.interface, self.targets, chap=chap is not None)


def _secret(fd: int | None, place: str) -> Secret | None:
    if fd is None:
        return None
    try:
        raw = read_descriptor(fd, _SECRET_S)
    except (OSError, ValueError) as error:
        raise InvalidArgument(place, f"the secret could not be read from the descriptor: {error}") from error
    return parse_secret(raw, place)
