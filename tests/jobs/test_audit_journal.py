"""The audit in the journal: its sentences, and the catalog that explains them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from p2vd.jobs.audit_journal import AuditJournal, sentence
from p2vd.model.audit import MESSAGE_IDS, About, AuditEvent, Kind
from p2vd.model.job import Caller
from p2vd.records.chain import Link
from tests.jobs.record_desk import FakeJournal

CATALOG = Path(__file__).parents[2] / "units/p2vd.catalog"
ABOUT = About(("j1",), ("36001405",), "m1", "erp1", "plan-1")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            AuditEvent(Kind.ASKED, "Job.Cancel", Caller(1000, ":1.7", 7, "session-3.scope"), about=ABOUT),
            "uid 1000 (session-3.scope) asks for Job.Cancel of machine erp1, job j1, disk 36001405",
        ),
        (AuditEvent(Kind.ASKED, "Manager.Reload", Caller(0)), "uid 0 asks for Manager.Reload"),
        (
            AuditEvent(Kind.DENIED, "Job.Pause", Caller(7), outcome="NotAuthorized", text="no.", times=3),
            "uid 7 may not do Job.Pause (3 times): no.",
        ),
        (
            AuditEvent(Kind.ENDED, "Job.Pause", asked=4, outcome="NotFound", text="There is none."),
            "Job.Pause (entry 4): NotFound: There is none.",
        ),
        (
            AuditEvent(Kind.JOB, about=ABOUT, outcome="proven"),
            "machine erp1, job j1, disk 36001405: proven",
        ),
        (AuditEvent(Kind.DAEMON, outcome="started", text="p2vd 1"), "p2vd started: p2vd 1"),
        (AuditEvent(Kind.FILE, outcome="torn", text="9 bytes."), "the audit's file: torn: 9 bytes."),
    ],
    ids=lambda value: value.kind.value if isinstance(value, AuditEvent) else None,
)
def test_an_entry_is_a_sentence(event: AuditEvent, text: str) -> None:
    assert sentence(event) == text


def test_the_place_in_the_chain_comes_back_from_the_journal() -> None:
    fake = FakeJournal()
    journal = AuditJournal(fake)
    assert journal.newest() is None
    journal.tell(AuditEvent(Kind.JOB, about=ABOUT, outcome="proven"), Link(3, "abc", 1))
    assert journal.newest() == Link(3, "abc")


def test_an_odd_entry_of_the_journal_is_none() -> None:
    fake = FakeJournal()
    fake.send("x", MESSAGE_IDS[Kind.JOB], {"P2VD_AUDIT_NUMBER": ["three"], "P2VD_AUDIT_HASH": ["abc"]})
    assert AuditJournal(fake).newest() is None


def test_the_catalog_explains_every_message_and_no_other() -> None:
    assert re.findall(r"^-- (\S+)$", CATALOG.read_text(), re.MULTILINE) == list(MESSAGE_IDS.values())


def test_the_catalog_uses_only_fields_that_are_sent() -> None:
    fake = FakeJournal()
    AuditJournal(fake).tell(AuditEvent(Kind.ASKED, who=Caller(1, unit="x")), Link(1, "a", 1))
    (_, _, fields) = fake.entries[0]
    assert set(re.findall(r"@(\w+)@", CATALOG.read_text())) <= fields.keys()


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="needs journalctl")
def test_systemd_takes_the_catalog(tmp_path: Path) -> None:
    catalog = tmp_path / "usr/lib/systemd/catalog"
    catalog.mkdir(parents=True)
    shutil.copy(CATALOG, catalog)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    argv = ["journalctl", f"--root={tmp_path}"]
    subprocess.run([*argv, "--update-catalog"], check=True)
    listed = subprocess.run([*argv, "--list-catalog"], check=True, capture_output=True, text=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == set(MESSAGE_IDS.values())
