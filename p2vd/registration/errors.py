"""Why a domain could not be defined or undefined, each with the remedy."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


@dataclass(eq=False)
class DomainNameTaken(P2vdError):
    """There is a domain of that name which p2vd did not define."""

    uri: str
    domain: str
    uuid: str
    template: ClassVar[str] = (
        "libvirt ({uri}) has a domain {domain} already, with UUID {uuid}; it was not touched. "
        "Rename it (virsh domrename), then retry: the copied disks stay as they are."
    )


@dataclass(eq=False)
class DomainGone(P2vdError):
    """The domain that p2vd defined is no longer there."""

    uri: str
    uuid: str
    template: ClassVar[str] = (
        "libvirt ({uri}) has no domain {uuid} any more: somebody undefined it. Its disks are untouched; "
        "have it defined again: p2vctl retry."
    )


@dataclass(eq=False)
class DomainNotOurs(P2vdError):
    """The domain with a machine's UUID does not carry p2vd's mark."""

    uri: str
    domain: str
    uuid: str
    template: ClassVar[str] = (
        "The domain {domain} with UUID {uuid} at libvirt ({uri}) was not defined by p2vd, or its mark was "
        "edited away; it was not touched. Look at virsh dumpxml {uuid}; undefine it by hand if it may go."
    )


@dataclass(eq=False)
class DomainRunning(P2vdError):
    """A domain runs, or has a saved state, and so cannot be undefined."""

    uri: str
    domain: str
    state: str
    template: ClassVar[str] = (
        "The domain {domain} at libvirt ({uri}) {state}; it was not undefined. "
        "Shut it down (virsh shutdown {domain}; virsh managedsave-remove {domain}), then ask again."
    )


@dataclass(eq=False)
class LibvirtUnreachable(P2vdError):
    """libvirt does not answer."""

    uri: str
    message: str
    template: ClassVar[str] = (
        "libvirt ({uri}) cannot be reached: {message}. Start it (systemctl start libvirtd): "
        "what was to be done there is tried again by itself."
    )


@dataclass(eq=False)
class LibvirtFailed(P2vdError):
    """libvirt refused a request; `message` is its own."""

    uri: str
    doing: str
    message: str
    code: int
    template: ClassVar[str] = "libvirt ({uri}) failed at {doing}: {message} (code {code})."
