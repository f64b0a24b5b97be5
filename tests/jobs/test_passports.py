"""Records that are taken in: whole, once, and told of after they are kept."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.events import Event, PassportChanged
from p2vd.jobs.passports import PassportExists, Passports
from p2vd.jobs.store import Store
from p2vd.model.codec import to_json
from p2vd.model.contents import Examination
from p2vd.model.errors import InvalidArgument, NotFound, Refused, StillLooking
from p2vd.model.inventory import Inventory
from p2vd.model.passport_record import PassportInvalid
from tests.bus.values import PASSPORT
from tests.planning.builders import SOURCE, WWID, make_source

Make = Callable[..., Passports]


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def make(tmp_path: Path, told: list[Event]) -> Make:
    def made(inventory: Inventory | None = None) -> Passports:
        return Passports(Store(tmp_path / "state.db"), told.append, lambda: inventory or Inventory())

    return made


def record(text: str) -> int:
    fd = os.memfd_create("record")
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def test_a_record_is_kept_and_told_of(make: Make, told: list[Event]) -> None:
    passports = make()
    fd = record(to_json(PASSPORT))
    assert passports.take_in(fd) == PASSPORT
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert told == [PassportChanged("erp1")]
    assert make().all() == (PASSPORT,)
    assert make().get("erp1") == PASSPORT


def test_the_same_again_is_no_news(make: Make, told: list[Event]) -> None:
    passports = make()
    for _ in range(2):
        passports.take_in(record(to_json(PASSPORT)))
    assert len(told) == 1


def test_another_one_wants_to_be_asked_for(make: Make, told: list[Event]) -> None:
    passports = make()
    passports.take_in(record(to_json(PASSPORT)))
    other = replace(PASSPORT, memory_bytes=1 << 30)
    with pytest.raises(PassportExists, match="record of the machine erp1 already"):
        passports.take_in(record(to_json(other)))
    assert make().get("erp1") == PASSPORT
    assert passports.take_in(record(to_json(other)), replace=True) == other
    assert make().all() == (other,)
    assert passports.take_in(record(to_json(PASSPORT)), "erp2").name == "erp2"
    assert [passport.name for passport in make().all()] == ["erp1", "erp2"]


@pytest.mark.parametrize("text", ["", "name = 7", "{", '{"name": "x", "disks": [{"name": "a"}]}'])
def test_a_wrong_one_leaves_all_as_it_was(make: Make, told: list[Event], text: str) -> None:
    fd = record(text)
    with pytest.raises(PassportInvalid):
        make().take_in(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert (make().all(), told) == ((), [])


def test_a_removed_one_is_gone(make: Make, told: list[Event]) -> None:
    passports = make()
    with pytest.raises(NotFound):
        passports.remove("erp1")
    passports.take_in(record(to_json(PASSPORT)))
    passports.remove("erp1")
    assert make().all() == ()
    assert told == [PassportChanged("erp1")] * 2


def test_a_guess_waits_for_what_is_being_looked_at(make: Make) -> None:
    passports = make(Inventory((make_source(examination=Examination.UNDER_WAY),), paths={"sda": WWID}))
    with pytest.raises(StillLooking, match="mpatha"):
        passports.guess([WWID])
    with pytest.raises(Refused, match="one path of"):
        passports.guess(["sda"])


def test_a_guess_is_named_by_its_first_disk_or_as_asked(make: Make) -> None:
    passports = make(Inventory((SOURCE,)))
    assert passports.guess(["mpatha"]).passport.name == f"p2v-{WWID[-12:]}"
    assert passports.guess([WWID], "erp1").passport.name == "erp1"
    with pytest.raises(InvalidArgument, match="cannot name a machine"):
        passports.guess([WWID], "a b")
    with pytest.raises(InvalidArgument, match="named twice"):
        passports.guess([WWID, "mpatha"])
    assert passports.all() == ()
