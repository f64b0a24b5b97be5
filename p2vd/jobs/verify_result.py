"""What a reading of a volume says, beside what is known to have happened to it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from p2vd.copying.verification import VerifyReport
from p2vd.jobs.volume_history import uses
from p2vd.model.job import Job, Machine
from p2vd.model.size import format_size
from p2vd.model.verification import Verification, VerifyState, WriteCount
from p2vd.system.clock import boot_id, now_us

_SHOWN = 5


def conclude(
    job: Job, machine: Machine, receipt: Mapping[str, Any], report: VerifyReport, size_bytes: int
) -> Verification:
    """Return how a verification ended. `size_bytes`: of the volume now."""
    begun = job.verification or Verification(VerifyState.RUNNING, now_us())
    writes = None
    if report.writes_before >= 0:
        writes = WriteCount(boot_id(), report.sequence, report.writes_before).since(job.proven_writes)
    explained = uses(machine, writes)
    since = list(explained)
    was = receipt["target"]["size_bytes"]
    if size_bytes > was:
        since.append(f"It was extended from {format_size(was)} to {format_size(size_bytes)}.")
    state = VerifyState.UNCHANGED
    if not report.equal:
        state = VerifyState.USED if explained else VerifyState.DIFFERS
    return replace(
        begun,
        state=state,
        ended_us=now_us(),
        against=report.against,
        bytes_read=report.bytes_read,
        differing=report.differing,
        differing_bytes=report.differing_bytes,
        since=tuple(since),
        seen=_sentence(state, report, explained),
    )


def _sentence(state: VerifyState, report: VerifyReport, explained: tuple[str, ...]) -> str:
    read = format_size(report.bytes_read)
    coarse = ""
    if report.without_checkpoint:
        coarse = f" It was compared as a whole, for {report.without_checkpoint.rstrip('.')}."
    if state is VerifyState.UNCHANGED:
        return f"It is what the receipt says: {read} were read and are identical.{coarse}"
    where = f"It is not what the receipt says any more: {_places(report)}.{coarse}"
    if state is VerifyState.USED:
        return f"{where} That is no corruption as far as is known: {' '.join(explained)}"
    return (
        f"{where} Nothing is known that explains it: as far as p2vd knows neither did its machine run nor "
        "did this host write to it. Find out who did (another host, the array), and copy the disk again if "
        "it may not be used so."
    )


def _places(report: VerifyReport) -> str:
    if not report.differing:
        return "somewhere it differs"
    shown = ", ".join(f"{start}+{length}" for start, length in report.differing[:_SHOWN])
    more = f" and {len(report.differing) - _SHOWN} more" if len(report.differing) > _SHOWN else ""
    return f"{format_size(report.differing_bytes)} differ, at byte offset+length {shown}{more}"
