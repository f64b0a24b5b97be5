"""What p2vd does looks like on the bus: jobs, machines and plans as plain property values by name."""

from p2vd.bus.names import JOB, MACHINE, SOURCE, object_path
from p2vd.bus.views import Properties
from p2vd.bus.views_fill import expected, pool_fill
from p2vd.bus.views_pace import pace
from p2vd.bus.wire import Variant
from p2vd.model.bandwidth import Grant
from p2vd.model.boot_test import BootTest
from p2vd.model.copying import Verify
from p2vd.model.cutover import CutoverChoice
from p2vd.model.job import Activity, Job, JobError, Machine, Stage
from p2vd.model.limits import Waiting
from p2vd.model.plan import DiskPlan, FileTarget, LunTarget, LvTarget, Plan, Target
from p2vd.model.rates import Estimate
from p2vd.model.verification import Verification

OPERATION = "p2v-copy"
_SECOND_US = 1_000_000

# What changes all the time, and is announced at most twice a second an object.
COUNTERS = frozenset(
    {
        "Progress",
        "Rate",
        "ExpectedEndTime",
        "BytesCopied",
        "BytesZero",
        "BytesVerified",
        "BytesCommitted",
        "BadBytes",
        "LastCheckpoint",
        "ReadLatency",
        "BackOff",
        "ThinPools",
        "Free",
        "FreeExtents",
    }
)


def machine(value: Machine, hypervisor: str) -> Properties:
    """Properties of org.p2vd1.Machine; `hypervisor`: who takes it."""
    return {
        "Uuid": value.uuid,
        "Name": value.name,
        "State": value.state.value,
        "Jobs": tuple(object_path(JOB, uuid) for uuid in value.jobs),
        "Plan": value.plan_id,
        "Hypervisor": hypervisor,
        "Domain": value.domain_uuid,
        "CutoverMode": value.cutover.value,
        "Unmap": value.unmap,
        "Error": _error(value.error),
        "BootTest": _boot_test(value.boot_test),
    }


def _boot_test(test: BootTest | None) -> dict[str, Variant]:
    if test is None:
        return {}
    return {
        "State": Variant("s", test.state.value),
        "Sign": Variant("s", test.sign.value),
        "Seen": Variant("s", test.seen),
        "Serial": Variant("s", test.serial),
        "Screenshot": Variant("s", test.screenshot),
        "Accelerator": Variant("s", test.accelerator),
        "StartTime": Variant("t", test.started_us),
        "EndTime": Variant("t", test.ended_us),
        "Error": Variant("s", test.error),
    }


def job(
    value: Job,
    activity: Activity,
    stalled: str,
    now_us: int,
    waiting: Waiting | None = None,
    grant: Grant | None = None,
) -> Properties:
    """Properties of org.p2vd1.Job at the moment `now_us`; `waiting`: what for, where it does."""
    progress, plan = value.progress, value.plan
    running = activity is Activity.RUNNING
    return {
        "Uuid": value.uuid,
        "Operation": OPERATION,
        "Stage": value.stage.value,
        "FailedStage": value.failed_stage.value if value.failed_stage else "",
        "Holds": tuple(sorted(hold.value for hold in value.holds)),
        "Activity": activity.value,
        "Stalled": stalled,
        "Waiting": waiting.reason if waiting else "",
        "QueuePlace": waiting.place if waiting else 0,
        "Machine": object_path(MACHINE, value.machine_uuid),
        "Source": object_path(SOURCE, plan.source.id),
        "SourceId": plan.source.id,
        "Disk": plan.number,
        "Target": plan.target.path,
        "TargetKind": plan.target.kind.value,
        "TargetFormat": plan.target.format.value if isinstance(plan.target, FileTarget) else "raw",
        "TargetUuid": value.lv_uuid or value.target_file_id,
        "Progress": round(fraction_done(value), 4),
        "Bytes": plan.source.size_bytes,
        "Rate": progress.rate_bytes_per_s if running else 0,
        **pace(value, activity, grant),
        "StartTime": value.start_time_us,
        "ExpectedEndTime": _expected_end_us(value, now_us) if running else 0,
        "EndTime": value.end_time_us,
        "StartedByUID": value.started_by.uid,
        "BytesCopied": progress.bytes_copied,
        "BytesZero": progress.bytes_zero,
        "BytesVerified": progress.bytes_verified,
        "BytesCommitted": progress.committed_bytes,
        "ResumedFrom": progress.resumed_from_bytes,
        "BadBytes": progress.bad_bytes,
        "LastCheckpoint": progress.last_checkpoint_us,
        "Digest": value.digest,
        "SourceStable": value.source_stable,
        "Verification": verification(value.verification),
        "Error": _error(value.error),
    }


def verification(value: Verification | None) -> dict[str, Variant]:
    """The property Verification of org.p2vd1.Job."""
    if value is None:
        return {}
    return {
        "State": Variant("s", value.state.value),
        "Seen": Variant("s", value.seen),
        "Against": Variant("s", value.against),
        "BytesTotal": Variant("t", value.bytes_total),
        "BytesRead": Variant("t", value.bytes_read),
        "Differing": Variant("a(tt)", value.differing),
        "DifferingBytes": Variant("t", value.differing_bytes),
        "Since": Variant("as", value.since),
        "StartTime": Variant("t", value.started_us),
        "EndTime": Variant("t", value.ended_us),
        "StartedByUID": Variant("u", value.started_by),
        "Error": Variant("s", value.error),
    }


