"""What the engine tells its subscribers. Each is sent after the change is durable."""

from dataclasses import dataclass

from p2vd.model.inventory import Difference


@dataclass(frozen=True)
class InventoryChanged:
    """Discovery saw something else than before; where `difference` is None, anything may be."""

    difference: Difference | None = None


@dataclass(frozen=True)
class PolicyErrorsChanged:
    """Policies were read again."""


@dataclass(frozen=True)
class JobAdded:
    """A job was made."""

    uuid: str


@dataclass(frozen=True)
class JobChanged:
    """A job's stage, holds, activity or progress changed."""

    uuid: str


@dataclass(frozen=True)
class JobVerified:
    """A later verification of a job's volume ended."""

    uuid: str


@dataclass(frozen=True)
class JobRemoved:
    """A job leaves the bus; `result` is done, failed or cancelled."""

    uuid: str
    result: str


@dataclass(frozen=True)
class MachineAdded:
    """A machine was made."""

    uuid: str


@dataclass(frozen=True)
class MachineChanged:
    """A machine's state changed."""

    uuid: str


@dataclass(frozen=True)
class PortalChanged:
    """A portal came, went, or is in another state."""

    id: str


@dataclass(frozen=True)
class PassportChanged:
    """The record of a physical machine came, went, or is another."""

    name: str


Event = (
    InventoryChanged
    | PolicyErrorsChanged
    | JobAdded
    | JobChanged
    | JobVerified
    | JobRemoved
    | MachineAdded
    | MachineChanged
    | PortalChanged
    | PassportChanged
)
