"""What the methods do that ask for the audit and for receipts."""

from collections.abc import Callable, Mapping

from p2vd.bus.call import Answer, Call
from p2vd.bus.names import JOB, MANAGER
from p2vd.bus.port import EnginePort
from p2vd.bus.wire import Variant
from p2vd.model.audit import AuditQuestion
from p2vd.model.errors import InvalidArgument
from p2vd.model.report import Report, ReportLine

MAX_ENTRIES = 1000


def records_methods(engine: EnginePort) -> Mapping[tuple[str, str], Callable[[Call], Answer]]:
    """Return the methods of the Manager and of jobs that read what happened."""
    records = engine.records

    def get_audit(call: Call) -> Answer:
        page = records.audit.search(_question(call.options))
        return Answer((page.lines, page.next))

    def verify_audit(_: Call) -> Answer:
        verdict = records.audit.verify()
        told = {
            "Entries": Variant("t", verdict.entries),
            "First": Variant("t", verdict.first),
            "Last": Variant("t", verdict.last),
            "LastHash": Variant("s", verdict.last_hash),
            "Findings": Variant("as", verdict.findings),
            "Journal": Variant("s", verdict.journal),
        }
        return Answer((told,))

    def find_receipts(call: Call) -> Answer:
        (text,) = call.arguments
        found = [
            {
                "Job": Variant("s", note.job),
                "SourceId": Variant("s", note.source),
                "MachineName": Variant("s", note.machine_name),
                "EndTime": Variant("t", note.end_time_us),
                "Problem": Variant("s", note.problem),
            }
            for note in records.find_receipts(str(text))
        ]
        return Answer((found,))

    def get_report(call: Call) -> Answer:
        (since,) = call.arguments
        return Answer((_report(records.report(since if isinstance(since, int) else 0)),))

    return {
        (MANAGER, "GetReport"): get_report,
        (MANAGER, "GetAudit"): get_audit,
        (MANAGER, "VerifyAudit"): verify_audit,
        (MANAGER, "FindReceipts"): find_receipts,
        (MANAGER, "GetReceipt"): lambda call: Answer((records.receipt(str(call.arguments[0])),)),
        (JOB, "GetReceipt"): lambda call: Answer((records.receipt(call.object_id),)),
    }


def _report(report: Report) -> dict[str, Variant]:
    return {
        "Since": Variant("t", report.since_us),
        "Until": Variant("t", report.until_us),
        "Bytes": Variant("t", report.bytes_done),
        "Rate": Variant("t", report.rate_bytes_per_s),
        "Jobs": Variant("aa{sv}", tuple(_line(line) for line in report.lines)),
    }


def _line(line: ReportLine) -> dict[str, Variant]:
    return {
        "Job": Variant("s", line.job),
        "Machine": Variant("s", line.machine),
        "SourceId": Variant("s", line.source),
        "Target": Variant("s", line.target),
        "Outcome": Variant("s", line.outcome.value),
        "Stage": Variant("s", line.stage),
        "Size": Variant("t", line.size_bytes),
        "Copied": Variant("t", line.copied_bytes),
        "Rate": Variant("t", line.rate_bytes_per_s),
        "StartTime": Variant("t", line.start_time_us),
        "EndTime": Variant("t", line.end_time_us),
        "Cause": Variant("s", line.cause),
        "Advice": Variant("s", line.advice),
        "Uid": Variant("u", line.uid),
    }


def _question(options: Mapping[str, object]) -> AuditQuestion:
    limit = _number(options, "limit", 200)
    if not 1 <= limit <= MAX_ENTRIES:
        raise InvalidArgument("option limit", f"a page has 1 to {MAX_ENTRIES} entries.")
    return AuditQuestion(
        wwid=str(options.get("wwid", "")),
        machine=str(options.get("machine", "")),
        since_us=_number(options, "since"),
        after=_number(options, "after"),
        limit=limit,
    )


def _number(options: Mapping[str, object], name: str, default: int = 0) -> int:
    value = options.get(name, default)
    return value if isinstance(value, int) else default