def plan_page(plan: Plan) -> dict[str, Variant]:
    """What Manager.Plan returns beside the id; what is said of a disk is the first one's, `Disks` has all."""
    return {
        "Id": Variant("s", plan.id),
        "MachineName": Variant("s", plan.machine_name),
        "Record": Variant("s", plan.passport),
        **_disk_plan(plan.disks[0]),
        "Disks": Variant("aa{sv}", tuple(_disk_plan(disk) for disk in plan.disks)),
        "Hypervisor": Variant("s", plan.domain.uri),
        "Firmware": Variant("s", plan.domain.firmware.value),
        "Memory": Variant("t", plan.domain.memory_bytes),
        "Cpus": Variant("u", plan.domain.vcpus),
        "Cutover": Variant("s", plan.cutover.value),
        **_estimate(plan.estimate),
        "PoolFills": Variant("aa{sv}", tuple(map(pool_fill, plan.fills))),
        "Steps": Variant("as", plan.steps),
        "Warnings": Variant("as", plan.warnings),
        "DomainChoices": Variant(
            "a(sss)", tuple((one.key, one.value, one.why) for one in plan.domain_choices)
        ),
    }


def cutover_choice(choice: CutoverChoice) -> dict[str, Variant]:
    """What Machine.PlanCutover returns."""
    options = choice.options
    return {
        "Policy": Variant("s", choice.policy),
        "Kept": Variant("b", choice.kept),
        "Hypervisor": Variant("s", options.uri),
        "Conversion": Variant("s", options.conversion.value),
        "Start": Variant("b", choice.start),
        "Firmware": Variant("s", options.firmware.value),
        "Memory": Variant("t", choice.memory_bytes),
        "Cpus": Variant("u", choice.vcpus),
        "DomainChoices": Variant("a(sss)", tuple((one.key, one.value, one.why) for one in choice.choices)),
        "Warnings": Variant("as", choice.warnings),
    }


def _disk_plan(disk: DiskPlan) -> dict[str, Variant]:
    return {
        "SourceId": Variant("s", disk.source.id),
        "SourceSize": Variant("t", disk.source.size_bytes),
        "SourceSectorSize": Variant("u", disk.source.sector_size),
        "Transport": Variant("s", disk.source.transport.value),
        "SourceFormat": Variant("s", disk.source.format.value),
        "Target": Variant("s", disk.target.path),
        "TargetKind": Variant("s", disk.target.kind.value),
        **_target(disk.target),
        "TargetSize": Variant("t", disk.target.size_bytes),
        "WorstCaseBytes": Variant("t", disk.worst_case_bytes),
        **expected(disk.expected),
        "Policy": Variant("s", disk.policy),
        "PolicyFile": Variant("s", disk.policy_file),
        "Verify": Variant("s", disk.copy.verify.value),
        "Bandwidth": Variant("t", disk.copy.bandwidth_bytes_per_s),
        "SourceOffline": Variant("b", disk.source_offline),
        **_estimate(disk.estimate),
    }


def _estimate(estimate: Estimate) -> dict[str, Variant]:
    return {
        "EstimatedSeconds": Variant("t", estimate.seconds),
        "EstimatedRate": Variant("t", estimate.bytes_per_s),
        "Estimate": Variant("s", estimate.text),
    }


def _target(target: Target) -> dict[str, Variant]:
    """What only targets of that kind have."""
    match target:
        case LvTarget():
            return {
                "VolumeGroup": Variant("s", target.vg_name),
                "VolumeGroupUuid": Variant("s", target.vg_uuid),
                "LogicalVolume": Variant("s", target.lv_name),
                "Provisioning": Variant("s", target.provisioning.value),
                "Pool": Variant("s", target.pool_name),
            }
        case LunTarget():
            return {"TargetWwid": Variant("s", target.wwid)}
        case FileTarget():
            return {"TargetFormat": Variant("s", target.format.value)}


def fraction_done(value: Job) -> float:
    """How much of the work is done, 0 to 1; reading back is work too, and only `proven` is all of it."""
    if value.stage is Stage.PROVEN:
        return 1.0
    done, total = _work_bytes(value)
    return min(done / total, 0.9999) if total else 0.0


def _work_bytes(value: Job) -> tuple[int, int]:
    size = value.plan.source.size_bytes
    done = min(value.progress.bytes_copied + value.progress.bytes_zero, size)
    if value.plan.copy.verify is Verify.NONE:
        return done, size
    return done + min(value.progress.bytes_verified, size), 2 * size


def _expected_end_us(value: Job, now_us: int) -> int:
    done, total = _work_bytes(value)
    rate = value.progress.rate_bytes_per_s
    if rate <= 0 or value.stage not in (Stage.COPYING, Stage.VERIFYING):
        return 0
    end_us = now_us + (total - done) * _SECOND_US // rate
    return end_us - end_us % _SECOND_US


def _error(error: JobError | None) -> tuple[str, str]:
    return (error.name, error.message) if error else ("", "")
