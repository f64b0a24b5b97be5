"""What is seen of source and target while a worker copies, and before its copy counts as proven."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.copying.opening import OpenError, OpenReply
from p2vd.copying.protocol import Stop, decode
from p2vd.copying.terms import Report
from p2vd.jobs import copy_step
from p2vd.jobs.board import Board
from p2vd.jobs.control import PathReplaced, TargetChanged, TargetInUse
from p2vd.jobs.copy_step import _conclude, _Copy
from p2vd.jobs.job_target import JobLun
from p2vd.jobs.path_watch import PathWatch
from p2vd.jobs.services import Services
from p2vd.jobs.session import OpenFailed, WorkerSession
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import Store, StoreUnwritable
from p2vd.jobs.target_watch import GLANCE_S, GLANCES
from p2vd.jobs.transitions import JobEvent
from p2vd.model.codec import to_dict
from p2vd.model.copying import Progress, Verify
from p2vd.model.inventory import Inventory
from p2vd.model.job import Hold, Job, JobError, Stage
from p2vd.model.plan import LunTarget
from p2vd.model.size import GIB
from p2vd.system.descriptors import SeqpacketChannel
from tests.fakes import FakeCommands
from tests.jobs.fake_asker import FakeChild
from tests.jobs.test_path_watch import await_end
from tests.jobs.test_store_unwritable import unwritable
from tests.jobs.values import WWID, machine_and_job, scsi_path, source

OTHER = "36001405ffffffffffffffffffffffffff"
TARGET_WWID = "36001405eeeeeeeeeeeeeeeeeeeeeeeeee"
TARGET = replace(
    source(),
    id=TARGET_WWID,
    wwid=TARGET_WWID,
    device="dm-1",
    name="mpathb",
    dm_uuid=f"mpath-{TARGET_WWID}",
    paths=(scsi_path("sdy"), scsi_path("sdz")),
)
LUN = LunTarget(TARGET_WWID, TARGET_WWID, "mpathb", GIB, 512, "/dev/disk/by-id/x")


class Copy:
    """A copy of one LUN to another that has its worker; `says` is what the helper answers at the end."""

    def __init__(self, root: Path) -> None:
        machine, job = machine_and_job()
        plan = replace(job.plan, target=LUN)
        self.board = Board(Store(root / "state.db"))
        self.board.add(machine, (replace(job, plan=plan, stage=Stage.VERIFYING),))
        self.commands = FakeCommands().on("/lib/udev/scsi_id", WWID).on("sg_turs", "")
        for path in TARGET.paths:
            self.commands.on(f"/lib/udev/scsi_id -g -u -d /dev/{path.device}", TARGET_WWID)
        self.opens(1)
        self.commands.on("dmsetup table", "0 2097152 multipath\n")
        self.seen = Inventory((source(), TARGET))
        self.says = OpenReply(ok=True)
        self.helpers: list[SeqpacketChannel] = []
        look = SimpleNamespace(
            current=lambda: self.seen,
            scanned_once=lambda: self.seen,
            fresh=lambda names: self.seen if names else pytest.fail("all of the host is looked at"),
        )
        parts = SimpleNamespace(
            board=self.board,
            inventory=look,
            commands=self.commands,
            sysfs=root / "sys",
            spawn=self.spawn,
            job_directory=lambda job: root / "jobs" / job.uuid,
            quarantine=SimpleNamespace(add_source=lambda _: None),
            pools=SimpleNamespace(forget=lambda _: None),
            directories=SimpleNamespace(forget=lambda _: None),
        )
        self.services = cast(Services, parts)
        ours, self.worker = SeqpacketChannel.pair()
        self.session = WorkerSession(FakeChild(), ours)
        paths = PathWatch(self.commands, (source(), TARGET), (), -1e9)
        self.attempt = _Copy(self.job, source(), JobLun(TARGET, LUN), "", paths)

    def copies(self, stage: Stage = Stage.COPYING, verify: Verify = Verify.READ_BACK) -> None:
        """Have the job in that stage, and its copy read again as `verify` says."""

        def changed(job: Job) -> Job:
            plan = replace(job.plan, copy=replace(job.plan.copy, verify=verify))
            return replace(job, stage=stage, plan=plan)

        self.attempt.job = self.board.change(self.job.uuid, changed)

    def opens(self, count: int) -> None:
        self.commands.replace("dmsetup info", f"{TARGET.dm_uuid}:{count}:Active:Writeable:mpathb\n")

    @property
    def job(self) -> Job:
        (job,) = self.board.jobs()
        return job

    def spawn(self, argv: Sequence[str], channel_fd: int) -> FakeChild:
        assert "p2vd.copying.opener" in argv
        self.helpers.append(SeqpacketChannel.from_fd(os.dup(channel_fd)))
        self.helpers[-1].send(to_dict(self.says))
        return FakeChild()

    def look(self) -> None:
        """Look at the source's and target's paths, and again when those have answered."""
        copy_step._watch_source(self.services, self.attempt, self.session)
        await_end("ask-")
        copy_step._watch_source(self.services, self.attempt, self.session)

    def told_to_stop(self) -> int:
        """How often its worker was told to stop."""
        self.session.close()
        told = iter(self.worker.receive, None)
        return sum(isinstance(decode(packet[0]), Stop) for packet in told if packet)

    def conclude(self) -> None:
        self.attempt.report = Report(0, Progress(), digest="xxh3:1", source_stable="proven")
        _conclude(self.services, Signals(), self.attempt, 0)

    def begin(self) -> None:
        """Take the copy up again."""
        copy_step._begin(self.services, Signals(), self.job, source(), JobLun(TARGET, LUN))


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    copy = Copy(tmp_path)
    yield copy
    copy.session.close()
    for channel in (copy.worker, *copy.helpers):
        channel.close()


def elsewhere(copy: Copy, device: str) -> None:
    copy.commands.replace(f"/lib/udev/scsi_id -g -u -d /dev/{device}", OTHER)


@pytest.mark.parametrize(("device", "wwid"), [("sdb", WWID), ("sdz", TARGET_WWID)])
def test_a_path_that_leads_elsewhere_ends_the_copy_for_good(copy: Copy, device: str, wwid: str) -> None:
    """Of the source it read another disk, of the target it wrote to one."""
    elsewhere(copy, device)
    copy.look()
    with pytest.raises(PathReplaced, match=f"/dev/{device}, a path of {wwid}, leads to {OTHER} by now"):
        copy.conclude()
    mistrust = copy.job.mistrust
    assert mistrust is not None
    assert mistrust.name == "IdentityChanged"
    assert copy.told_to_stop() == 1
    # Neither a retry nor a restart goes on with what was copied, whatever the path leads to by then.
    copy_step.copy(copy.services, Signals(), copy.job)
    assert copy.job.stage is Stage.FAILED
    assert copy.job.error == mistrust


ANOTHERS = OpenError("IdentityChanged", "A path is another's. Nothing was written.")
NOT_ITS_OWN = OpenReply(ok=False, error=ANOTHERS)


@pytest.mark.parametrize("device", ["sdb", "sdz"])
def test_one_that_is_found_when_the_copy_is_taken_up_again_ends_it_for_good(copy: Copy, device: str) -> None:
    """The attempt before may have used it."""
    copy.board.change(copy.job.uuid, lambda job: replace(job, checkpoint_begun=True))
    copy.says = NOT_ITS_OWN
    elsewhere(copy, device)
    with pytest.raises(PathReplaced, match=f"/dev/{device}"):
        copy.begin()
    assert copy.job.mistrust is not None


def test_one_that_is_found_before_anything_was_written_does_not(copy: Copy) -> None:
    copy.says = NOT_ITS_OWN
    elsewhere(copy, "sdb")
    with pytest.raises(OpenFailed, match="Nothing was written"):
        copy.begin()
    assert copy.job.mistrust is None


def test_what_the_helper_alone_has_seen_is_passed_on(copy: Copy) -> None:
    """A disk of another size under the same WWID: no path leads elsewhere."""
    copy.board.change(copy.job.uuid, lambda job: replace(job, checkpoint_begun=True))
    copy.says = NOT_ITS_OWN
    with pytest.raises(OpenFailed):
        copy.begin()
    assert copy.job.mistrust is None


def expect_failed_for_good(copy: Copy, store: Path) -> None:
    """With a job store that was not writable meanwhile: nothing is begun before that is durable."""
    with unwritable(copy.board._store):
        assert copy.job.mistrust is not None
        with pytest.raises(StoreUnwritable):
            copy_step.copy(copy.services, Signals(), copy.job)
    copy_step.copy(copy.services, Signals(), copy.job)
    (job,) = Store(store).jobs()
    assert job.stage is Stage.FAILED
    assert job.mistrust == job.error
    assert job.error is not None


def test_what_leads_elsewhere_is_not_forgotten_where_it_cannot_be_stored(copy: Copy, tmp_path: Path) -> None:
    elsewhere(copy, "sdb")
    with unwritable(copy.board._store):
        copy.look()
        with pytest.raises(PathReplaced):
            copy.conclude()
    assert copy.told_to_stop() == 1
    expect_failed_for_good(copy, tmp_path / "state.db")


def test_nor_is_what_is_found_at_the_end(copy: Copy, tmp_path: Path) -> None:
    copy.opens(0)
    elsewhere(copy, "sdz")
    with unwritable(copy.board._store), pytest.raises(TargetChanged):
        copy.conclude()
    expect_failed_for_good(copy, tmp_path / "state.db")


def test_nor_where_the_worker_does_not_listen(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*_: object) -> None:
        raise TimeoutError("no message could pass within 10 s")

    monkeypatch.setattr(copy.session, "send", deaf)
    elsewhere(copy, "sdb")
    with pytest.raises(TimeoutError):
        copy.look()
    assert copy.job.mistrust is not None


def test_a_worker_is_not_left_alone_where_the_state_disk_is_full(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would copy on, and nobody would watch source and target."""
    copy.board.change(copy.job.uuid, lambda job: replace(job, holds=frozenset({Hold.SOURCE_ABSENT})))
    monkeypatch.setattr(copy_step, "_begin", lambda *_: (copy.attempt, copy.session))
    with unwritable(copy.board._store), pytest.raises(StoreUnwritable):
        copy_step.copy(copy.services, Signals(), copy.job)
    assert copy.worker.peer_is_gone()


