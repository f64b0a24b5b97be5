"""libvirt's QEMU driver, as far as it differs from the test driver, around what the latter makes."""

from pathlib import Path
from typing import Any

import libvirt


def refusal(code: int, domain: int, message: str) -> libvirt.libvirtError:
    """An error as libvirt raises it."""
    error = libvirt.libvirtError("no")
    error.err = (code, domain, message, 2, "", "", "", -1, -1)
    return error


class QemuDomain:
    """A domain that has a file of its firmware's variables from its first start on.

    As qemuDomainUndefineFlags and qemuProcessPrepareHost of libvirt 9.0 have it: with `<os firmware='efi'>`
    the file is named in the XML of the running domain only, and refuses an undefinition all the same.
    """

    def __init__(self, domain: libvirt.virDomain, directory: Path) -> None:
        self._domain = domain
        self._variables = directory / f"{domain.name()}_VARS.fd"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._domain, name)

    def create(self) -> int:
        if "firmware='efi'" in self._domain.XMLDesc():
            self._variables.touch()
        return int(self._domain.create())

    def undefineFlags(self, flags: int) -> int:  # noqa: N802  (libvirt's name)
        if self._variables.exists():
            if not flags & libvirt.VIR_DOMAIN_UNDEFINE_NVRAM:
                message = "Requested operation is not valid: cannot undefine domain with nvram"
                raise refusal(libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_QEMU, message)
            self._variables.unlink()
        return int(self._domain.undefineFlags(flags & ~libvirt.VIR_DOMAIN_UNDEFINE_NVRAM))


class Qemu:
    """Opens connections for `Libvirt(uri, connect=...)`; `directory`: where the variables lie."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, uri: str) -> Any:
        return _Connection(libvirt.open(uri), self._directory)


class _Connection:
    def __init__(self, connection: libvirt.virConnect, directory: Path) -> None:
        self._connection = connection
        self._directory = directory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def getType(self) -> str:  # noqa: N802
        return "QEMU"

    def lookupByUUIDString(self, uuid: str) -> Any:  # noqa: N802
        return QemuDomain(self._connection.lookupByUUIDString(uuid), self._directory)
