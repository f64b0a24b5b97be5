"""What keeps a helper from opening the devices of a job: what ends by itself holds it, the rest fails it."""

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from p2vd.copying.errors import DeviceReserved, ReservationUnknown
from p2vd.copying.opening import OpenError, OpenReply
from p2vd.jobs import copy_step, old_worker, worker_start
from p2vd.jobs.board import Board
from p2vd.jobs.control import MustWait, TryAgain
from p2vd.jobs.job_target import JobLun
from p2vd.jobs.services import Services
from p2vd.jobs.session import OpenFailed, ProtocolError
from p2vd.jobs.signals import Signals
from p2vd.jobs.store import Store
from p2vd.jobs.worker_start import open_devices, start_message
from p2vd.model.codec import to_dict
from p2vd.model.copying import Verify
from p2vd.model.errors import DeviceAbsent, DeviceInUse, P2vdError
from p2vd.model.job import Hold, Job
from p2vd.model.plan import LunTarget
from p2vd.model.size import GIB
from p2vd.system.command import CommandKilled, CommandNotStarted, CommandTimedOut
from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.process import ChildProcess, spawn
from tests.jobs.fake_asker import FakeChild
from tests.jobs.proven_machine import ProvenMachine
from tests.jobs.values import machine_and_job, source

LONG_S = 10.0
SOURCE = source()
LUN = replace(SOURCE, id="3600b", wwid="3600b", name="mpathz", device="dm-9")
TARGET = JobLun(LUN, LunTarget("3600b", "3600b", "mpathz", GIB, 512, "/dev/disk/by-id/wwn-0x600b"))


class Refusing:
    """A daemon's parts, whose helper refuses as the test says."""

    def __init__(self, directory: Path, *refusals: P2vdError) -> None:
        directory.mkdir(exist_ok=True)
        machine, self.job = machine_and_job()
        board = Board(Store(directory / "state.db"))
        board.add(machine, (self.job,))
        self.refusals = list(refusals)
        self.services = cast(
            Services, SimpleNamespace(board=board, spawn=self.spawn, job_directory=self.place)
        )
        self._directory = directory

    def place(self, job: Job) -> Path:
        return self._directory / job.uuid

    def spawn(self, argv: Sequence[str], channel_fd: int) -> ChildProcess:
        assert argv[2] == "p2vd.copying.opener"
        channel = SeqpacketChannel.from_fd(os.dup(channel_fd))
        threading.Thread(target=self._answer, args=(channel, self.refusals.pop(0)), daemon=True).start()
        return FakeChild()

    @staticmethod
    def _answer(channel: SeqpacketChannel, error: P2vdError) -> None:
        with channel:
            channel.receive(LONG_S)
            channel.send(to_dict(OpenReply(ok=False, error=OpenError(error.name, str(error)))))

    def open(self) -> None:
        open_devices(self.services, Signals(), self.job, SOURCE, TARGET)


@pytest.mark.parametrize(
    ("error", "hold"),
    [
        (ReservationUnknown(SOURCE.devnode, "sda: no answer in 15 s"), Hold.SOURCE_ABSENT),
        (ReservationUnknown(LUN.devnode, "sdx: sg_persist exits with 2"), Hold.TARGET_ABSENT),
        (DeviceAbsent(SOURCE.devnode, "The source"), Hold.SOURCE_ABSENT),
        (DeviceAbsent(LUN.devnode, "The target"), Hold.TARGET_ABSENT),
    ],
)
def test_a_device_that_cannot_be_asked_holds_the_job(tmp_path: Path, error: P2vdError, hold: Hold) -> None:
    with pytest.raises(MustWait) as raised:
        Refusing(tmp_path, error).open()
    assert (raised.value.hold, raised.value.why) == (hold, str(error))


PASSING = [
    CommandNotStarted(("dmsetup", "info"), 0.0, "Resource temporarily unavailable"),
    CommandKilled(("dmsetup", "info"), 30.0, 9),
    CommandTimedOut(("dmsetup", "info"), 30.0),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: error.name)
