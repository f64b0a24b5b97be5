"""Defines a machine's domain in libvirt, once, and undefines only what was defined here."""

import errno
import logging
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import TypeVar

import libvirt
import tenacity

from p2vd.model.errors import P2vdError
from p2vd.registration.errors import (
    DefinitionRefused,
    DomainGone,
    DomainHasPoints,
    DomainNameTaken,
    DomainNotOurs,
    DomainRunning,
    LibvirtFailed,
    LibvirtUnreachable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# The metadata element that p2vd.domain writes into a definition; a test holds the two together.
NAMESPACE = "urn:p2vd:domain:1"

_ATTEMPTS = 5

_NOT_THERE = (
    "Install it (apt-get install libvirt-daemon-system, libvirt-clients for virsh), or start it where it is "
    "(systemctl enable --now libvirtd)"
)

# What a libvirtd that is being started or restarted answers. Both as (code, domain): the codes alone
# also stand for errors that would come again.
_CONNECTION_ERRORS = frozenset(
    {
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC),  # no socket, connection refused or reset
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC),  # client socket is closed
        (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC),  # the other side closed in mid-message
    }
)


class Libvirt:
    """One libvirt, by URI. Each call opens and closes a connection of its own; thread-safe.

    A call that loses the connection is repeated as a whole, at most 5 times, until `stop` is set:
    every call here may be repeated. All raise LibvirtUnreachable and LibvirtFailed.
    """

    def __init__(
        self,
        uri: str,
        stop: threading.Event | None = None,
        connect: Callable[[str], "libvirt.virConnect"] = libvirt.open,
        wait_s: float = 1.0,
    ) -> None:
        self._uri = uri
        self._stop = stop or threading.Event()
        self._connect = connect
        self._wait_s = wait_s
        # Without a handler libvirt writes each error to standard error, beside raising it.
        libvirt.registerErrorHandler(_ignore, None)

    def define(self, xml: str, uuid: str) -> None:
        """Define the domain of `xml`, whose UUID is `uuid`. A domain defined before stays as it is.

        Raises DomainNameTaken, DomainNotOurs, DefinitionRefused.
        """
        name = _name(xml, uuid)
        doing = f"defining domain {name}"

        def attempt(connection: "libvirt.virConnect") -> None:
            if (domain := _find(connection.lookupByUUIDString, uuid)) is not None:
                self._own(domain)
                log.info("domain %s (%s) is defined already", domain.name(), uuid)
                return
            if (other := _find(connection.lookupByName, name)) is not None:
                raise DomainNameTaken(self._uri, name, other.UUIDString())
            try:
                connection.defineXML(xml)
            except libvirt.libvirtError as error:
                if _is_connection_error(error):
                    raise
                raise DefinitionRefused(self._uri, doing, *_said(error), name) from error
            log.info("domain %s (%s) is defined at %s", name, uuid, self._uri)

        self._run(doing, attempt)

    def undefine(self, uuid: str) -> None:
        """Undefine the domain that p2vd defined as `uuid`; its disks stay. None there: nothing to do.

        The variables of its firmware go with it: libvirt made them for it at its first start, under its name,
        and would give them to the next domain of that name. Raises DomainNotOurs, DomainRunning,
        DomainHasPoints.
        """

        def attempt(connection: "libvirt.virConnect") -> None:
            domain = _find(connection.lookupByUUIDString, uuid)
            if domain is None:
                return
            self._own(domain)
            if domain.isActive():
                raise DomainRunning(self._uri, domain.name(), "runs")
            if domain.hasManagedSaveImage():
                raise DomainRunning(self._uri, domain.name(), "has a saved state")
            if (points := next(_points(domain), None)) is not None:
                raise DomainHasPoints(self._uri, domain.name(), *points)
            domain.undefineFlags(_undefine_flags(connection, domain))
            log.info("domain %s is undefined at %s", uuid, self._uri)

        self._run(f"undefining domain {uuid}", attempt)

    def start(self, uuid: str) -> None:
        """Start the domain that p2vd defined as `uuid`. One that runs already stays as it is.

        Raises DomainGone, DomainNotOurs.
        """

        def attempt(connection: "libvirt.virConnect") -> None:
            domain = _find(connection.lookupByUUIDString, uuid)
            if domain is None:
                raise DomainGone(self._uri, uuid)
            self._own(domain)
            if not domain.isActive():
                domain.create()
                log.info("domain %s (%s) was started at %s", domain.name(), uuid, self._uri)

        self._run(f"starting domain {uuid}", attempt)

    def is_running(self, uuid: str) -> bool:
        """Whether the domain that p2vd defined as `uuid` runs; False where there is none.

        Raises DomainNotOurs.
        """

        def attempt(connection: "libvirt.virConnect") -> bool:
            domain = _find(connection.lookupByUUIDString, uuid)
            if domain is None:
                return False
            self._own(domain)
            return bool(domain.isActive())

        return self._run(f"looking whether domain {uuid} runs", attempt)

    def reach(self) -> None:
        """Try to connect, once."""
        try:
            self._connect(self._uri).close()
        except libvirt.libvirtError as error:
            raise self._translated("connecting", error) from error

    def _own(self, domain: "libvirt.virDomain") -> None:
        """Raise DomainNotOurs unless the domain carries p2vd's mark with its own UUID."""
        try:
            mark = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                raise
            mark = "<none/>"
        if ET.fromstring(mark).get("uuid") != domain.UUIDString():  # noqa: S314  (libvirt's own output)
            raise DomainNotOurs(self._uri, domain.name(), domain.UUIDString())

    def _run(self, doing: str, attempt: Callable[["libvirt.virConnect"], T]) -> T:
        def once() -> T:
            connection = self._connect(self._uri)
            try:
                return attempt(connection)
            finally:
                connection.close()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_connection_error),
            stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_when_event_set(self._stop),
            wait=tenacity.wait_exponential(multiplier=self._wait_s, max=8 * self._wait_s),
            sleep=tenacity.sleep_using_event(self._stop),
            reraise=True,
        )
        try:
            return retrying(once)
        except libvirt.libvirtError as error:
            raise self._translated(doing, error) from error

    def _translated(self, doing: str, error: "libvirt.libvirtError") -> P2vdError:
        message, code = _said(error)
        if _is_connection_error(error):
            # Of an error of the system libvirt tells errno: its socket is not there.
            absent = error.get_int1() == errno.ENOENT
            return LibvirtUnreachable(self._uri, message, *((_NOT_THERE,) if absent else ()))
        return LibvirtFailed(self._uri, doing, message, code)


