"""The morning after: which jobs are in the report, what needs somebody, and how fast it went."""

from dataclasses import replace

from p2vd.model.copying import Progress
from p2vd.model.job import Caller, Hold, Job, JobError, Machine, MachineState, Stage
from p2vd.model.report import Outcome, Report
from p2vd.records.report import build_report
from tests.records.test_receipt import JOB

S = 1_000_000
SINCE, NOW = 1000 * S, 2000 * S
SIZE = JOB.plan.source.size_bytes


def job(uuid: str, stage: Stage, start_s: int, end_s: int = 0, *holds: Hold, **changes: object) -> Job:
    times = {"start_time_us": start_s * S, "end_time_us": end_s * S}
    plain = replace(JOB, uuid=uuid, stage=stage, holds=frozenset(holds), started_by=Caller(1234))
    return replace(plain, **times, **changes)  # type: ignore[arg-type]


def report(*jobs: Job, machine: Machine | None = None, damaged: str = "") -> Report:
    known = {JOB.machine_uuid: machine} if machine else {}
    return build_report(jobs, known, {"a": damaged} if damaged else {}, SINCE, NOW)


def test_what_needs_somebody_comes_first() -> None:
    told = report(
        job("done", Stage.PROVEN, 1000, 1500),
        job("queued", Stage.PLANNED, 1000, 0, Hold.SLOT),
        job("paused", Stage.COPYING, 1000, 0, Hold.USER, Hold.SLOT),
        job("failed", Stage.FAILED, 1000, 1400, error=JobError("SourceChanged", "It is another disk.")),
        job("gone", Stage.CANCELLED, 1000, 1100),
    )
    assert [(line.job, line.outcome) for line in told.lines] == [
        ("failed", Outcome.FAILED),
        ("paused", Outcome.HELD),
        ("queued", Outcome.RUNNING),
        ("done", Outcome.DONE),
        ("gone", Outcome.CANCELLED),
    ]
    assert told.lines[0].cause == "SourceChanged: It is another disk."
    assert told.lines[0].advice == "Mend the cause, then: p2vctl retry failed"
    assert told.lines[1].advice == "p2vctl resume paused"
    assert {line.uid for line in told.lines} == {1234}


def test_what_ended_before_is_not_in_it_but_what_still_needs_somebody_is() -> None:
    told = report(
        job("old", Stage.PROVEN, 1, 999),
        job("dropped", Stage.CANCELLED, 1, 999),
        job("failed", Stage.FAILED, 1, 999),
        job("removed", Stage.PROVEN, 1, 1200, removed_us=1300 * S),
    )
    assert {line.job for line in told.lines} == {"failed", "removed"}


def test_rates_are_by_the_time_in_which_jobs_were_under_way() -> None:
    moved = Progress(bytes_copied=SIZE // 2, bytes_zero=SIZE // 2)
    told = report(
        job("a", Stage.PROVEN, 1000, 1100, progress=moved), job("b", Stage.PROVEN, 1050, 1200, progress=moved)
    )
    assert told.bytes_done == 2 * SIZE
    assert told.rate_bytes_per_s == 2 * SIZE // 200
    assert [line.rate_bytes_per_s for line in told.lines] == [SIZE // 100, SIZE // 150]


def test_nothing_happened() -> None:
    assert report() == Report(SINCE, NOW, ())


def test_a_proven_disk_tells_what_its_machine_waits_for_and_a_receipt_that_is_damaged() -> None:
    done = job("a", Stage.PROVEN, 1000, 1100)
    ready = Machine(JOB.machine_uuid, "erp1", MachineState.READY)
    assert report(done, machine=ready).lines[0].advice == "It waits for its cutover: p2vctl cutover erp1"
    failed = replace(ready, error=JobError("DomainImpossible", "No such CPU."))
    assert report(done, machine=failed).lines[0].cause == "DomainImpossible: No such CPU."
    late = replace(
        failed, state=MachineState.REGISTERED, error=JobError("LibvirtFailed", "It did not start.")
    )
    line = report(done, machine=late).lines[0]
    assert (line.cause, line.advice) == ("LibvirtFailed: It did not start.", "See it: p2vctl show erp1")
    torn = report(done, machine=ready, damaged="it is torn").lines[0]
    assert torn.cause == "Its receipt cannot be trusted: it is torn."
