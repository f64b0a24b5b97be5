"""Zeroing, failures and checks of a target, with a kernel that answers as seen on real parts."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2vd.copying.checkpoint import Header
from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Buffer, Device, Target
from p2vd.copying.errors import PoolFull, ReadFailed, TargetChanged, WriteFailed
from p2vd.copying.layout import BLOCK, SUB_BLOCK, merge_ranges
from p2vd.copying.session import Session
from p2vd.copying.store import open_checkpoint
from p2vd.copying.terms import Binding
from p2vd.copying.throttle import ChunkCredit
from p2vd.model.size import GIB, KIB, MIB
from p2vd.system import block
from p2vd.system.clock import SystemClock

SIZE = 4 * BLOCK
CHUNK = 256 * KIB


def failing(number: int) -> Callable[..., int]:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A file full of old bytes that is treated as a thin LV."""
    path = tmp_path / "target"
    path.write_bytes(b"\xa5" * SIZE)
    fd = os.open(path, os.O_RDWR)
    yield Target(fd, "lv", SIZE, Gauge(SystemClock()), chunk_bytes=CHUNK, untouched_is_zero=True)
    os.close(fd)


@pytest.fixture
def discards(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Discards unmap whole chunks and, as dm-thin does, leave the bytes of the others."""
    seen: list[tuple[int, int]] = []

    def discard(fd: int, offset: int, length: int) -> None:
        seen.append((offset, length))
        first, last = -(-offset // CHUNK) * CHUNK, (offset + length) // CHUNK * CHUNK
        if first < last:
            block.punch_hole(fd, first, last - first)

    monkeypatch.setattr(block, "discard", discard)
    return seen


@pytest.mark.parametrize("length", [BLOCK, BLOCK - 1, 3 * SUB_BLOCK, 3 * SUB_BLOCK + 5, SUB_BLOCK, 700, 1])
@pytest.mark.parametrize("at", [0, 7, 8, SUB_BLOCK - 1, SUB_BLOCK, 3 * SUB_BLOCK + 4, BLOCK - 1])
def test_a_byte_is_in_one_part_of_a_block(length: int, at: int) -> None:
    buffer = Buffer()
    parts = -(-length // SUB_BLOCK)
    assert buffer.zero_parts(length) == [True] * parts
    buffer.view[at] = 1
    assert buffer.zero_parts(length) == [at >= length or part != at // SUB_BLOCK for part in range(parts)]


def contents(target: Target) -> bytes:
    return os.pread(target.fd, SIZE, 0)


@pytest.mark.parametrize("zeroes", [True, False], ids=["pool zeroes", "pool does not zero"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, BLOCK), (64 * KIB, BLOCK), (64 * KIB, 64 * KIB), (CHUNK, CHUNK), (192 * KIB, 2 * CHUNK), (512, 512)],
)
def test_a_thin_range_becomes_zero_and_nothing_else(
    target: Target, discards: list[tuple[int, int]], offset: int, length: int, zeroes: bool
) -> None:
    target.untouched_is_zero = zeroes
    target.zero(Buffer(), offset, length)
    old = b"\xa5" * SIZE
    assert contents(target) == old[:offset] + bytes(length) + old[offset + length :]
    assert all(at % CHUNK == 0 and count % CHUNK == 0 for at, count in discards)


def test_a_discard_that_does_nothing_is_not_believed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "discard", lambda fd, offset, length: None)
    target.zero(Buffer(), 0, SIZE)
    assert contents(target) == bytes(SIZE)


@pytest.mark.parametrize("chunk", [CHUNK, 0], ids=["thin", "not thin"])
def test_what_the_kernel_does_not_support_is_written(
    target: Target, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    target.chunk_bytes = chunk
    for name in ("discard", "punch_hole"):
        monkeypatch.setattr(block, name, failing(errno.EOPNOTSUPP))
    target.zero(Buffer(), 4096, 2 * BLOCK)
    assert contents(target)[4096 : 4096 + 2 * BLOCK] == bytes(2 * BLOCK)


@pytest.mark.parametrize("door", ["punch_hole", "zero_out"])
def test_no_request_for_zeros_is_larger_than_iscsi_sessions_bear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """Of a file and of a device, whatever range is to be zero (design: §4.9)."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(block, door, lambda fd, offset, length: asked.append((offset, length)))
    start, length = 3 * BLOCK, GIB + 4096
    with (tmp_path / "sparse").open("w+b") as file:
        os.truncate(file.fileno(), 2 * GIB)
        target = Target(file.fileno(), "target", 2 * GIB, Gauge(SystemClock()))
        target._is_file = door == "punch_hole"
        target.zero(Buffer(), start, length)
    assert max(length for _, length in asked) <= 128 * MIB
    assert merge_ranges(asked) == [(start, length)]
    assert sum(length for _, length in asked) == length


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, PoolFull), (errno.EDQUOT, PoolFull), (errno.EIO, WriteFailed)]
)
def test_a_failed_write_is_named_with_its_place(
    target: Target, monkeypatch: pytest.MonkeyPatch, number: int, error: type[WriteFailed]
) -> None:
    monkeypatch.setattr(os, "pwritev", failing(number))
    with pytest.raises(error) as caught:
        target.write(Buffer(), 0, BLOCK, 4096)
    assert (caught.value.offset, caught.value.length, caught.value.exit_code) == (BLOCK, 4096, 2)


