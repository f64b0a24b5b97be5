"""The report over the receipts that lie in the state directory."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.records import Records
from p2vd.jobs.store import Store
from p2vd.model.job import Job, Stage
from p2vd.records.receipt import write_receipt
from tests.jobs.record_desk import no_records, put
from tests.jobs.values import machine_and_job, plan

SINCE_US = 1_000_000


class Desk:
    """Two proven jobs of one machine: one ended before the report begins, one after; both receipts edited."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "state.db")
        self.store.put_plan(plan())
        machine, job = machine_and_job()
        done = replace(job, stage=Stage.PROVEN, finished=True, start_time_us=1)
        self.old = replace(done, end_time_us=SINCE_US - 1)
        self.new = replace(done, uuid=job.uuid.replace("1", "4"), end_time_us=SINCE_US + 1)
        put(self.store, replace(machine, jobs=(self.old.uuid, self.new.uuid)), self.old, self.new)
        self.records = replace(no_records(directory, self.store), board=Board(self.store))
        self.receipts = {one.uuid: self._edited(one) for one in (self.old, self.new)}

    def _edited(self, job: Job) -> Path:
        path = write_receipt(job, self.records.jobs / job.uuid)
        path.write_text(path.read_text().replace("vg_san", "vg_nas"))
        return path


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def damage(records: Records) -> dict[str, str]:
    """What a report says of each job's receipt."""
    lines = records.report(SINCE_US).lines
    return {line.job: line.cause for line in lines}


def test_the_receipts_that_are_checked_are_of_the_jobs_that_are_told_of(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten thousand jobs of last year none is read."""
    read = []
    plain = Path.read_bytes

    def reading(path: Path) -> bytes:
        read.append(path)
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    told = "Its receipt cannot be trusted: its own checksum does not fit: it was edited."
    assert damage(desk.records) == {desk.new.uuid: told}
    assert read == [desk.receipts[desk.new.uuid]]


def test_one_that_is_gone_is_told_too(desk: Desk) -> None:
    desk.receipts[desk.new.uuid].unlink()
    assert damage(desk.records) == {desk.new.uuid: "Its receipt cannot be trusted: it is gone."}