def test_paths_that_lead_where_they_did_are_left_in_peace(copy: Copy) -> None:
    copy.look()
    asked = {argv[-1] for argv in copy.commands.queries if "scsi_id" in argv[0]}
    assert asked == {"/dev/sda", "/dev/sdb", "/dev/sdy", "/dev/sdz"}
    copy_step._watch_target(copy.services, copy.attempt, copy.session)
    assert copy.told_to_stop() == 0
    assert copy.job.mistrust is None


def test_a_short_look_of_others_at_the_target_ends_no_copy(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.copies()
    now = [0.0]
    monkeypatch.setattr(copy_step, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def watch(opens: int, times: int) -> None:
        for _ in range(times):
            copy.opens(opens)
            copy_step._watch_target(copy.services, copy.attempt, copy.session)
            now[0] += GLANCE_S

    for _ in range(2):  # who comes back later is given his time anew
        watch(2, GLANCES)
        watch(1, 1)
    assert not copy.attempt.stopping
    watch(2, GLANCES + 1)
    assert copy.attempt.stopping
    with pytest.raises(TargetInUse):
        copy.conclude()
    assert copy.told_to_stop() == 1


def expect_ended_by_who_is_seen(copy: Copy) -> None:
    assert copy.attempt.stopping
    with pytest.raises(TargetInUse):
        copy.conclude()
    assert copy.told_to_stop() == 1
    assert copy.job.read_back_anew  # a retry takes nothing of this attempt for proven
    assert copy.job.mistrust is None


@pytest.mark.parametrize(
    ("stage", "verify"), [(Stage.VERIFYING, Verify.READ_BACK), (Stage.COPYING, Verify.NONE)]
)
def test_nobody_may_have_it_open_where_no_read_back_follows(copy: Copy, stage: Stage, verify: Verify) -> None:
    """What he wrote behind the place that is read nothing would find."""
    copy.copies(stage, verify)
    copy.opens(2)
    copy_step._watch_target(copy.services, copy.attempt, copy.session)
    expect_ended_by_who_is_seen(copy)


def test_that_it_is_to_be_read_again_is_not_forgotten(copy: Copy, tmp_path: Path) -> None:
    copy.opens(2)
    with unwritable(copy.board._store):
        copy_step._watch_target(copy.services, copy.attempt, copy.session)
        expect_ended_by_who_is_seen(copy)
    copy.board.advance(copy.job.uuid, JobEvent.FAIL, JobError("TargetInUse", "Seen."))
    (job,) = Store(tmp_path / "state.db").jobs()
    assert (job.stage, job.read_back_anew) == (Stage.FAILED, True)


def test_who_has_it_open_at_the_end_has_it_read_again(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then the worker's checkpoint says that all is verified."""
    monkeypatch.setattr(copy_step, "PROBES_END_S", 0.0)
    with pytest.raises(TargetInUse):
        copy.conclude()
    assert copy.job.read_back_anew
    copy.opens(0)
    copy.conclude()
    assert (copy.job.stage, copy.job.read_back_anew) == (Stage.PROVEN, False)


@pytest.mark.parametrize("closes", [False, True])
def test_nor_when_it_begins(copy: Copy, *, closes: bool) -> None:
    copy.copies()
    copy.opens(2)
    copy_step._watch_target(copy.services, copy.attempt, copy.session)
    if closes:
        copy.opens(1)
        copy_step._watch_target(copy.services, copy.attempt, copy.session)
    copy_step._note_phase(copy.services, copy.attempt, copy.session, "verifying")
    assert copy.job.stage is Stage.VERIFYING
    if closes:
        assert not copy.attempt.stopping
    else:
        expect_ended_by_who_is_seen(copy)


def test_a_copy_counts_as_proven_when_all_that_is_asked_is_as_it_was(copy: Copy) -> None:
    copy.opens(0)
    copy.conclude()
    assert (copy.job.stage, copy.job.digest) == (Stage.PROVEN, "xxh3:1")


def test_a_source_that_is_another_at_the_end_is_not_proven(copy: Copy) -> None:
    copy.opens(0)
    copy.says = OpenReply(ok=False, error=OpenError("IdentityChanged", "/dev/sdb is another."))
    elsewhere(copy, "sdb")
    with pytest.raises(PathReplaced, match="/dev/sdb"):
        copy.conclude()
    assert copy.job.stage is Stage.VERIFYING
    assert copy.job.mistrust is not None


def test_what_else_refuses_the_source_at_the_end_is_passed_on(copy: Copy) -> None:
    copy.opens(0)
    copy.says = OpenReply(ok=False, error=OpenError("DeviceReserved", "A host has reserved it."))
    with pytest.raises(OpenFailed, match="A host has reserved it"):
        copy.conclude()
    assert copy.job.mistrust is None


def test_a_target_that_is_another_at_the_end_is_not_proven(copy: Copy) -> None:
    copy.opens(0)
    elsewhere(copy, "sdz")
    with pytest.raises(TargetChanged, match="its path sdz leads to"):
        copy.conclude()
    assert copy.job.stage is Stage.VERIFYING
    assert copy.job.mistrust is not None


def test_a_target_of_another_uuid_at_the_end_is_not_proven(copy: Copy) -> None:
    copy.commands.replace("dmsetup info", "mpath-another:0:Active:Writeable:mpathb\n")
    with pytest.raises(TargetChanged):
        copy.conclude()
    assert copy.job.stage is Stage.VERIFYING
