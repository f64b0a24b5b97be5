"""Later verifications as jobs see them: when one may be, what its result means, what is kept of it."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.opening import OpenError, OpenReply, OpenRequest
from p2vd.copying.terms import Failure
from p2vd.copying.verification import VerifyReport, VerifyStart, decode, encode
from p2vd.jobs.events import Event, JobVerified
from p2vd.jobs.verification import Verifications
from p2vd.jobs.write_count import write_count
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Caller, MachineState, Stage
from p2vd.model.size import GIB, MIB
from p2vd.model.verification import Verification, VerifyState, WriteCount
from p2vd.records.receipt import write_receipt
from p2vd.records.receipts import ReceiptDamaged, read_receipt
from p2vd.records.verifications import read_verifications
from p2vd.system.clock import boot_id
from p2vd.system.descriptors import SeqpacketChannel
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine

LONG_S = 60.0
WHO = Caller(7)
EQUAL = VerifyReport(GIB, equal=True, against="digests")
OTHER = VerifyReport(GIB, against="digests", differing=((3 * MIB, MIB),), differing_bytes=MIB)


class Child:
    """A thread in a process's stead."""

    pid = 1

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread
        thread.start()

    def poll(self) -> int | None:
        return None

    def wait(self, timeout_s: float | None = None) -> int:
        self._thread.join(timeout_s)
        return 0


class Lab(ProvenMachine):
    """A machine whose volume is opened and read by threads that say what a test wants."""

    def __init__(self, directory: Path, state: MachineState = MachineState.REGISTERED) -> None:
        super().__init__(directory, state)
        self.services = replace(self.services, spawn=self._spawn, sysfs=directory / "sys")
        self.commands.on("lvchange", self._lvchange)
        self.report: VerifyReport = EQUAL
        self.refusal: OpenError | None = None
        self.asked: list[OpenRequest] = []
        self.told: list[VerifyStart] = []
        self.waits = False
        self.reading = threading.Event()
        self.ended = threading.Semaphore(0)
        self.board.subscribe(self._hear)
        self.board.change(
            JOB.uuid, lambda job: replace(job, finished=True, digest="xxh3:1", source_stable="sampled")
        )
        self.directory = self.services.job_directory(JOB)
        self.receipt = write_receipt(self.board.job(JOB.uuid), self.directory)
        self.verifications = Verifications(self.services)

    def _lvchange(self, argv: tuple[str, ...]) -> str:
        self.lv = replace(self.lv, active=argv[argv.index("--activate") + 1] == "y")
        return ""

    def _hear(self, event: Event) -> None:
        if isinstance(event, JobVerified):
            self.ended.release()

    def _spawn(self, argv: Sequence[str], channel_fd: int) -> Child:
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        play = self._open if "p2vd.copying.opener" in argv else self._read
        return Child(threading.Thread(target=play, args=(channel,)))

    def _open(self, channel: SeqpacketChannel) -> None:
        with channel:
            packet = channel.receive(LONG_S)
            assert packet is not None
            self.asked.append(from_dict(OpenRequest, packet[0]))
            fds = [] if self.refusal else [os.open(os.devnull, os.O_RDONLY)]
            channel.send(to_dict(OpenReply(self.refusal is None, self.refusal)), fds)
            for fd in fds:
                os.close(fd)

    def _read(self, channel: SeqpacketChannel) -> None:
        with channel:
            packet = channel.receive(LONG_S)
            assert packet is not None
            start = decode(packet[0])
            assert isinstance(start, VerifyStart)
            assert self.lv.active
            self.told.append(start)
            self.reading.set()
            for fd in packet[1]:
                os.close(fd)
            if self.waits:
                assert channel.receive(LONG_S) is None
                return
            channel.send(encode(self.report))

    def verify(self) -> Verification:
        """Start one and wait for its end."""
        self.verifications.start(JOB.uuid, WHO)
        return self.result()

    def result(self) -> Verification:
        assert self.ended.acquire(timeout=LONG_S)
        found = self.board.job(JOB.uuid).verification
        assert found is not None
        return found

    def records(self) -> list[dict[str, Any]]:
        return list(read_verifications(self.directory))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.verifications.stop()
    lab.services.store.close()


def test_a_volume_that_is_what_the_receipt_says(lab: Lab) -> None:
    before = lab.receipt.read_bytes()
    found = lab.verify()
    assert (found.state, found.against, found.bytes_read) == (VerifyState.UNCHANGED, "digests", GIB)
    assert found.started_by == WHO.uid
    assert found.started_us <= found.ended_us
    assert "are identical" in found.seen
    assert lab.receipt.read_bytes() == before
    assert [record["state"] for record in lab.records()] == ["unchanged"]


def test_the_volume_is_opened_by_its_identity_for_reading_alone(lab: Lab) -> None:
    lab.verify()
    (asked,) = lab.asked
    assert (asked.target, asked.source_alone) == (None, True)
    assert asked.source is not None
    assert asked.source.devnode == "/dev/mapper/vg_san-erp1"
    assert asked.source.dm_uuid == "LVM-vguuidlvuuid"
    (told,) = lab.told
    assert (told.digest, told.size_bytes, told.source_bytes, told.generation) == ("xxh3:1", GIB, GIB, 1)
    assert told.checkpoint_path == str(lab.directory / "checkpoint")
    assert (told.worker_uid, told.dm_uuid) == (os.getuid(), asked.source.dm_uuid)


