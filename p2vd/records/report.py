"""The morning after: what became of the jobs since a time, and what to do. Pure."""

from collections.abc import Iterable, Mapping

from p2vd.model.job import Hold, Job, Machine, MachineState, Stage
from p2vd.model.report import Outcome, Report, ReportLine

_SECOND_US = 1_000_000
_ORDER = tuple(Outcome)
_QUEUED = frozenset({Hold.SLOT, Hold.WINDOW})  # it is the plan that it waits
_HELD = {
    Hold.USER: ("it was paused", "p2vctl resume {job}"),
    Hold.POOL: ("its thin pool has no room", "Extend the pool (lvextend); it goes on by itself."),
    Hold.SOURCE_ABSENT: (
        "its source is not attached",
        "Map the LUN again (multipath -ll); it goes on by itself.",
    ),
    Hold.TARGET_ABSENT: (
        "its volume is not there",
        "See the disks of its volume group (vgs, multipath -ll).",
    ),
    Hold.OLD_WORKER: (
        "an earlier worker still has its disks",
        "See dmesg: a read or write hangs in the kernel. Of a qcow2 also lsof: who has it locked.",
    ),
    Hold.CHECKPOINT_STORE: ("its checkpoint cannot be written", "Make room in /var/lib/p2vd (df)."),
    Hold.HOOK: ("a hook failed", "Mend the cause, then: p2vctl retry {job}"),
}


def build_report(
    jobs: Iterable[Job],
    machines: Mapping[str, Machine],
    damaged: Mapping[str, str],
    since_us: int,
    now_us: int,
) -> Report:
    """Return the report of `jobs`, also of those that left the bus; `machines` by UUID.

    A job is in it that ended since, or has not ended. `damaged`: what is wrong with receipts, by job.
    """
    told = [job for job in jobs if not job.end_time_us or _is_open(job) or job.end_time_us >= since_us]
    lines = [_line(job, machines.get(job.machine_uuid), damaged.get(job.uuid, ""), now_us) for job in told]
    lines.sort(key=lambda line: (_ORDER.index(line.outcome), line.end_time_us, line.start_time_us))
    done = sum(line.size_bytes for line in lines if line.outcome is Outcome.DONE)
    busy_us = _together([(max(line.start_time_us, since_us), line.end_time_us or now_us) for line in lines])
    return Report(since_us, now_us, tuple(lines), done, _rate(done, busy_us))


def _is_open(job: Job) -> bool:
    return job.stage not in (Stage.PROVEN, Stage.CANCELLED)


def _line(job: Job, machine: Machine | None, damaged: str, now_us: int) -> ReportLine:
    outcome = _outcome(job)
    cause, advice = _told(job, machine, damaged, outcome)
    progress = job.progress
    moved = progress.bytes_copied + progress.bytes_zero + progress.bytes_same
    end_us = 0 if outcome in (Outcome.RUNNING, Outcome.HELD) else job.end_time_us
    return ReportLine(
        job=job.uuid,
        machine=job.plan.machine_name,
        source=job.plan.source.id,
        target=str(job.plan.target),
        outcome=outcome,
        stage=job.stage.value,
        size_bytes=job.plan.source.size_bytes,
        copied_bytes=progress.bytes_copied,
        rate_bytes_per_s=_rate(moved, (end_us or now_us) - job.start_time_us),
        start_time_us=job.start_time_us,
        end_time_us=end_us,
        cause=cause,
        advice=advice,
        uid=job.started_by.uid,
    )


def _outcome(job: Job) -> Outcome:
    if job.stage is Stage.PROVEN and Hold.HOOK not in job.holds:
        return Outcome.DONE
    if job.stage is Stage.FAILED:
        return Outcome.FAILED
    if job.stage is Stage.CANCELLED:
        return Outcome.CANCELLED
    return Outcome.HELD if job.holds - _QUEUED else Outcome.RUNNING


def _told(job: Job, machine: Machine | None, damaged: str, outcome: Outcome) -> tuple[str, str]:
    """The cause, and what to do; a sentence each, or empty."""
    if outcome is Outcome.FAILED and job.error is not None:
        return f"{job.error.name}: {job.error.message}", f"Mend the cause, then: p2vctl retry {job.uuid}"
    if outcome is Outcome.HELD:
        hold = min(job.holds - _QUEUED, key=lambda one: one.value)
        cause, advice = _HELD.get(hold, (f"it is held ({hold.value})", "p2vctl show {job}"))
        if hold is Hold.HOOK and job.hook_error:
            return job.hook_error, advice.format(job=job.uuid)
        return f"{cause[0].upper()}{cause[1:]}.", advice.format(job=job.uuid)
    if outcome is Outcome.DONE and damaged:
        return f"Its receipt cannot be trusted: {damaged}.", "See the audit: p2vctl audit"
    if outcome is Outcome.DONE and machine is not None:
        if machine.error is not None:
            text = f"{machine.error.name}: {machine.error.message}"
            if machine.state is MachineState.REGISTERED:
                return text, f"See it: p2vctl show {machine.name}"
            return text, f"Mend the cause, then: p2vctl retry {machine.name}"
        if machine.state is MachineState.READY:
            return "", f"It waits for its cutover: p2vctl cutover {machine.name}"
        if job.bad_ranges:
            return f"{job.progress.bad_bytes} bytes of the source could not be read, and are zero.", ""
    return "", ""


def _together(spans: list[tuple[int, int]]) -> int:
    """How long at least one of the spans lasts."""
    total, reached = 0, 0
    for begin, end in sorted(spans):
        total += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _rate(count: int, took_us: int) -> int:
    return count * _SECOND_US // took_us if took_us > 0 else 0
