"""Records in memory: what the fake engine says happened."""

import json
from dataclasses import dataclass, field
from typing import Any

from p2vd.model.audit import (
    AuditEvent,
    AuditPage,
    AuditQuestion,
    AuditVerdict,
    Kind,
    Request,
    Subject,
)
from p2vd.model.errors import NotFound, P2vdError, StillLooking
from p2vd.model.receipt import ReceiptNote
from p2vd.model.report import Outcome, Report, ReportLine
from p2vd.records.audit import AuditUnwritable
from p2vd.records.chain import Link, seal
from p2vd.records.receipts import ReceiptDamaged


@dataclass
class FakeAudit:
    """Satisfies AuditPort: a chain without a file. `told`: what came, in words that a test compares."""

    lines: list[str] = field(default_factory=list)
    told: list[list[Any]] = field(default_factory=list)
    findings: tuple[str, ...] = ()
    full: bool = False
    looks_left: int = 0
    _last: Link = field(default_factory=Link)

    def append(self, event: AuditEvent) -> Link:
        line, self._last = seal(event, self._last, 1_700_000_000_000_000 + 1_000_000 * len(self.lines))
        self.lines.append(line)
        return self._last

    def asked(self, request: Request) -> AuditEvent:
        if self.full:
            raise AuditUnwritable("/var/lib/p2vd/audit/audit.jsonl", "No space left on device")
        who = request.who
        self.told.append(["asked", request.verb, dict(request.arguments), who.uid, who.pid])
        link = self.append(AuditEvent(Kind.ASKED, request.verb, who, request.arguments))
        return AuditEvent(Kind.ENDED, request.verb, asked=link.number)

    def ended(self, asked: AuditEvent, subject: Subject, error: P2vdError | None) -> None:
        outcome = error.name if error else "answered"
        self.told.append(["ended", asked.verb, outcome, subject.plan, subject.machine])
        self.append(AuditEvent(Kind.ENDED, asked.verb, asked=asked.asked, outcome=outcome))

    def denied(self, request: Request, action: str, reason: str) -> None:
        self.told.append(["denied", request.verb, action, request.who.uid])

    def problem(self) -> str:
        return "The audit is full." if self.full else ""

    def search(self, question: AuditQuestion) -> AuditPage:
        self.told.append(["search", question.wwid, question.machine, question.since_us])
        rest = self.lines[question.after :]
        page = tuple(rest[: question.limit])
        return AuditPage(page, question.after + len(page) if len(page) < len(rest) else 0)

    def verify(self) -> AuditVerdict:
        if self.looks_left:
            self.looks_left -= 1
            raise StillLooking("all of the audit")
        last, count = self._last, len(self.lines)
        return AuditVerdict(
            count, min(count, 1), last.number, last.hash, self.findings, "The journal says 1."
        )


class FakeRecords:
    """Satisfies RecordsPort."""

    def __init__(self) -> None:
        self.audit = FakeAudit()
        self.receipts: dict[str, tuple[ReceiptNote, str]] = {}
        self.verified: dict[str, list[str]] = {}

    def receipt(self, job_uuid: str) -> str:
        if job_uuid not in self.receipts:
            raise NotFound("receipt of a job", job_uuid)
        note, text = self.receipts[job_uuid]
        if note.problem:
            raise ReceiptDamaged(f"/var/lib/p2vd/jobs/{job_uuid}/receipt.json", note.problem)
        return text

    def find_receipts(self, text: str) -> tuple[ReceiptNote, ...]:
        notes = [note for note, _ in self.receipts.values()]
        return tuple(
            note
            for note in notes
            if note.job.startswith(text) or note.source.startswith(text) or note.machine_name == text
        )

    def verifications(self, job_uuid: str) -> tuple[str, ...]:
        self.receipt(job_uuid)
        return tuple(self.verified.get(job_uuid, ()))

    def report(self, since_us: int) -> Report:
        line = ReportLine(
            *("7c9e6679", "erp1", "3600", "vg_san/erp1", Outcome.FAILED, "failed"),
            *(4096, 1024, 512, since_us, since_us + 1_000_000),
            *("SourceChanged: it is another disk.", "Mend the cause, then: p2vctl retry 7c9e6679", 1234),
        )
        return Report(since_us, since_us + 2_000_000, (line,), 0, 0)

    def put(self, receipt: dict[str, Any], problem: str = "") -> None:
        source, name = receipt["source"]["id"], receipt["machine"]["name"]
        note = ReceiptNote(receipt["job"], source, name, receipt["end_time_us"], problem)
        self.receipts[receipt["job"]] = (note, json.dumps(receipt))
