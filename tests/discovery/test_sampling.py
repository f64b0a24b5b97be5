"""The examiner's sample of zero blocks: of real files, with and without holes; nothing is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2vd.discovery.examiner import Examiner, OpenedDisk
from p2vd.discovery.examining import ExamineReply, ExamineRequest, sample_of
from p2vd.discovery.sampling import sample_zeros
from p2vd.jobs.examiner_helper import ExaminerHelper
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.fill import ZeroSample
from p2vd.system.command import SystemCommands

KIB = 1 << 10
MIB = 1 << 20
BLOCK = 64 * KIB
LONG_S = 60.0


@contextmanager
def opened(path: Path) -> Iterator[OpenedDisk]:
    disk = OpenedDisk(str(path))
    try:
        yield disk
    finally:
        disk.close()


def image(path: Path, size: int, *data: int, hole: bool = True) -> Path:
    """Make an image of zeros, with one byte that is not at each offset of `data`."""
    with path.open("wb") as file:
        if hole:
            file.truncate(size)
        else:
            file.write(bytes(size))
        for offset in data:
            file.seek(offset)
            file.write(b"\1")
        file.flush()
        os.fsync(file.fileno())
    return path


def test_each_block_with_a_byte_of_data_is_found_where_all_are_read(tmp_path: Path) -> None:
    data = (0, 5 * BLOCK + 17, 9 * BLOCK - 1)
    path = image(tmp_path / "disk", 16 * BLOCK, *data, hole=False)
    with opened(path) as disk:
        found = sample_zeros(disk, BLOCK, 1000)
    assert found == ZeroSample(BLOCK, 16, 0, 16, 3)


def test_holes_are_not_read_and_known_to_be_zero(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", 1024 * BLOCK, 3 * BLOCK, 500 * BLOCK + 8, 1024 * BLOCK - 1)
    with opened(path) as disk:
        found = sample_zeros(disk, BLOCK, 1000)
    assert (found.blocks, found.with_data) == (1024, 3)
    assert found.sampled == found.blocks - found.hole_blocks
    assert found.sampled < 100  # a filesystem may allocate more around a byte, but not all of it


def test_nothing_but_a_hole(tmp_path: Path) -> None:
    with opened(image(tmp_path / "disk", 100 * MIB)) as disk:
        assert sample_zeros(disk, BLOCK, 1000) == ZeroSample(BLOCK, 1600, 1600, 0, 0)


def test_the_last_part_of_a_block_counts_as_one(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", 2 * BLOCK + 512, 2 * BLOCK + 511, hole=False)
    with opened(path) as disk:
        assert sample_zeros(disk, BLOCK, 1000) == ZeroSample(BLOCK, 3, 0, 3, 1)


def test_a_chunk_larger_than_the_disk(tmp_path: Path) -> None:
    with opened(image(tmp_path / "disk", 3 * MIB, 2 * MIB, hole=False)) as disk:
        assert sample_zeros(disk, 1 << 30, 30) == ZeroSample(1 << 30, 1, 0, 1, 1)


def test_no_more_blocks_are_read_than_are_wanted_and_in_random_places(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"\1" * (128 * BLOCK) + bytes(128 * BLOCK))
    with opened(path) as disk:
        found = sample_zeros(disk, BLOCK, 100)
    assert found.sampled == 100
    assert 10 < found.with_data < 90  # beyond that once in 10^16


def test_a_disk_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", 4 * BLOCK, hole=False)
    with opened(path) as disk:
        os.truncate(path, BLOCK)
        with pytest.raises(OSError, match="its size has changed"):
            sample_zeros(disk, BLOCK, 1000)


def test_the_examiner_samples_only_the_disk_that_was_seen(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", 4 * BLOCK, hole=False)
    request = ExamineRequest(str(path), 5 * BLOCK, 512, sample_blocks=10, block_bytes=BLOCK)
    reply = Examiner(SystemCommands()).answer(request)
    assert reply.sample is None
    with pytest.raises(ValueError, match="is another disk now: its size has changed"):
        sample_of(reply, request)


def test_a_real_helper_samples_an_image_and_looks_at_it_too(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", 16 * BLOCK, 3 * BLOCK, hole=False)
    before = path.read_bytes()
    helper = ExaminerHelper()
    request = ExamineRequest(str(path), 16 * BLOCK, 512, sample_blocks=1000, block_bytes=BLOCK)
    reply = helper.examine(request, lambda waited_s: waited_s < LONG_S)
    assert sample_of(reply, request) == ZeroSample(BLOCK, 16, 0, 16, 1)
    contents = helper.examine(ExamineRequest(str(path), 16 * BLOCK, 512), lambda waited_s: waited_s < LONG_S)
    assert contents.contents is not None
    helper.close()
    assert path.read_bytes() == before


REQUEST = ExamineRequest("/dev/x", 16 * BLOCK, 512, sample_blocks=10, block_bytes=BLOCK)
GOOD = ZeroSample(BLOCK, 16, 4, 10, 3)


def test_request_and_sample_survive_the_channel() -> None:
    assert from_dict(ExamineRequest, to_dict(REQUEST)) == REQUEST
    assert sample_of(from_dict(ExamineReply, to_dict(ExamineReply(sample=GOOD))), REQUEST) == GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block_bytes", 1),
        ("blocks", 17),
        ("hole_blocks", 17),
        ("hole_blocks", -1),
        ("sampled", 11),
        ("sampled", 9),
        ("with_data", 11),
        ("with_data", -1),
    ],
)
def test_a_sample_that_cannot_be_is_refused_by_name(field: str, value: int) -> None:
    said = to_dict(ExamineReply(sample=GOOD))
    said["sample"][field] = value
    with pytest.raises(ValueError, match=f"cannot be: {field} is {value}"):
        sample_of(from_dict(ExamineReply, said), REQUEST)


@pytest.mark.parametrize("sample", [{}, [], {"block_bytes": "many"}, 5])
def test_what_is_no_sample_at_all_is_refused(sample: object) -> None:
    said = {**to_dict(ExamineReply(sample=GOOD)), "sample": sample}
    with pytest.raises(ValueError, match=r"ZeroSample|block_bytes"):
        from_dict(ExamineReply, said)


def test_contents_instead_of_a_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="no sample"):
        sample_of(ExamineReply(), REQUEST)
