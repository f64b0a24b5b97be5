"""Who takes a machine: libvirt, which p2vd talks to, or a directory of definitions for other tools."""

from pathlib import Path
from typing import Protocol

from p2vd.domain.definition import Definition
from p2vd.domain.files import domain_files
from p2vd.domain.libvirt_xml import libvirt_xml
from p2vd.jobs.services import Services
from p2vd.model.errors import InvalidArgument
from p2vd.model.plan import DomainOptions
from p2vd.policy.domain import NO_HYPERVISOR


class Taker(Protocol):
    """What every hypervisor does with a machine that was given to it; see services.Hypervisor."""

    def undefine(self, uuid: str) -> None:
        """Take the machine back; its disks stay."""
        ...

    def start(self, uuid: str) -> None:
        """Start it."""
        ...

    def is_running(self, uuid: str) -> bool:
        """Whether it runs, as far as can be known here."""
        ...


class Nobody:
    """Takes the machines that are to stay files, volumes or LUNs."""

    def undefine(self, uuid: str) -> None:
        """Nothing was defined."""

    def start(self, uuid: str) -> None:
        """Refuse: there is nothing to start."""
        raise InvalidArgument(f"machine {uuid}", f'its policy says hypervisor = "{NO_HYPERVISOR}".')

    def is_running(self, uuid: str) -> bool:
        """Say no."""
        return False


def taker(services: Services, options: DomainOptions) -> Taker:
    """Return the one that the plan's options name."""
    if options.uri == NO_HYPERVISOR:
        return Nobody()
    if options.directory:
        return services.files(options.uri, Path(options.directory))
    return services.libvirt(options.uri)


def hand_over(services: Services, definition: Definition, options: DomainOptions) -> None:
    """Give the machine to the one that takes it. Idempotent. Raises what that one raises."""
    if options.uri == NO_HYPERVISOR:
        return
    if options.directory:
        files = services.files(options.uri, Path(options.directory))
        files.define(domain_files(definition), definition.uuid)
    else:
        services.libvirt(options.uri).define(libvirt_xml(definition), definition.uuid)
