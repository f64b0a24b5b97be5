"""The report of a copy that ended before it began: refused, or not for now."""

from p2vd.copying.errors import CopyError, ExitCode
from p2vd.copying.terms import Failure, Report
from p2vd.model.copying import Progress
from p2vd.model.errors import P2vdError
from p2vd.system.command import CommandTimedOut


def report_of(error: P2vdError | ValueError) -> Report:
    """Return what is told of `error`. A ValueError: a message was not understood."""
    name = error.name if isinstance(error, P2vdError) else "ProtocolMismatch"
    return Report(int(_exit_code(error)), Progress(), failure=Failure(name, str(error)))


def _exit_code(error: P2vdError | ValueError) -> ExitCode:
    if isinstance(error, CommandTimedOut):  # nobody was asked: that refuses nothing
        return ExitCode.IO_FAILED
    return error.exit_code if isinstance(error, CopyError) else ExitCode.REFUSED
