"""How fast a job may be, as the bus says it: its bandwidth, its source's latency, and what that means."""

from p2vd.model.bandwidth import Grant
from p2vd.model.duration import format_latency
from p2vd.model.job import Activity, Job
from p2vd.model.size import format_size


def pace(job: Job, activity: Activity, grant: Grant | None) -> dict[str, object]:
    """These properties of org.p2vd1.Job."""
    running = activity is Activity.RUNNING
    return {
        "Bandwidth": grant.bytes_per_s if grant else 0,
        "BandwidthReason": grant.reason if grant else "",
        "ReadLatency": job.progress.read_latency_us if running else 0,
        "BackOff": _back_off(job) if running else "",
    }


def _back_off(job: Job) -> str:
    slowed, bound = job.progress.slowed_bytes_per_s, job.plan.copy.max_latency_us
    if not slowed:
        return ""
    return (
        f"Slowed down to {format_size(slowed)}/s, because its source answers late: a read takes "
        f"{format_latency(job.progress.read_latency_us)} (copy.max_latency = {format_latency(bound)})."
    )
