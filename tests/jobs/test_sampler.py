"""Samples of sources by helpers: asked for again until they are there, given once, let go of for a job."""

import threading
from collections.abc import Callable, Iterator

import pytest

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.contents_keeper import ContentsKeeper
from p2vd.jobs.sampler import DEADLINE_S, KEPT_S, Sampler
from p2vd.model.errors import StillLooking
from p2vd.model.fill import ZeroSample
from p2vd.model.size import KIB
from tests.fakes import StoppedClock
from tests.jobs.fake_disks import LONG_S, Disks, FakeHelper
from tests.jobs.test_contents_keeper import source

BLOCK = 64 * KIB
BLOCKS = (1 << 30) // BLOCK
SAMPLE = ZeroSample(BLOCK, BLOCKS, 0, 1000, 250)
NODE = "/dev/mapper/mpatha"


class SamplingHelper(FakeHelper):
    """Answers with SAMPLE unless it was told otherwise; one that hangs does until the deadline."""

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        assert (request.sample_blocks, request.block_bytes, request.scsi_paths) == (1000, BLOCK, ())
        if request.devnode in self.disks.hang:
            self.disks.asked.append(request.devnode)
            assert keep_waiting(DEADLINE_S - 1)
            assert not keep_waiting(DEADLINE_S)
            raise TimeoutError
        reply = super().examine(request, keep_waiting)
        return reply if reply.contents is None else ExamineReply(sample=SAMPLE)


class HeardClock(StoppedClock):
    """Tells that somebody asked it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)

    def monotonic(self) -> float:
        now_s = super().monotonic()
        self.asked.release()  # who hears of it may let time pass at once
        return now_s


class Lab:
    def __init__(self) -> None:
        self.disks = Disks()
        self.disks.gate.set()
        self.clock = HeardClock()
        self.sampler = Sampler(self.start, self.clock)

    def start(self) -> SamplingHelper:
        helper = SamplingHelper(self.disks)
        self.disks.helpers.append(helper)
        return helper

    def take(self, *names: str, timeout_s: float = LONG_S) -> tuple[ZeroSample | str, ...]:
        return self.sampler.take([(source(name), BLOCK) for name in names or ("a",)], timeout_s)


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.sampler.stop()
    lab.disks.gate.set()


def test_each_source_in_order_and_every_helper_ends(lab: Lab) -> None:
    lab.disks.answers["/dev/mapper/mpathb"] = ExamineReply(problem="it cannot be read: Input/output error")
    assert lab.take("a", "b") == (SAMPLE, "it cannot be read: Input/output error")
    assert len(lab.disks.helpers) == 2
    assert all(helper.closed for helper in lab.disks.helpers)


def test_who_does_not_wait_is_told_so_and_has_it_when_asking_again(lab: Lab) -> None:
    lab.disks.gate.clear()
    with pytest.raises(StillLooking, match=r"blocks of 3a \(mpatha\).*Ask again"):
        lab.take(timeout_s=0.0)
    lab.disks.gate.set()
    assert lab.take() == (SAMPLE,)
    assert len(lab.disks.asked) == 1


def test_a_sample_is_given_once(lab: Lab) -> None:
    lab.take()
    lab.take()
    assert len(lab.disks.asked) == 2


def test_one_that_nobody_fetched_grows_old(lab: Lab) -> None:
    lab.disks.gate.clear()
    with pytest.raises(StillLooking):
        lab.take(timeout_s=0.0)
    lab.disks.gate.set()
    assert lab.clock.asked.acquire(timeout=LONG_S)  # when it ended
    lab.clock.now_s += KEPT_S + 1
    assert lab.take() == (SAMPLE,)
    assert len(lab.disks.asked) == 2


def test_other_chunks_or_another_disk_are_another_sample(lab: Lab) -> None:
    lab.disks.gate.clear()
    with pytest.raises(StillLooking):
        lab.take(timeout_s=0.0)
    assert lab.disks.began.acquire(timeout=LONG_S)
    with pytest.raises(StillLooking):
        lab.sampler.take([(source(size_bytes=2 << 30), BLOCK)], 0.0)
    assert lab.disks.helpers[0].killed.is_set()


def test_a_job_gets_its_source_at_once_and_who_waits_is_told(lab: Lab) -> None:
    lab.disks.gate.clear()
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.extend(lab.take()), daemon=True)
    waiter.start()
    assert lab.disks.began.acquire(timeout=LONG_S)
    lab.sampler.release("3a")
    assert lab.disks.helpers[0].killed.is_set()
    waiter.join(LONG_S)
    assert found == ["a job has it now, or it is gone."]


@pytest.mark.parametrize("stop", [False, True])
def test_the_keeper_of_contents_lets_go_of_samples_too(lab: Lab, stop: bool) -> None:
    lab.disks.gate.clear()
    keeper = ContentsKeeper(lab.start, lambda _: None, lab.clock)
    with pytest.raises(StillLooking):
        keeper.samples.take([(source(), BLOCK)], 0.0)
    assert lab.disks.began.acquire(timeout=LONG_S)
    if stop:
        keeper.stop()
    else:
        keeper.release("3a")
    assert lab.disks.helpers[0].killed.is_set()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EOFError(), "the helper that looks at it ended."),
        (ValueError("with_data: not a number"), "with_data: not a number"),
        (ExamineReply(sample=ZeroSample(BLOCK, 5, 0, 5, 1)), "it cannot be: blocks is 5"),
        (ExamineReply(problem="", sample=None), "the helper gave no sample."),
    ],
)
def test_a_helper_that_fails_or_talks_nonsense(lab: Lab, error: ExamineReply | Exception, said: str) -> None:
    lab.disks.answers[NODE] = error
    (found,) = lab.take()
    assert isinstance(found, str)
    assert said.removeprefix("it ") in found
    assert lab.disks.helpers[0].closed


def test_a_helper_that_cannot_be_started(lab: Lab) -> None:
    lab.disks.broken = True
    (found,) = lab.take()
    assert "Cannot allocate memory" in str(found)


def test_a_disk_that_hangs_is_said_to_and_gets_no_second_helper_until_the_first_has_ended(lab: Lab) -> None:
    lab.disks.hang.add(NODE)
    assert lab.take() == ("no answer in 45 s.",)
    assert lab.take() == ("an earlier look at it still hangs in the kernel.",)
    assert lab.take() == ("an earlier look at it still hangs in the kernel.",)
    assert len(lab.disks.asked) == 1
    lab.disks.hang.clear()
    lab.disks.helpers[0].alive = False
    assert lab.take() == (SAMPLE,)


def test_after_the_end_nothing_is_begun(lab: Lab) -> None:
    lab.sampler.stop()
    with pytest.raises(StillLooking):
        lab.take(timeout_s=0.0)
    assert lab.disks.helpers == []