def test_a_helper_that_learned_nothing_is_asked_again(tmp_path: Path, error: P2vdError) -> None:
    """One fork that this host refused failed the job, where it had been held before."""
    lab = Refusing(tmp_path, error, error)
    with pytest.raises(TryAgain) as raised:
        lab.open()
    assert raised.value.why == str(error)
    with pytest.raises(TryAgain):
        copy_step._ask_who_it_is(lab.services, Signals(), lab.job, SOURCE)


class Ending(Refusing):
    """The helper hears what it is asked, and then ends as the test says."""

    def __init__(self, directory: Path, how: str) -> None:
        super().__init__(directory)
        self._how = how

    def spawn(self, argv: Sequence[str], channel_fd: int) -> ChildProcess:
        heard = f"import os, socket; socket.socket(fileno={channel_fd}).recv(1 << 16)"
        return spawn([sys.executable, "-c", f"{heard}; {self._how}"], channel_fd)


@pytest.mark.parametrize(
    ("how", "ends"),
    [("os.kill(os.getpid(), 9)", TryAgain), ("os.abort()", ProtocolError), ("", ProtocolError)],
)
def test_one_that_the_kernel_kills_is_asked_again(tmp_path: Path, how: str, ends: type[P2vdError]) -> None:
    """For want of memory it does; what ends otherwise is a defect."""
    with pytest.raises(ends):
        Ending(tmp_path, how).open()


def test_a_reserved_device_fails_it(tmp_path: Path) -> None:
    with pytest.raises(OpenFailed) as raised:
        Refusing(tmp_path, DeviceReserved(LUN.devnode, "3600b", "Key=0xabc")).open()
    assert raised.value.name == "DeviceReserved"


def test_the_last_look_before_proven_waits_too(tmp_path: Path) -> None:
    """Hours of copying are not lost to a path that is in transition at their end."""
    lab = Refusing(
        tmp_path,
        ReservationUnknown(SOURCE.devnode, "sda: sg_persist exits with 2"),
        DeviceReserved(SOURCE.devnode, "3600a", "Key=0xabc"),
    )
    with pytest.raises(MustWait) as held:
        copy_step._ask_who_it_is(lab.services, Signals(), lab.job, SOURCE)
    assert held.value.hold is Hold.SOURCE_ABSENT
    with pytest.raises(OpenFailed, match="is reserved"):
        copy_step._ask_who_it_is(lab.services, Signals(), lab.job, SOURCE)


def test_a_device_in_the_hands_of_an_old_worker_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have come into sight only after the copy looked for it."""
    monkeypatch.setattr(worker_start, "PROBES_END_S", 0.0)
    busy = DeviceInUse(LUN.devnode, "another process")
    monkeypatch.setattr(old_worker, "find", lambda uuid: 4711)
    with pytest.raises(MustWait, match="worker 4711 of an earlier run") as held:
        Refusing(tmp_path / "held", busy).open()
    assert held.value.hold is Hold.OLD_WORKER
    monkeypatch.setattr(old_worker, "find", lambda uuid: None)
    with pytest.raises(OpenFailed, match="in use"):
        Refusing(tmp_path / "failed", busy).open()


@pytest.mark.parametrize(
    ("verify", "at_least"), [(Verify.NONE, Verify.READ_BACK), (Verify.BOTH, Verify.BOTH)]
)
def test_a_target_that_somebody_had_open_is_read_back_whatever_the_plan_says(
    tmp_path: Path, verify: Verify, at_least: Verify
) -> None:
    _, job = machine_and_job()
    job = replace(job, plan=replace(job.plan, copy=replace(job.plan.copy, verify=verify)))
    services = ProvenMachine(tmp_path).services
    start = start_message(services, job, SOURCE, TARGET, 0)
    assert (start.verify, start.read_back_anew) == (verify, False)
    start = start_message(services, replace(job, read_back_anew=True), SOURCE, TARGET, 0)
    assert (start.verify, start.read_back_anew) == (at_least, True)
