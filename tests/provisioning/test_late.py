"""A volume group with a change that does not end takes no new work (design: §4.8)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from p2vd.provisioning.errors import VgStalled
from p2vd.provisioning.late import LateChanges
from p2vd.provisioning.lvm import Volumes
from p2vd.system.command import ChangeUnknown, CommandFailed, CommandTimedOut
from tests.fakes import FakeCommands
from tests.provisioning.test_lvm import JOB, LV, OTHER, THICK, VG, with_lv

LONG_S = 60.0
FOREIGN = replace(VG, uuid="another", name="vg_other")


class Door(FakeCommands):
    """Its `lvcreate` is past its deadline at once, and goes on until `over`."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.over, self.begun = True, threading.Event(), threading.Event()
        self.on("lvcreate", self._create)

    def _create(self, _: tuple[str, ...]) -> str:
        self.begun.set()
        assert self.over.wait(LONG_S)
        return ""


@contextmanager
def stuck(door: Door, volumes: Volumes) -> Iterator[list[str]]:
    """While an lvcreate of another job does not end; yields what it told of that."""
    told: list[str] = []
    thread = threading.Thread(target=volumes.create, args=(OTHER, THICK, VG, told.append), daemon=True)
    thread.start()
    try:
        assert door.begun.wait(LONG_S)
        yield told
    finally:
        door.over.set()
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_while_a_change_does_not_end_its_volume_group_takes_no_other() -> None:
    door = Door()
    door.on("lvremove").on("lvchange")
    volumes = Volumes(door, lambda _: VG)
    with stuck(door, volumes) as told:
        assert told == [f"{OTHER}-create"]
        for begin in (
            lambda: volumes.create(JOB, replace(THICK, lv_name="web2"), VG),
            lambda: volumes.remove(LV, with_lv(LV), JOB),
            lambda: volumes.activate(LV, with_lv(LV), JOB),
            lambda: volumes.run(["lvcreate", "--snapshot"], LV, with_lv(LV), JOB, "undo-create"),
        ):
            with pytest.raises(VgStalled) as refused:
                begin()
            assert f"p2vd-change-{OTHER}-create.service does not end" in str(refused.value)
            assert "systemctl status" in str(refused.value)
        assert len(door.changes) == 1
        assert volumes.late.known(VG.uuid) == f"{OTHER}-create"
        assert volumes.late.known(FOREIGN.uuid) == ""
        volumes.late.refuse(FOREIGN)
    door.late = False
    volumes.remove(LV, with_lv(LV), JOB)
    assert [argv[0] for argv in door.changes] == ["lvcreate", "lvremove"]


def test_one_that_fails_in_the_end_is_over_too() -> None:
    commands = FakeCommands(late=True).on("lvcreate", CommandFailed(("lvcreate",), 5, "I/O error"))
    volumes = Volumes(commands, lambda _: VG)
    with pytest.raises(CommandFailed):
        volumes.create(JOB, THICK, VG)
    volumes.late.refuse(VG)


def test_one_that_nobody_awaits_any_more_counts_until_its_unit_is_gone() -> None:
    """systemd-run was killed, and its unit goes on."""
    commands = FakeCommands().on("lvcreate", ChangeUnknown(("lvcreate",), -9, ""))
    volumes = Volumes(commands, lambda _: VG)
    with pytest.raises(ChangeUnknown):
        volumes.create(JOB, THICK, VG)
    commands.running = frozenset({f"{JOB}-create"})
    with pytest.raises(VgStalled, match=f"{JOB}-create"):
        volumes.late.refuse(VG)
    commands.running = frozenset()
    volumes.late.refuse(VG)


def test_what_an_earlier_daemon_began_counts_until_it_has_ended() -> None:
    asked: list[None] = []
    running = {"old-create", "portal-login"}

    def units() -> frozenset[str]:
        asked.append(None)
        return frozenset(running)

    late = LateChanges(units, lambda unit: VG.uuid if unit == "old-create" else "")
    assert late.known(VG.uuid) == ""
    with pytest.raises(VgStalled, match=r"p2vd-change-old-create\.service"):
        late.refuse(VG)
    late.refuse(FOREIGN)
    assert late.known(VG.uuid) == "old-create"
    running.discard("old-create")
    late.refuse(VG)
    assert len(asked) == 3
    late.refuse(VG)
    assert len(asked) == 3


def test_who_only_tells_or_wants_to_know_does_not_wait_for_systemctl() -> None:
    asked, answers, told = threading.Event(), threading.Event(), threading.Event()

    def units() -> frozenset[str]:
        asked.set()
        assert answers.wait(LONG_S)
        return frozenset({"old-create"})

    late = LateChanges(units, lambda unit: VG.uuid)
    refused: list[VgStalled] = []

    def change() -> None:
        try:
            late.refuse(VG)
        except VgStalled as error:
            refused.append(error)

    def tell() -> None:
        late.add(FOREIGN.uuid, "new-create")
        assert late.known(FOREIGN.uuid) == "new-create"
        late.end("new-create")
        late.leave(FOREIGN.uuid, "new-remove")
        told.set()

    threads = [threading.Thread(target=act, daemon=True) for act in (change, tell)]
    threads[0].start()
    try:
        assert asked.wait(LONG_S)
        threads[1].start()
        assert told.wait(LONG_S), "systemctl is waited for"
    finally:
        answers.set()
        threads[0].join(LONG_S)
    assert len(refused) == 1
    assert late.known(VG.uuid) == "old-create"
    assert late.known(FOREIGN.uuid) == "new-remove", "it was left after systemctl was asked"


def test_what_was_left_before_anything_was_asked_hides_nothing() -> None:
    late = LateChanges(lambda: frozenset({"old-create", "left-create"}), lambda unit: VG.uuid)
    late.leave(FOREIGN.uuid, "left-create")
    with pytest.raises(VgStalled, match="old-create"):
        late.refuse(VG)
    assert late.known(FOREIGN.uuid) == "left-create"


@pytest.mark.parametrize(
    "error", [CommandFailed(("systemctl",), 1, "no bus"), CommandTimedOut(("systemctl",), 30.0)]
)
def test_what_an_earlier_daemon_began_is_not_guessed(error: Exception) -> None:
    answers: list[Exception] = [error]

    def units() -> frozenset[str]:
        if answers:
            raise answers.pop()
        return frozenset()

    late = LateChanges(units)
    with pytest.raises(VgStalled, match="is not known"):
        late.refuse(VG)
    late.refuse(VG)
