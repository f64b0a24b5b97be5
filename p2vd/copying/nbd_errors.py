"""What can go wrong with a source that is read from a server."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.copying.errors import CopyError, ExitCode, ReadFailed


class Lost(Exception):
    """Not told to anybody: a connection ended or was not made; it may be made again."""


@dataclass(eq=False)
class ConnectionLost(ReadFailed):
    """The server of the source was lost and did not come back in time."""

    template: ClassVar[str] = (
        "The connection to {device} was lost at offset {offset}: {cause}. When its server runs again, run "
        "the copy again; it goes on from its last checkpoint."
    )


@dataclass(eq=False)
class SourceSwapped(CopyError):
    """A server that came back does not serve what it served before."""

    source: str
    what: str
    exit_code: ClassVar[ExitCode] = ExitCode.MISMATCH
    template: ClassVar[str] = (
        "{source} is not the disk that the copy began with: {what}. The copy stopped; nothing of the other "
        "disk was written. Let the server serve the first disk again, or begin a new copy."
    )
