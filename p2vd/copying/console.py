"""What the tool of its own says."""

import json
import sys
from collections.abc import Mapping

from p2vd.copying.controls import Outstanding
from p2vd.copying.errors import ExitCode, PoolFull
from p2vd.copying.terms import Report
from p2vd.model.codec import to_dict
from p2vd.model.copying import Progress
from p2vd.model.size import format_size


class Console:
    """What the tool says: on a terminal one line that is rewritten, as JSON one object a line."""

    def __init__(self, as_json: bool, size_bytes: int = 0):
        self._json = as_json
        self._live = not as_json and sys.stderr.isatty()
        self.size_bytes = size_bytes

    def progress(self, phase: str, progress: Progress) -> None:
        """Tell how far it is."""
        if self._json:
            self._line("progress", {"phase": phase, **to_dict(progress)})
        elif self._live:
            moved = progress.bytes_copied + progress.bytes_zero + progress.bytes_same + progress.bad_bytes
            shown = progress.bytes_verified if phase in ("proving", "verifying") else moved
            rate = format_size(progress.rate_bytes_per_s)
            text = f"{phase}: {format_size(shown)} of {format_size(self.size_bytes)}, {rate}/s"
            print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)

    def stalled(self, stall: Outstanding) -> None:
        """Tell of an I/O that does not come back."""
        if self._json:
            self._line("stalled", {"operation": stall.operation, "offset": stall.offset})
        else:
            print(f"\nstill waiting: {stall.operation} at offset {stall.offset}", file=sys.stderr)

    def held(self, error: PoolFull) -> None:
        """Tell of a write that waits for space."""
        if self._json:
            self._line("held", {"reason": "no-space", "offset": error.offset, "message": str(error)})
        else:
            print(f"\nwaiting, and trying again: {error}", file=sys.stderr)

    def report(self, report: Report) -> None:
        """Tell the end."""
        progress, failure = report.progress, report.failure
        if self._json:
            self._line(
                "report",
                {
                    "exit_code": report.exit_code,
                    "bytes_copied": progress.bytes_copied,
                    "bytes_zero": progress.bytes_zero,
                    "bytes_skipped": progress.resumed_from_bytes,
                    "bytes_same": progress.bytes_same,
                    "bytes_verified": progress.bytes_verified,
                    "bytes_bad": progress.bad_bytes,
                    "committed_bytes": progress.committed_bytes,
                    "seconds": report.seconds,
                    "digest": report.digest,
                    "source_stable": report.source_stable,
                    "bad_ranges": report.bad_ranges,
                    "failure": to_dict(failure),
                },
            )
            return
        if self._live:
            print(file=sys.stderr)
        if failure is not None:
            print(f"p2vd-copy: {failure.message}", file=sys.stderr)
        elif report.exit_code == ExitCode.STOPPED:
            done = format_size(progress.committed_bytes)
            print(f"stopped at a checkpoint: {done} of {format_size(self.size_bytes)} are safe; run it again")
        else:
            same = f"{format_size(progress.bytes_same)} unchanged, " if progress.bytes_same else ""
            print(
                f"done: {format_size(progress.bytes_copied)} copied, "
                f"{format_size(progress.bytes_zero)} zero, {same}"
                f"{format_size(progress.bytes_verified)} verified in {report.seconds:.1f} s {report.digest}"
            )
            if report.bad_ranges:
                print(
                    f"p2vd-copy: {format_size(progress.bad_bytes)} of the source in "
                    f"{len(report.bad_ranges)} places cannot be read; the target has zeros there",
                    file=sys.stderr,
                )

    @staticmethod
    def _line(kind: str, fields: Mapping[str, object]) -> None:
        print(json.dumps({"type": kind, **fields}), flush=True)