def test_a_difference_that_nothing_explains(lab: Lab) -> None:
    lab.report = OTHER
    found = lab.verify()
    assert (found.state, found.differing, found.differing_bytes) == (
        VerifyState.DIFFERS,
        ((3 * MIB, MIB),),
        MIB,
    )
    assert "1 MiB differ, at byte offset+length 3145728+1048576" in found.seen
    assert "Nothing is known that explains it" in found.seen


def test_a_difference_after_a_known_start_is_no_corruption(lab: Lab) -> None:
    lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, ran_us=1))
    lab.report = OTHER
    found = lab.verify()
    assert found.state is VerifyState.USED
    assert "The machine erp1 has run since" in found.seen
    assert "That is no corruption as far as is known" in found.seen


def test_a_converted_guest_has_changed_its_volume(lab: Lab) -> None:
    lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, converted=True))
    lab.report = OTHER
    assert lab.verify().state is VerifyState.USED


@pytest.mark.parametrize(
    ("before", "sequence", "writes", "state"),
    [
        pytest.param(40, "9", 40, VerifyState.DIFFERS, id="the same activation, no write since"),
        pytest.param(40, "9", 43, VerifyState.USED, id="the same activation, written since"),
        pytest.param(40, "10", 3, VerifyState.USED, id="activated anew, and written"),
        pytest.param(40, "10", 0, VerifyState.DIFFERS, id="activated anew, and not written"),
        pytest.param(None, "9", 43, VerifyState.DIFFERS, id="nobody counted when it was proven"),
    ],
)
def test_writes_that_the_kernel_counted_explain_a_difference(
    lab: Lab, before: int | None, sequence: str, writes: int, state: VerifyState
) -> None:
    count = None if before is None else WriteCount(boot_id(), "9", before)
    lab.board.change(JOB.uuid, lambda job: replace(job, proven_writes=count))
    lab.report = replace(OTHER, sequence=sequence, writes_before=writes, writes_after=writes)
    found = lab.verify()
    assert found.state is state
    assert any("has counted 3 writes" in each for each in found.since) is (state is VerifyState.USED)


def test_all_the_same_is_unchanged_whatever_happened_since(lab: Lab) -> None:
    lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, ran_us=1))
    found = lab.verify()
    assert found.state is VerifyState.UNCHANGED
    assert found.since


def test_what_is_written_meanwhile_makes_the_reading_worth_nothing(lab: Lab) -> None:
    lab.report = replace(EQUAL, writes_before=4, writes_after=6)
    found = lab.verify()
    assert (found.state, found.error) == (VerifyState.FAILED, "VolumeUsedMeanwhile")
    assert lab.records() == []


def test_a_machine_that_runs_is_not_verified_and_remembered_as_run(lab: Lab) -> None:
    lab.hypervisor.running = True
    found = lab.verify()
    assert (found.state, found.error) == (VerifyState.FAILED, "VerifyMachineRuns")
    assert lab.asked == []
    lab.hypervisor.running = False
    lab.report = OTHER
    assert lab.verify().state is VerifyState.USED


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("DeviceInUse", "VolumeBusy"),
        ("DeviceAbsent", "VerifyCannotRun"),
        ("IdentityChanged", "IdentityChanged"),
    ],
)
def test_a_volume_that_cannot_be_opened(lab: Lab, name: str, error: str) -> None:
    lab.refusal = OpenError(name, "It says why.")
    found = lab.verify()
    assert (found.state, found.error) == (VerifyState.FAILED, error)
    assert lab.told == []


def test_a_volume_at_rest_is_activated_for_it_and_left_as_it_was(lab: Lab) -> None:
    lab.lv = replace(lab.lv, active=False)
    assert lab.verify().state is VerifyState.UNCHANGED
    assert [argv[argv.index("--activate") + 1] for argv in lab.commands.changes] == ["y", "n"]


def test_a_volume_that_lost_its_tag_is_not_ours_to_judge(lab: Lab) -> None:
    lab.lv = replace(lab.lv, tags=frozenset())
    found = lab.verify()
    assert found.error == "VerifyCannotRun"
    assert f"with the tag p2vd.job={JOB.uuid} is no longer in vg_san" in found.seen


def test_a_volume_group_that_is_not_attached(lab: Lab) -> None:
    lab.absent = True
    assert "volume group vg_san (vg-uuid) is not attached." in lab.verify().seen


def test_a_volume_that_was_extended_says_so(lab: Lab) -> None:
    lab.lv = replace(lab.lv, size_bytes=2 * GIB)
    found = lab.verify()
    assert found.state is VerifyState.UNCHANGED
    assert found.since == ("It was extended from 1 GiB to 2 GiB.",)


