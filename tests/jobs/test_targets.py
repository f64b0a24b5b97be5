"""The volume of a job is taken for its target only while all that binds it to the job is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.control import LvVanished, TargetChanged
from p2vd.jobs.job_target import JobLv
from p2vd.jobs.targets import find_target
from p2vd.model.job import Job
from p2vd.model.size import GIB
from tests.jobs.proven_machine import JOB, ProvenMachine


@pytest.fixture
def lab(tmp_path: Path) -> ProvenMachine:
    return ProvenMachine(tmp_path)


def job_of(lab: ProvenMachine, generation: int) -> Job:
    return lab.board.change(JOB.uuid, lambda job: replace(job, generation=generation))


def tagged(lab: ProvenMachine, *tags: str) -> None:
    lab.lv = replace(lab.lv, tags=lab.lv.tags | set(tags))


@pytest.mark.parametrize("tags", [(), ("p2vd.generation=2",), ("p2vd.generation=2", "mine")])
def test_the_volume_of_this_generation_is_the_target(lab: ProvenMachine, tags: tuple[str, ...]) -> None:
    """The tag comes in a command of its own after the volume: it may not be there yet."""
    tagged(lab, *tags)
    found = find_target(lab.services, job_of(lab, 2))
    assert isinstance(found, JobLv)
    assert found.lv == lab.lv


@pytest.mark.parametrize(
    ("tags", "generation"),
    [
        (("p2vd.generation=2",), 1),
        (("p2vd.generation=1",), 2),
        (("p2vd.generation=1", "p2vd.generation=2"), 2),
        (("p2vd.generation=",), 1),
        (("p2vd.generation=11",), 1),
    ],
)
def test_an_old_checkpoint_is_refused_by_the_generation_of_the_volume(
    lab: ProvenMachine, tags: tuple[str, ...], generation: int
) -> None:
    """Such as that of a state directory that was restored from a backup."""
    tagged(lab, *tags)
    with pytest.raises(TargetChanged) as refused:
        find_target(lab.services, job_of(lab, generation))
    assert f"vg_san/erp1 was changed from outside: it has the tag {', '.join(tags)}" in str(refused.value)
    assert f"generation {generation}." in str(refused.value)


def test_a_volume_without_the_jobs_tag_or_of_another_size_is_not(lab: ProvenMachine) -> None:
    lab.lv = replace(lab.lv, size_bytes=2 * GIB)
    with pytest.raises(TargetChanged, match="its size is 2 GiB"):
        find_target(lab.services, job_of(lab, 1))
    lab.lv = replace(lab.lv, tags=frozenset())
    with pytest.raises(LvVanished):
        find_target(lab.services, job_of(lab, 1))