def test_short_reads_and_writes_are_continued(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwritev, os.preadv
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: write(fd, [views[0][:5000]], at))
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: read(fd, [views[0][:8192]], at))
    buffer, again = Buffer(), Buffer()
    buffer.view[:] = os.urandom(BLOCK)
    target.write(buffer, 0, 0, BLOCK)
    target.read(again, 0, BLOCK)
    assert buffer.same(again, BLOCK)


def test_a_source_that_ends_early_is_a_failed_read(target: Target) -> None:
    with pytest.raises(ReadFailed):
        target.read(Buffer(), SIZE - 4096, BLOCK)


def test_a_target_that_changed_is_named(target: Target, tmp_path: Path) -> None:
    attribute = tmp_path / "uuid"
    attribute.write_text("LVM-a\n")
    target.uuid_fd, target.dm_uuid = os.open(attribute, os.O_RDONLY), "LVM-a"
    target.check()
    attribute.write_text("LVM-b\n")
    with pytest.raises(TargetChanged, match="LVM-b, expected LVM-a"):
        target.check()
    os.ftruncate(target.fd, SIZE + 4096)
    with pytest.raises(TargetChanged, match="size"):
        target.check()
    os.close(target.uuid_fd)


@pytest.mark.parametrize("broken", ["fdatasync", "pwritev"])
def test_after_a_failed_flush_or_write_nothing_is_committed(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """And the next run, with the device mended, copies all of it again."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(SIZE))
    clock, target.chunk_bytes = SystemClock(), 0
    header = Header(Binding("job", 1, "wwid", SIZE, 512, "lv"), SIZE, "xxh3")

    def session() -> Session:
        fd = os.open(source, os.O_RDONLY)
        checkpoint = open_checkpoint(tmp_path / "checkpoint", header)
        controls = Controls(clock, ChunkCredit(0))
        return Session(checkpoint, Device(fd, "source", SIZE, target.gauge), target, controls, clock)

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, failing(errno.EIO))
        first = session()
        report = first.run()
    first.checkpoint.close()
    assert report.exit_code == 2
    assert report.failure is not None
    assert report.failure.name == "WriteFailed"
    assert report.progress.committed_bytes == 0
    second = session()
    report = second.run()
    second.checkpoint.close()
    assert (report.exit_code, report.failure, report.progress.resumed_from_bytes) == (0, None, 0)
    assert contents(target) == source.read_bytes()
