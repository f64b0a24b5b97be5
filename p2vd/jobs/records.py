"""What happened, for whoever asks later: the audit and the receipts."""

import json
from dataclasses import dataclass
from pathlib import Path

from p2vd.jobs.audit_trail import AuditTrail
from p2vd.jobs.board import Board
from p2vd.model.errors import NotFound
from p2vd.model.receipt import ReceiptNote
from p2vd.model.report import Report
from p2vd.records.receipts import ReceiptDamaged, find_receipts, read_receipt
from p2vd.records.report import build_report
from p2vd.records.verifications import read_verifications
from p2vd.system.clock import now_us


@dataclass(frozen=True)
class Records:
    """`jobs`: where each job has a directory, with its receipt."""

    audit: AuditTrail
    jobs: Path
    board: Board

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

    def report(self, since_us: int) -> Report:
        """What happened since then, also to jobs that left the bus."""
        jobs = self.board.jobs()
        ended = [job.uuid for job in jobs if job.finished and job.end_time_us >= since_us]
        damaged = {uuid: problem for uuid in ended if (problem := self._damage(uuid))}
        machines = {machine.uuid: machine for machine in self.board.machines()}
        return build_report(jobs, machines, damaged, since_us, now_us())

    def _damage(self, job_uuid: str) -> str:
        """What is wrong with a job's receipt; "" where nothing is."""
        try:
            self.receipt(job_uuid)
        except ReceiptDamaged as error:
            return error.problem
        except NotFound:
            return "it is gone"
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return ""
