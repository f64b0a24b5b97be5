"""What is recorded of verbs and of jobs, when the disk takes it and when it does not."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.config import AuditOptions
from p2vd.jobs.audit_trail import AuditTrail
from p2vd.jobs.board import Board
from p2vd.jobs.store import Store
from p2vd.jobs.transitions import JobEvent, MachineEvent
from p2vd.model.audit import About, AuditQuestion, Request, Subject
from p2vd.model.copying import Progress
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Caller, JobError
from p2vd.records.audit import AuditUnreadable, AuditUnwritable
from tests.jobs.fake_disks import LONG_S
from tests.jobs.record_desk import FakeJournal
from tests.jobs.values import WWID, machine_and_job, plan

MACHINE, JOB = machine_and_job()
WHO = Caller(1000, ":1.7", 4711)


class Desk:
    """A store with a machine of one job, its board, and the trail that listens to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "audit"
        self.store = Store(directory / "state.db")
        self.journal = FakeJournal()
        self.start()

    def start(self) -> None:
        """A daemon's life begins."""
        self.board = Board(self.store)
        self.trail = AuditTrail(
            self.store, self.directory, AuditOptions(), lambda pid: f"{pid}.scope", self.journal
        )
        self.board.subscribe(self.trail.hear)

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        lines = self.trail.search(AuditQuestion(limit=1000)).lines
        return [entry for entry in map(json.loads, lines) if not kinds or entry["kind"] in kinds]

    def outcomes(self, *kinds: str) -> list[str]:
        return [entry["outcome"] for entry in self.entries(*kinds)]

    def fill(self) -> None:
        """Make the audit unwritable, as a full disk does."""
        self.trail._file.close()
        self.hidden = self.directory.rename(self.directory.with_name("hidden"))
        self.directory.write_text("in the way")

    def make_room(self) -> None:
        self.trail._file.close()
        self.directory.unlink()
        self.hidden.rename(self.directory)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.store.close()


def pause(desk: Desk) -> Request:
    return Request("Job.Pause", WHO, Subject(job=JOB.uuid))


