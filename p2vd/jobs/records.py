"""What happened, for whoever asks later: the audit and the receipts."""

import json
from dataclasses import dataclass
from pathlib import Path

from p2vd.jobs.audit_trail import AuditTrail
from p2vd.model.receipt import ReceiptNote
from p2vd.records.receipts import find_receipts, read_receipt
from p2vd.records.verifications import read_verifications


@dataclass(frozen=True)
class Records:
    """`jobs`: where each job has a directory, with its receipt."""

    audit: AuditTrail
    jobs: Path

    def receipt(self, job_uuid: str) -> str:
        """The receipt of a job as JSON. Raises NotFound, ReceiptDamaged."""
        return read_receipt(self.jobs, job_uuid)

    def verifications(self, job_uuid: str) -> tuple[str, ...]:
        """The records of later verifications of a job, oldest first, as JSON. Raises as `receipt`."""
        self.receipt(job_uuid)  # which also knows what is no job's name
        return tuple(map(json.dumps, read_verifications(self.jobs / job_uuid)))

    def find_receipts(self, text: str) -> tuple[ReceiptNote, ...]:
        """The receipts that `text` names: a job's UUID or a WWID, or its beginning; a machine; "" for all."""
        return find_receipts(self.jobs, text)
