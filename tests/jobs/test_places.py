"""What a plan is told of the places that jobs have: LUNs, disks that can be wanted back, names of files."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.board import Board
from p2vd.jobs.places import claims, with_places
from p2vd.jobs.store import Store
from p2vd.jobs.targets import may_have_written
from p2vd.model.directory import TargetDirectory
from p2vd.model.forms import TargetFormat
from p2vd.model.inventory import Inventory
from p2vd.model.job import MachineState, Stage
from p2vd.model.plan import FileTarget, LunTarget, Target
from p2vd.model.size import GIB
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from tests.jobs.proven_machine import ProvenMachine
from tests.jobs.values import WWID, machine_and_job, source

LUN = LunTarget("lun-id", "3600", "mpathz", GIB, 512, "/dev/disk/by-id/x")
FILE = FileTarget("/srv/images", "erp1.raw", TargetFormat.RAW, GIB)
POLICY = """
[[rule]]
name = "files"
match.wwid = "*"
target.directory = "/srv/images"
"""


def board(path: Path, target: Target, stage: Stage, state: MachineState, *, finished: bool = False) -> Board:
    machine, job = machine_and_job()
    board = Board(Store(path / "state.db"))
    job = replace(job, plan=replace(job.plan, target=target), stage=stage, finished=finished)
    board.add(replace(machine, state=state), (job,))
    return board


@pytest.mark.parametrize(
    ("stage", "state", "claimed"),
    [
        (Stage.COPYING, MachineState.COPYING, True),
        (Stage.PROVEN, MachineState.REGISTERED, True),
        (Stage.PROVEN, MachineState.ACCEPTED, True),
        (Stage.PROVEN, MachineState.ROLLED_BACK, False),
        (Stage.CANCELLED, MachineState.CANCELLED, False),
    ],
)
def test_a_lun_is_a_jobs_until_nobody_needs_what_is_there(
    tmp_path: Path, stage: Stage, state: MachineState, claimed: bool
) -> None:
    assert bool(claims(board(tmp_path, LUN, stage, state))) is claimed


class Looked:
    """Services whose directory is there, and empty."""

    def __init__(self, path: Path, board: Board) -> None:
        self.services = ProvenMachine(path).services
        vars(self.services.image_files)["look_at"] = lambda path, *_: TargetDirectory(path)
        self.services = replace(
            self.services,
            board=board,
            policies=lambda: load([PolicyText("/etc/p2vd/policy.d/1.toml", POLICY)]),
        )

    def places(self, besides: str = "") -> Inventory:
        return with_places(self.services, Inventory((source(),)), [WWID], "erp2", besides=besides)


@pytest.mark.parametrize(
    ("stage", "state", "kept"),
    [
        (Stage.COPYING, MachineState.COPYING, True),
        (Stage.PROVEN, MachineState.REGISTERED, True),
        (Stage.PROVEN, MachineState.ROLLED_BACK, True),
        (Stage.PROVEN, MachineState.ACCEPTED, False),
        (Stage.CANCELLED, MachineState.CANCELLED, False),
    ],
)
def test_a_disk_that_can_be_wanted_back_is_known_as_such(
    tmp_path: Path, stage: Stage, state: MachineState, kept: bool
) -> None:
    (tmp_path / "other").mkdir()
    looked = Looked(tmp_path / "other", board(tmp_path, LUN, stage, state))
    assert bool(looked.places().origins) is kept


@pytest.mark.parametrize(
    ("stage", "finished", "taken"),
    [
        (Stage.PLANNED, False, True),
        (Stage.PROVEN, False, True),
        (Stage.PROVEN, True, False),  # then the file is there, by that name
        (Stage.CANCELLED, False, False),
    ],
)
def test_a_name_is_taken_before_there_is_a_file_of_it(
    tmp_path: Path, stage: Stage, finished: bool, taken: bool
) -> None:
    (tmp_path / "other").mkdir()
    made = board(tmp_path, FILE, stage, MachineState.COPYING, finished=finished)
    looked = Looked(tmp_path / "other", made)
    (directory,) = looked.places().directories
    assert directory.names == ({"erp1.raw"} if taken else frozenset())
    (directory,) = looked.places(besides=made.jobs()[0].uuid).directories
    assert directory.names == frozenset()


def test_a_worker_that_had_a_checkpoint_may_have_written_whatever_the_job_was_told(tmp_path: Path) -> None:
    services = ProvenMachine(tmp_path).services
    _, job = machine_and_job()
    assert not may_have_written(services, job)
    assert may_have_written(services, replace(job, checkpoint_begun=True))
    directory = services.job_directory(job)
    directory.mkdir(parents=True)
    (directory / "checkpoint").touch()
    assert may_have_written(services, job)
