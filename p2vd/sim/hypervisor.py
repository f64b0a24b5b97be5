"""The simulated libvirt: domains that are defined, and that are said to run; nothing does."""

import logging
import xml.etree.ElementTree as ET

from p2vd.registration.errors import DomainGone, DomainNameTaken, DomainRunning, LibvirtUnreachable
from p2vd.sim.volumes import Volumes

log = logging.getLogger(__name__)


class SimLibvirt:
    """One libvirt, by URI. Thread-safe. All URIs are the same simulated one."""

    def __init__(self, uri: str, volumes: Volumes) -> None:
        self._uri = uri
        self._volumes = volumes

    def _expect_reachable(self) -> None:
        if self._volumes.libvirt_down:
            raise LibvirtUnreachable(self._uri, "the simulated libvirtd is stopped")

    def reach(self) -> None:
        """Raise LibvirtUnreachable while it is stopped."""
        self._expect_reachable()

    def define(self, xml: str, uuid: str) -> None:
        """Define the domain of `xml`. One defined before stays as it is. Raises DomainNameTaken."""
        self._expect_reachable()
        name = _name(xml)
        with self._volumes.san.lock:
            domains = self._volumes.domains
            for other_uuid, other in domains.items():
                if other_uuid != uuid and _name(other) == name:
                    raise DomainNameTaken(self._uri, name, other_uuid)
            domains.setdefault(uuid, xml)
            self._volumes.save()
        log.info("simulated domain %s (%s) is defined", name, uuid)

    def undefine(self, uuid: str) -> None:
        """Undefine a domain; none there: nothing to do. Raises DomainRunning."""
        self._expect_reachable()
        with self._volumes.san.lock:
            if uuid in self._volumes.running:
                raise DomainRunning(self._uri, _name(self._volumes.domains[uuid]), "runs")
            self._volumes.domains.pop(uuid, None)
            self._volumes.save()

    def start(self, uuid: str) -> None:
        """Start a domain; one that runs stays as it is. Raises DomainGone."""
        self._expect_reachable()
        with self._volumes.san.lock:
            if uuid not in self._volumes.domains:
                raise DomainGone(self._uri, uuid)
            self._volumes.running.add(uuid)

    def is_running(self, uuid: str) -> bool:
        """Whether a domain runs."""
        self._expect_reachable()
        return uuid in self._volumes.running


def _name(xml: str) -> str:
    return ET.fromstring(xml).findtext("name") or ""  # noqa: S314  (p2vd.domain wrote it)
