"""What happened, for whoever asks later: the audit and the receipts."""

from dataclasses import dataclass
from pathlib import Path

from p2vd.jobs.audit_trail import AuditTrail
from p2vd.model.receipt import ReceiptNote
from p2vd.records.receipts import find_receipts, read_receipt


@dataclass(frozen=True)
class Records:
    """`jobs`: where each job has a directory, with its receipt."""

    audit: AuditTrail
    jobs: Path

    def receipt(self, job_uuid: str) -> str:
        """The receipt of a job as JSON. Raises NotFound, ReceiptDamaged."""
        return read_receipt(self.jobs, job_uuid)

    def find_receipts(self, text: str) -> tuple[ReceiptNote, ...]:
        """The receipts that `text` names: a job's UUID or a WWID, or its beginning; a machine; "" for all."""
        return find_receipts(self.jobs, text)