def test_a_volume_that_was_reduced_is_refused(lab: Lab) -> None:
    lab.lv = replace(lab.lv, size_bytes=GIB // 2)
    assert "somebody reduced it" in lab.verify().seen


def test_a_worker_that_fails_says_nothing_of_the_volume(lab: Lab) -> None:
    lab.report = VerifyReport(failure=Failure("ReadFailed", "Reading failed at offset 5."))
    found = lab.verify()
    assert (found.state, found.error) == (VerifyState.FAILED, "VerifyFailed")
    assert found.seen.endswith("Reading failed at offset 5.")


@pytest.mark.parametrize(
    ("stage", "finished"), [(Stage.COPYING, False), (Stage.PROVEN, False), (Stage.CANCELLED, False)]
)
def test_only_a_finished_job_is_verified(lab: Lab, stage: Stage, finished: bool) -> None:
    lab.board.change(JOB.uuid, lambda job: replace(job, stage=stage, finished=finished))
    with pytest.raises(IllegalTransition):
        lab.verifications.start(JOB.uuid, WHO)


@pytest.mark.parametrize("state", [MachineState.REGISTERING, MachineState.ROLLING_BACK])
def test_not_while_the_machine_changes_hands(tmp_path: Path, state: MachineState) -> None:
    lab = Lab(tmp_path, state)
    with pytest.raises(IllegalTransition, match=state.value):
        lab.verifications.start(JOB.uuid, WHO)
    lab.services.store.close()


def test_a_job_that_is_given_up_meanwhile_is_not_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its volume is about to be removed: a verification would keep it for hours."""
    lab = Lab(tmp_path, MachineState.READY)

    def cancelled_now(*arguments: Any) -> str:
        lab.board.cancel(JOB.uuid, keep_target=False)
        return read_receipt(*arguments)

    monkeypatch.setattr("p2vd.jobs.verification.read_receipt", cancelled_now)
    with pytest.raises(IllegalTransition, match="cancelling"):
        lab.verifications.start(JOB.uuid, WHO)
    assert lab.verifications.shown(lab.board.job(JOB.uuid)).verification is None
    lab.services.store.close()


def test_a_receipt_that_was_edited_proves_nothing(lab: Lab) -> None:
    lab.receipt.write_text(lab.receipt.read_text().replace("vg_san", "vg_nas"))
    with pytest.raises(ReceiptDamaged):
        lab.verifications.start(JOB.uuid, WHO)
    assert lab.board.job(JOB.uuid).verification is None


def test_one_at_a_time_and_an_end_frees_the_volume(lab: Lab) -> None:
    lab.waits = True
    lab.lv = replace(lab.lv, active=False)
    lab.verifications.start(JOB.uuid, WHO)
    assert lab.reading.wait(LONG_S)
    with pytest.raises(IllegalTransition, match="being verified"):
        lab.verifications.start(JOB.uuid, WHO)
    lab.verifications.end(MACHINE.uuid)
    assert not lab.lv.active
    assert lab.result().error == "VerifyInterrupted"


def test_after_a_stop_none_begins(lab: Lab) -> None:
    lab.verifications.stop()
    with pytest.raises(IllegalTransition):
        lab.verifications.start(JOB.uuid, WHO)


def begun(lab: Lab, started_us: int) -> None:
    """As a daemon leaves it that was killed."""
    left = Verification(VerifyState.RUNNING, started_us)
    lab.board.change(JOB.uuid, lambda job: replace(job, verification=left))
    Verifications(lab.services).recover()


def test_one_that_ended_with_its_daemon_says_so(lab: Lab) -> None:
    begun(lab, 5)
    found = lab.result()
    assert (found.state, found.error, found.started_us) == (VerifyState.FAILED, "VerifyInterrupted", 5)


def test_one_that_was_recorded_and_not_stored_counts(lab: Lab) -> None:
    found = lab.verify()
    begun(lab, found.started_us)
    assert lab.result() == found


def test_records_add_up_and_an_edited_one_is_told(lab: Lab) -> None:
    lab.verify()
    lab.report = OTHER
    lab.verify()
    first, second = sorted(lab.directory.glob("verification-*.json"))
    assert [record["state"] for record in lab.records()] == ["unchanged", "differs"]
    first.write_text(first.read_text().replace("unchanged", "differs"))
    torn, whole = lab.records()
    assert torn == {"file": first.name, "problem": "it is torn or was edited: its checksum does not fit"}
    assert whole == json.loads(second.read_text())


def test_the_kernels_count_is_found_by_the_volumes_uuid(tmp_path: Path) -> None:
    job = replace(JOB, lv_uuid="lv-uuid")
    assert write_count(tmp_path, job) is None
    for name, uuid in (("dm-1", "LVM-other"), ("dm-2", "LVM-vguuidlvuuid")):
        device = tmp_path / "class/block" / name
        (device / "dm").mkdir(parents=True)
        (device / "dm/uuid").write_text(f"{uuid}\n")
        (device / "diskseq").write_text("11\n")
        # As Linux 6.1 shows it: reads, ..., 5th writes, ..., 12th discards.
        (device / "stat").write_text("5 0 40 1 7 0 56 2 0 8 3 2 0 16 1 0 0\n")
    assert write_count(tmp_path, job) == WriteCount(boot_id(), "11", 9)
