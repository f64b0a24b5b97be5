"""The fake engine's verifications: a test says how each ends."""

import json
from dataclasses import replace
from typing import Any, Protocol

from p2vd.jobs.events import Event, JobVerified
from p2vd.model.codec import to_dict
from p2vd.model.job import Caller, Job
from p2vd.model.verification import Verification, VerifyState
from tests.bus.fake_records import FakeRecords


class _Engine(Protocol):
    asked: list[list[object]]
    records: FakeRecords

    def job(self, uuid: str) -> Job: ...

    def _change(self, job: Job) -> None: ...

    def tell(self, event: Event) -> None: ...


class FakeVerifications:
    """What FakeEngine has of EnginePort about them, and what tests steer it by."""

    def verify(self: _Engine, job_uuid: str, caller: Caller) -> None:
        self.asked.append(["verify", job_uuid, caller.uid])
        begun = Verification(VerifyState.RUNNING, 1, bytes_total=self.job(job_uuid).plan.target.size_bytes)
        self._change(replace(self.job(job_uuid), verification=begun))

    def verification(self: _Engine, job_uuid: str) -> Verification | None:
        return self.job(job_uuid).verification

    def end_verification(self: _Engine, uuid: str, result: dict[str, Any]) -> None:
        ranges = tuple((start, length) for start, length in result.get("differing", ()))
        values = {**result, "state": VerifyState(result["state"]), "differing": ranges}
        ended = Verification(started_us=1, ended_us=2, **values)
        self._change(replace(self.job(uuid), verification=ended))
        self.records.verified.setdefault(uuid, []).append(json.dumps(to_dict(ended)))
        self.tell(JobVerified(uuid))