def wait_for_threads(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(LONG_S)


def test_a_verb_is_recorded_before_and_after_it_acts(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    asked = desk.trail.asked(pause(desk))
    (before,) = desk.entries("asked")
    desk.trail.ended(asked, Subject(), None)
    (after,) = desk.entries("ended")
    assert before["who"] == {"uid": 1000, "bus_name": ":1.7", "pid": 4711, "unit": "4711.scope"}
    assert (after["asked"], after["outcome"], after["verb"]) == (before["number"], "answered", "Job.Pause")
    for entry in (before, after):
        assert (entry["job"], entry["wwid"], entry["machine_name"]) == ([JOB.uuid], [WWID], "erp1")
        assert entry["plan"] == JOB.plan.id


def test_an_error_is_recorded_by_its_name_and_sentence(desk: Desk) -> None:
    error = IllegalTransition("Job 1", "proven", "pause")
    desk.trail.ended(desk.trail.asked(pause(desk)), Subject(), error)
    (entry,) = desk.entries("ended")
    assert (entry["outcome"], entry["text"]) == ("IllegalTransition", str(error))


def test_what_is_not_known_is_recorded_as_it_was_asked(desk: Desk) -> None:
    desk.trail.asked(Request("Job.Pause", WHO, Subject(job="none")))
    desk.trail.asked(Request("Manager.Plan", WHO, Subject(sources=("3600",)), {"name": "x"}))
    first, second = desk.entries()
    assert first["job"] == ["none"]
    assert (second["wwid"], second["arguments"]) == (["3600"], {"name": "x"})


def test_what_a_verb_made_is_in_the_entry_of_its_end(desk: Desk) -> None:
    desk.store.put_plan(plan())
    asked = desk.trail.asked(Request("Manager.Migrate", WHO, Subject(plan=JOB.plan.id)))
    desk.board.add(MACHINE, (JOB,))
    desk.trail.ended(asked, Subject(machine=MACHINE.uuid), None)
    before, after = desk.entries("asked", "ended")
    assert (before["wwid"], before["machine_name"], "machine" in before) == ([WWID], "erp1", False)
    assert (after["machine"], after["job"], after["plan"]) == (MACHINE.uuid, [JOB.uuid], JOB.plan.id)


def test_each_transition_is_recorded_and_progress_is_not(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    desk.board.advance_machine(MACHINE.uuid, MachineEvent.START)
    for event in (JobEvent.START, JobEvent.PROVISIONED):
        desk.board.advance(JOB.uuid, event)
    for done in range(5):
        desk.board.progress(JOB.uuid, Progress(bytes_copied=done))
    desk.board.advance(JOB.uuid, JobEvent.FAIL, JobError("WriteFailed", "The array said no."))
    assert desk.outcomes("job") == ["planned", "provisioning", "copying", "failed"]
    assert desk.outcomes("machine") == ["planned", "copying"]
    assert desk.entries("job")[-1]["text"] == "WriteFailed: The array said no."
    assert desk.trail.verify().findings == ()


def test_what_a_crash_kept_from_being_recorded_is_at_the_next_start(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    desk.store.change_job(JOB.uuid, lambda job: replace(job, lv_uuid="x"))
    stored = Board(desk.store)  # nobody listens: the power cut came between the two
    stored.advance(JOB.uuid, JobEvent.START)
    for _ in range(2):
        desk.start()
        desk.trail.start("1.0")
        wait_for_threads("audit-start")
    assert desk.outcomes("job") == ["planned", "provisioning"]
    assert [entry["text"] for entry in desk.entries("daemon")] == ["p2vd 1.0", "p2vd 1.0"]


def test_nothing_is_begun_that_cannot_be_recorded(desk: Desk) -> None:
    desk.trail.asked(pause(desk))
    desk.fill()
    with pytest.raises(AuditUnwritable, match="cannot be written"):
        desk.trail.asked(pause(desk))
    assert "cannot be written" in desk.trail.problem()
    desk.make_room()
    desk.trail.asked(pause(desk))
    assert desk.trail.problem() == ""
    assert len(desk.entries("asked")) == 2


def test_what_happens_by_itself_meanwhile_is_recorded_later_and_in_order(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    asked = desk.trail.asked(pause(desk))
    desk.fill()
    desk.trail.ended(asked, Subject(), None)
    desk.board.advance(JOB.uuid, JobEvent.START)
    desk.board.advance(JOB.uuid, JobEvent.PROVISIONED)
    with pytest.raises(AuditUnwritable):
        desk.trail.asked(pause(desk))
    desk.make_room()
    desk.trail.asked(pause(desk))
    late = desk.entries()[3:]
    assert [entry.get("outcome", entry["kind"]) for entry in late] == [
        "answered",
        "provisioning",
        "copying",
        "asked",
    ]
    assert all("happened_us" in entry["arguments"] for entry in late[:3])
    assert desk.trail.verify().findings == ()


def test_what_p2vd_does_by_itself_is_not_begun_unrecorded_and_its_end_is_owed(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    told = About(wwids=(WWID,), machine_name="erp1")
    desk.trail.note_pool(JOB, "vg_san/pool0", "begun", "Extends it.")
    desk.fill()
    with pytest.raises(AuditUnwritable):
        desk.trail.note_pool(JOB, "vg_san/pool0", "begun", "Extends it.")
    with pytest.raises(AuditUnwritable):
        desk.trail.note_auto(told, "starting", "Starts it.")
    desk.trail.note_pool(JOB, "vg_san/pool0", "extended", "Extended it.")
    desk.trail.note_auto(told, "refused", "It is in use.")
    desk.make_room()
    desk.trail.asked(pause(desk))
    assert desk.outcomes("pool", "auto") == ["begun", "extended", "refused"]


def test_the_journal_has_the_fields_and_the_hash(desk: Desk) -> None:
    desk.board.add(MACHINE, (JOB,))
    desk.trail.asked(pause(desk))
    message, _, fields = desk.journal.entries[-1]
    (entry,) = desk.entries("asked")
    assert message.startswith(f"audit {entry['number']}: uid 1000 (4711.scope) asks for Job.Pause of")
    assert fields["P2VD_AUDIT_HASH"] == [entry["hash"]]
    assert (fields["P2VD_JOB"], fields["P2VD_WWID"]) == ([JOB.uuid], [WWID])
    assert (fields["P2VD_MACHINE"], fields["P2VD_UID"]) == ([MACHINE.uuid], ["1000"])


def test_a_journal_that_takes_nothing_stops_nothing(desk: Desk) -> None:
    desk.journal.broken = True
    desk.trail.asked(pause(desk))
    verdict = desk.trail.verify()
    assert (verdict.entries, verdict.findings) == (1, ())
    assert verdict.journal.startswith("The journal cannot be read:")


def test_an_end_that_was_cut_off_shows_by_the_journal(desk: Desk) -> None:
    for _ in range(3):
        desk.trail.asked(pause(desk))
    desk.trail._file.close()
    path = desk.directory / "audit.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    assert "The end is missing" in desk.trail.verify().findings[0]


def test_refused_calls_are_recorded_and_counted(desk: Desk) -> None:
    for _ in range(5):
        desk.trail.denied(pause(desk), "org.p2vd1.manage-jobs", "no.")
    desk.trail.stop()
    denied = desk.entries("denied")
    assert sum(entry.get("times", 1) for entry in denied) == 5
    assert len(denied) <= 2
    assert denied[0]["outcome"] == "NotAuthorized"
    assert denied[0]["text"] == "org.p2vd1.manage-jobs: no."
    assert desk.outcomes("daemon") == ["stopped"]


def test_an_audit_that_cannot_be_read_is_named(desk: Desk) -> None:
    desk.directory.mkdir()
    (desk.directory / "audit.jsonl").mkdir()
    with pytest.raises(AuditUnreadable, match="Is a directory"):
        desk.trail.search(AuditQuestion())
