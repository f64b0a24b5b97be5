"""What a copy that could not begin exits with: refused for good, or to be run again."""

import pytest

from p2vd.copying import standalone
from p2vd.copying.early_end import report_of
from p2vd.copying.errors import CheckpointUnwritable, ExitCode, OpenFailed
from p2vd.copying.nbd_errors import SourceSwapped
from p2vd.model.errors import DeviceInUse, P2vdError
from p2vd.system.command import CommandFailed, CommandKilled, CommandNotStarted, CommandTimedOut

ARGV = ("dmsetup", "info")
NO_FORK = CommandNotStarted(ARGV, 0.0, "Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NO_FORK, ExitCode.IO_FAILED),
        (CommandKilled(ARGV, 30.0, 9), ExitCode.IO_FAILED),
        (CommandTimedOut(ARGV, 30.0), ExitCode.IO_FAILED),
        (CommandFailed(ARGV, 127, "No such file or directory"), ExitCode.REFUSED),
        (DeviceInUse("/dev/sdx", "another process"), ExitCode.REFUSED),
        (OpenFailed("/dev/sdx", "Permission denied"), ExitCode.REFUSED),
        (CheckpointUnwritable("/x", "No space left on device"), ExitCode.IO_FAILED),
        (SourceSwapped("nbd://a/", "its size"), ExitCode.MISMATCH),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_error_has_its_exit_code(error: P2vdError, code: ExitCode) -> None:
    report = report_of(error)
    assert report.exit_code == code
    assert report.failure is not None
    assert (report.failure.name, report.failure.message) == (error.name, str(error))


def test_a_message_that_is_not_understood_is_refused() -> None:
    report = report_of(ValueError("start.version is missing"))
    assert report.exit_code == ExitCode.REFUSED
    assert report.failure is not None
    assert report.failure.name == "ProtocolMismatch"


def test_the_tool_on_a_host_without_a_process_left_is_to_be_run_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise NO_FORK

    monkeypatch.setattr(standalone, "_prepare", refuse)
    monkeypatch.setattr("p2vd.copying.standalone.signal.signal", lambda *_: None)
    assert standalone.main(["/dev/a", "/dev/b", "--checkpoint", "/c", "--json"]) == ExitCode.IO_FAILED
    assert '"CommandNotStarted"' in capsys.readouterr().out
