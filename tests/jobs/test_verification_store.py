"""A verification whose store takes nothing: its disk is full."""

import sqlite3
import threading
from collections.abc import Callable

import pytest

from p2vd.jobs.verification import Verifications
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Job
from p2vd.model.verification import VerifyState
from tests.jobs.proven_machine import JOB, MACHINE
from tests.jobs.test_verification import LONG_S, WHO, Lab, lab

__all__ = ["lab"]  # a fixture


def test_one_that_cannot_be_begun_may_be_asked_for_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the store is full: nothing is noted, and nothing left as running."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(lab.services.store, "change_job", full)
        with pytest.raises(sqlite3.OperationalError):
            lab.verifications.start(JOB.uuid, WHO)
    assert lab.verifications.shown(lab.board.job(JOB.uuid)).verification is None
    assert lab.verify().state is VerifyState.UNCHANGED


def test_a_machine_that_is_taken_while_one_is_being_noted_is_not_verified(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it has ended the verification, and found no thread of it to wait for."""
    change = lab.services.store.change_job

    def taken_now(uuid: str, step: Callable[[Job], Job]) -> Job:
        job = change(uuid, step)
        lab.verifications.end(MACHINE.uuid)
        return job

    with monkeypatch.context() as patch:
        patch.setattr(lab.services.store, "change_job", taken_now)
        with pytest.raises(IllegalTransition, match="wanted otherwise"):
            lab.verifications.start(JOB.uuid, WHO)
    assert lab.verifications.shown(lab.board.job(JOB.uuid)).verification is None
    assert lab.asked == []
    assert lab.verify().state is VerifyState.UNCHANGED


def test_one_whose_end_cannot_be_stored_has_ended_all_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, change = threading.Event(), lab.services.store.change_job

    def full(uuid: str, step: Callable[[Job], Job]) -> Job:
        found = step(lab.services.store.job(uuid)).verification
        if found is not None and found.state is not VerifyState.RUNNING:
            ended.set()
            raise sqlite3.OperationalError("database or disk is full")
        return change(uuid, step)

    monkeypatch.setattr(lab.services.store, "change_job", full)
    lab.verifications.start(JOB.uuid, WHO)
    assert ended.wait(LONG_S)
    lab.verifications.end(JOB.uuid)
    shown = lab.verifications.shown(lab.board.job(JOB.uuid)).verification
    assert shown is not None
    assert shown.state is VerifyState.UNCHANGED
    monkeypatch.undo()
    Verifications(lab.services).recover()  # the next start
    assert lab.result() == shown
    assert lab.verify().state is VerifyState.UNCHANGED