def _said(error: "libvirt.libvirtError") -> tuple[str, int]:
    """Return an error's message and code."""
    return (error.get_error_message() or str(error)).rstrip("."), error.get_error_code() or 0


def _is_connection_error(error: BaseException) -> bool:
    return (
        isinstance(error, libvirt.libvirtError)
        and (error.get_error_code(), error.get_error_domain()) in _CONNECTION_ERRORS
    )


def _find(lookup: Callable[[str], "libvirt.virDomain"], key: str) -> "libvirt.virDomain | None":
    try:
        return lookup(key)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _points(domain: "libvirt.virDomain") -> Iterator[tuple[str, int]]:
    """Yield what libvirt would have to forget with the domain, and so undefines none that has it."""
    counts: tuple[tuple[str, Callable[[], int]], ...] = (
        ("snapshot", domain.snapshotNum),
        ("checkpoint", lambda: len(domain.listAllCheckpoints())),
    )
    for kind, count in counts:
        try:
            found = count()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:  # as Xen's driver answers
                raise
            found = 0
        if found:
            yield kind, found


def _undefine_flags(connection: "libvirt.virConnect", domain: "libvirt.virDomain") -> int:
    """Return what tells libvirt that a firmware's variables go with the domain: it refuses to guess.

    Of a firmware that it chose itself (`<os firmware='efi'>`), libvirt 9.0 names their file in the XML of the
    running domain only. Xen's driver keeps none, and refuses the flag (libxlDomainUndefineFlags).
    """
    if connection.getType() != "QEMU":
        return 0
    system = ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).find("os")  # noqa: S314  (libvirt's)
    if system is None or (system.get("firmware") != "efi" and system.find("nvram") is None):
        return 0
    return int(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def _name(xml: str, uuid: str) -> str:
    """Return the name in a definition. Raises ValueError where the definition is of another UUID."""
    root = ET.fromstring(xml)  # noqa: S314  (p2vd.domain wrote it)
    if root.findtext("uuid") != uuid:
        raise ValueError(f"the definition is of domain {root.findtext('uuid')}, not of {uuid}")
    return root.findtext("name") or ""


def _ignore(_context: object, _error: object) -> None:
    """Take libvirt's messages: each is raised as an exception too."""
