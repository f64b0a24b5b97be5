"""What the daemon knows of disks' contents: looked at in the background, anew for a plan, never a job's."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.contents_keeper import FRESH_S, ContentsKeeper
from p2vd.jobs.examiner_helper import ExaminerHelper
from p2vd.model.contents import BootStyle, Contents, Examination, Table
from p2vd.model.disk import PathState, ScsiPath, Source, Transport
from p2vd.model.inventory import Inventory
from tests.fakes import StoppedClock
from tests.jobs.fake_disks import BIOS, LONG_S, Disks, FakeHelper
from tests.jobs.threads import no_more

UEFI = Contents(Table.GPT, BootStyle.UEFI, 512)


def source(name: str = "a", **changes: Any) -> Source:
    path = ScsiPath(f"sd{name}", "1:0:0:0", f"3{name}", PathState.READY, 1 << 30)
    plain = Source(
        f"3{name}",
        f"3{name}",
        "dm-1",
        f"mpath{name}",
        f"mpath-3{name}",
        1 << 30,
        512,
        Transport.ISCSI,
        paths=(path,),
    )
    return replace(plain, **changes)


class Kept:
    """A keeper with its disks; `wait` waits for what it says."""

    def __init__(self) -> None:
        self.disks = Disks()
        self.disks.gate.set()
        self.clock = StoppedClock()
        self.told = threading.Semaphore(0)
        self.keeper = ContentsKeeper(self.disks.start, lambda _: self.told.release(), self.clock)

    def now(self, one: Source) -> Source:
        return self.keeper.attach(Inventory((one,))).sources[0]

    def until(self, one: Source, *examinations: Examination) -> Source:
        while (seen := self.now(one)).examination not in examinations:
            assert self.told.acquire(timeout=LONG_S), f"still {seen.examination}"
        return seen


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.keeper.stop()
    kept.disks.gate.set()


def test_a_new_source_is_looked_at_once(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    seen = kept.until(source(), Examination.DONE)
    assert seen.contents == BIOS
    kept.keeper.want([source()], ())
    assert kept.disks.asked == ["/dev/mapper/mpatha"]


def test_without_a_thread_it_is_looked_at_later_and_not_never(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with no_more(monkeypatch):
        for _ in range(4):
            kept.keeper.want([source()], ())
    assert kept.now(source()).examination is Examination.UNDER_WAY
    kept.keeper.want([source()], ())
    assert kept.until(source(), Examination.DONE).contents == BIOS


def test_until_then_it_is_under_way(kept: Kept) -> None:
    kept.disks.gate.clear()
    kept.keeper.want([source()], ())
    assert kept.now(source()).examination is Examination.UNDER_WAY
    assert kept.now(source()).contents is None


def test_what_nobody_wanted_is_not_looked_at(kept: Kept) -> None:
    assert kept.now(source()) == source()
    assert kept.disks.asked == []


@pytest.mark.parametrize("change", [{"size_bytes": 2 << 30}, {"sector_size": 4096}, {"device": "dm-2"}])
def test_a_changed_source_is_looked_at_again(kept: Kept, change: dict[str, Any]) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.disks.answers["/dev/mapper/mpatha"] = ExamineReply(UEFI)
    kept.keeper.want([source(**change)], ())
    assert kept.until(source(**change), Examination.DONE).contents == UEFI


def test_a_path_that_comes_or_goes_makes_it_no_other_disk(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.keeper.want([source(paths=())], ())
    assert kept.now(source(paths=())).contents == BIOS
    assert len(kept.disks.asked) == 1


def test_what_went_away_is_forgotten(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.keeper.want([], ())
    assert kept.now(source()).contents is None
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    assert len(kept.disks.asked) == 2


def test_many_disks_need_few_helpers_and_those_end(kept: Kept) -> None:
    many = [source(name) for name in "abcdefgh"]
    kept.keeper.want(many, ())
    for one in many:
        kept.until(one, Examination.DONE)
    kept.keeper.stop()
    assert len(kept.disks.asked) == len(many)
    assert 1 <= len(kept.disks.helpers) <= 2


# ---- jobs -----------------------------------------------------------------------------------------


def test_a_jobs_source_is_let_go_and_its_contents_stay_known(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.keeper.release(source().id)
    kept.keeper.want([], {source().id})
    assert kept.now(source()).contents == BIOS
    assert len(kept.disks.asked) == 1


def test_a_look_under_way_at_a_jobs_source_is_ended(kept: Kept) -> None:
    kept.disks.gate.clear()
    kept.keeper.want([source()], ())
    assert kept.disks.began.acquire(timeout=LONG_S)
    kept.keeper.release(source().id)
    assert kept.disks.helpers[0].killed.wait(LONG_S)
    assert kept.now(source()).examination is Examination.NO


def test_after_the_job_it_is_looked_at_again(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.keeper.release(source().id)
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    assert len(kept.disks.asked) == 2


def test_a_plan_right_after_the_job_does_not_take_the_look_that_was_ended(kept: Kept) -> None:
    kept.disks.gate.clear()
    kept.keeper.want([source()], ())
    assert kept.disks.began.acquire(timeout=LONG_S)
    kept.keeper.release(source().id)
    kept.keeper.refresh(source(), 0.0)
    assert kept.now(source()).examination is Examination.UNDER_WAY
    kept.disks.gate.set()
    assert kept.until(source(), Examination.DONE).contents == BIOS


# ---- for a plan -----------------------------------------------------------------------------------


def test_a_plan_has_it_read_anew(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.disks.answers["/dev/mapper/mpatha"] = ExamineReply(UEFI)
    kept.keeper.refresh(source(), LONG_S)
    assert kept.now(source()).contents == UEFI


def test_a_plan_of_a_source_that_was_not_looked_at(kept: Kept) -> None:
    kept.keeper.refresh(source(), LONG_S)
    assert kept.now(source()).contents == BIOS


def test_a_look_that_a_plan_could_not_wait_for_serves_its_next_try(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.disks.gate.clear()
    kept.disks.answers["/dev/mapper/mpatha"] = ExamineReply(UEFI)
    assert not kept.keeper.refresh(source(), 0.0)
    seen = kept.now(source())
    assert (seen.examination, seen.contents) == (Examination.UNDER_WAY, BIOS)
    kept.disks.gate.set()
    assert kept.until(source(), Examination.DONE).contents == UEFI
    kept.disks.gate.clear()
    assert kept.keeper.refresh(source(), 0.0)
    assert len(kept.disks.asked) == 2
    assert not kept.keeper.refresh(source(), 0.0)


def test_what_nobody_fetched_for_a_minute_is_looked_at_again(kept: Kept) -> None:
    kept.disks.gate.clear()
    assert not kept.keeper.refresh(source(), 0.0)
    kept.disks.gate.set()
    kept.until(source(), Examination.DONE)
    kept.clock.now_s += FRESH_S + 1
    assert kept.keeper.refresh(source(), LONG_S)
    assert len(kept.disks.asked) == 2


@pytest.mark.parametrize(("age_s", "enough"), [(59, True), (61, False)])
def test_where_a_minute_is_young_enough_it_is_not_looked_at_again(
    kept: Kept, age_s: float, enough: bool
) -> None:
    kept.keeper.refresh(source(), LONG_S)
    kept.disks.gate.clear()
    kept.clock.now_s += age_s
    assert kept.keeper.refresh(source(), 0.0, FRESH_S) is enough


def test_what_was_seen_in_the_background_is_not_enough_for_a_plan(kept: Kept) -> None:
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    kept.disks.gate.clear()
    assert not kept.keeper.refresh(source(), 0.0)


# ---- what goes wrong ------------------------------------------------------------------------------


def test_a_disk_that_cannot_be_read(kept: Kept) -> None:
    kept.disks.answers["/dev/mapper/mpatha"] = ExamineReply(problem="it cannot be read: Input/output error")
    kept.keeper.want([source()], ())
    seen = kept.until(source(), Examination.FAILED)
    assert seen.examination_problem == "it cannot be read: Input/output error"


@pytest.mark.parametrize("error", [EOFError(), ValueError("not a valid ExamineReply")])
def test_a_helper_that_fails_is_replaced(kept: Kept, error: Exception) -> None:
    kept.disks.answers["/dev/mapper/mpatha"] = error
    kept.keeper.want([source()], ())
    assert kept.until(source(), Examination.FAILED).examination_problem
    kept.keeper.want([source(), source("b")], ())
    assert kept.until(source("b"), Examination.DONE).contents == BIOS
    assert kept.disks.helpers[0].closed


def test_a_helper_killed_after_its_answer_looks_at_no_other_disk(kept: Kept) -> None:
    """Of the other disk it would be said that it cannot be read, and a plan would go on without."""
    held, go_on = threading.Event(), threading.Event()

    class Late(FakeHelper):
        def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
            if self.killed.is_set():
                raise EOFError
            if request.devnode == "/dev/mapper/mpathc":  # the other thread is busy: the first goes on with b
                held.set()
                assert go_on.wait(LONG_S)
            reply = super().examine(request, keep_waiting)
            if request.devnode == "/dev/mapper/mpatha":
                keeper.want([source("b"), source("c")], ())
            return reply

    keeper = kept.keeper = ContentsKeeper(lambda: Late(kept.disks), lambda _: kept.told.release(), kept.clock)
    keeper.want([source("c")], ())
    assert held.wait(LONG_S)
    keeper.want([source("a"), source("c")], ())
    assert kept.until(source("b"), Examination.DONE, Examination.FAILED).contents == BIOS
    go_on.set()


def test_a_helper_that_cannot_be_started(kept: Kept) -> None:
    kept.disks.broken = True
    kept.keeper.want([source()], ())
    assert "Cannot allocate memory" in kept.until(source(), Examination.FAILED).examination_problem


def test_a_disk_that_hangs_is_silent_and_the_others_are_looked_at(kept: Kept) -> None:
    kept.disks.hang.add("/dev/mapper/mpatha")
    kept.keeper.want([source("a"), source("b")], ())
    assert "no answer in 60 s" in kept.until(source("a"), Examination.SILENT).examination_problem
    kept.until(source("b"), Examination.DONE)


def test_no_second_helper_hangs_beside_the_first(kept: Kept) -> None:
    kept.disks.hang.add("/dev/mapper/mpatha")
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.SILENT)
    kept.keeper.refresh(source(), LONG_S)
    seen = kept.now(source())
    assert seen.examination is Examination.SILENT
    assert "still hangs" in seen.examination_problem
    assert len(kept.disks.asked) == 1


def test_when_that_has_ended_it_is_looked_at_again(kept: Kept) -> None:
    kept.disks.hang.add("/dev/mapper/mpatha")
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.SILENT)
    kept.disks.hang.clear()
    kept.disks.helpers[0].alive = False
    kept.keeper.refresh(source(), LONG_S)
    assert kept.now(source()).contents == BIOS


def test_a_rescan_looks_again_at_what_gave_no_answer_and_at_nothing_else(kept: Kept) -> None:
    lost = ExamineReply(problem="it was lost.", examination=Examination.SILENT)
    kept.disks.answers |= {"/dev/mapper/mpatha": lost, "/dev/mapper/mpathb": ExamineReply(problem="EIO")}
    names = ("a", "b", "c")
    kept.keeper.want([source(name) for name in names], ())
    for name in names:
        kept.until(source(name), Examination.SILENT, Examination.FAILED, Examination.DONE)
    kept.keeper.release(source("b").id)
    kept.disks.answers.clear()
    kept.keeper.retry()
    assert kept.until(source("a"), Examination.DONE).contents == BIOS
    assert kept.now(source("b")).examination is Examination.FAILED
    assert sorted(kept.disks.asked) == [f"/dev/mapper/mpath{name}" for name in ("a", "a", "b", "c")]


def test_stop_ends_what_is_under_way(kept: Kept) -> None:
    kept.disks.gate.clear()
    kept.keeper.want([source()], ())
    assert kept.disks.began.acquire(timeout=LONG_S)
    kept.keeper.stop()
    assert kept.disks.helpers[0].killed.wait(LONG_S)


def test_an_inventory_is_put_together_only_when_something_is_new(kept: Kept) -> None:
    inventory = Inventory((source(),))
    first = kept.keeper.attach(inventory)
    assert kept.keeper.attach(inventory) is first
    kept.keeper.want([source()], ())
    kept.until(source(), Examination.DONE)
    assert kept.keeper.attach(inventory) is not first


def test_only_scsi_paths_are_asked_for_reservations(kept: Kept) -> None:
    requests: list[ExamineRequest] = []

    class Noting(FakeHelper):
        def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
            requests.append(request)
            return super().examine(request, keep_waiting)

    keeper = ContentsKeeper(lambda: Noting(kept.disks), lambda _: kept.told.release(), kept.clock)
    nvme = replace(source("b").paths[0], device="nvme0n1")
    keeper.refresh(source(), LONG_S)
    keeper.refresh(source("b", paths=(nvme,)), LONG_S)
    keeper.stop()
    assert [request.scsi_paths for request in requests] == [("sda",), ()]
    assert requests[0] == ExamineRequest("/dev/mapper/mpatha", 1 << 30, 512, "mpath-3a", ("sda",))


# ---- the real helper ------------------------------------------------------------------------------


def test_one_real_helper_looks_at_several_images(tmp_path: Path) -> None:
    helper = ExaminerHelper()
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
        request = ExamineRequest(str(tmp_path / name), 1 << 20, 512)
        reply = helper.examine(request, lambda waited_s: waited_s < LONG_S)
        assert reply.contents is not None
        assert reply.contents.blank
    helper.close()


def test_a_real_helper_that_is_killed_says_so() -> None:
    helper = ExaminerHelper()
    helper.kill()
    with pytest.raises(EOFError):
        helper.examine(ExamineRequest("/dev/null", 0, 512), lambda waited_s: waited_s < LONG_S)
    helper.close()
