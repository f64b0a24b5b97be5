"""The reader of NTFS and LVM labels, on real filesystems and on damaged ones."""

import contextlib
import struct
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2vd.discovery.lvm_label import read_volume_group
from p2vd.discovery.ntfs import NtfsState, NtfsUnclear, read_ntfs
from tests.discovery.recorded_disk import recorded

MIB = 1 << 20
SIZE = 36 * MIB
RECORD = 1024


@cache
def pieces_of(name: str) -> dict[int, bytes]:
    """Return the longest read of a recorded disk at each offset; unpacked once, not for each example."""
    disk, _ = recorded(name)
    return {offset: bytes(data) for (offset, _), data in sorted(disk.known.items())}


class Image:
    """What was read of an NTFS at 1 MiB, to be changed; zeros elsewhere. Counts the reads."""

    def __init__(self, name: str, start: int = MIB) -> None:
        # The first and last MiB of the disk are recorded for other reasons.
        self.pieces = {
            offset - start: bytearray(data) for offset, data in pieces_of(name).items() if len(data) < MIB
        }
        self.reads = 0

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        assert length <= 4 * MIB
        assert offset >= 0
        if offset >= SIZE:
            return b""
        data = bytearray(length)
        for start, piece in self.pieces.items():
            begin, end = max(offset, start), min(offset + length, start + len(piece))
            if begin < end:
                data[begin - offset : end - offset] = piece[begin - start : end - start]
        return bytes(data)

    def bytes_in(self) -> int:
        return sum(len(piece) for piece in self.pieces.values())

    def poke(self, at: int, value: int) -> None:
        """Set the byte number `at` of all that was recorded."""
        for piece in self.pieces.values():
            if at < len(piece):
                piece[at] = value
                return
            at -= len(piece)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("windows-clean", NtfsState(dirty=False, hibernated=False)),
        ("windows-dirty", NtfsState(dirty=True, hibernated=False)),
        ("windows-hibernated", NtfsState(dirty=False, hibernated=True)),
        ("windows-resumed", NtfsState(dirty=False, hibernated=False)),
    ],
)
def test_real_filesystems(name: str, state: NtfsState) -> None:
    image = Image(name)
    assert read_ntfs(image.read) == state
    assert image.reads < 15


def test_the_recorded_directory_has_several_levels() -> None:
    """The hibernated one has an attribute list and index blocks below its root: the hard case."""
    magics = [bytes(piece[:4]) for piece in Image("windows-hibernated").pieces.values()]
    assert magics.count(b"INDX") == 2
    assert magics.count(b"FILE") == 5


def boot_sector(**changes: int) -> Callable[[int, int], bytes]:
    image = Image("windows-clean")
    boot = next(piece for offset, piece in image.pieces.items() if offset == 0)
    for field, value in changes.items():
        offset, code = {"sector": (11, "<H"), "cluster": (13, "<B"), "mft": (48, "<Q"), "record": (64, "<b")}[
            field
        ]
        struct.pack_into(code, boot, offset, value)
    return image.read


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"sector": 0}, "sectors of 0 bytes"),
        ({"sector": 513}, "sectors of 513"),
        ({"cluster": 0}, "0 a cluster"),
        ({"cluster": 0xE0}, "a cluster"),
        ({"record": 127}, "records of"),
        ({"record": -1}, "records of 2 bytes"),
        ({"mft": 1 << 40}, "beyond its end"),
        ({"mft": 1000}, "no FILE record"),
    ],
)
def test_a_boot_sector_that_makes_no_sense(changes: dict[str, int], problem: str) -> None:
    with pytest.raises(NtfsUnclear, match=problem):
        read_ntfs(boot_sector(**changes))


def test_no_boot_sector() -> None:
    with pytest.raises(NtfsUnclear, match="no NTFS boot sector"):
        read_ntfs(lambda _offset, length: bytes(length))


def test_a_torn_record_is_not_trusted() -> None:
    image = Image("windows-clean")
    volume = max(offset for offset, piece in image.pieces.items() if piece[44:48] == b"\x03\0\0\0")
    image.pieces[volume][510] ^= 0xFF
    with pytest.raises(NtfsUnclear, match="in part only"):
        read_ntfs(image.read)


def test_what_is_dirty_is_said_where_the_directory_cannot_be_read() -> None:
    image = Image("windows-dirty")
    root = max(offset for offset, piece in image.pieces.items() if piece[44:48] == b"\x05\0\0\0")
    image.pieces[root][0] ^= 0xFF
    state = read_ntfs(image.read)
    assert (state.dirty, state.hibernated) == (True, False)
    assert "no FILE record" in state.problem


@settings(max_examples=300)
@given(st.data())
def test_damage_anywhere_ends_in_an_answer_or_in_unclear(data: st.DataObject) -> None:
    image = Image(data.draw(st.sampled_from(["windows-hibernated", "windows-dirty", "windows-resumed"])))
    last = image.bytes_in() - 1
    for _ in range(data.draw(st.integers(1, 8))):
        image.poke(data.draw(st.integers(0, last)), data.draw(st.integers(0, 255)))
    with contextlib.suppress(NtfsUnclear):
        read_ntfs(image.read)
    assert image.reads <= 520


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_label_gives_a_name_or_none(data: st.DataObject) -> None:
    image = Image("whole-pv", start=0)
    image.pieces = {0: bytearray(pieces_of("whole-pv")[0][: 16 << 10])}
    for _ in range(data.draw(st.integers(0, 6))):
        # The label, its header and the metadata area's header.
        at = data.draw(st.one_of(st.integers(512, 700), st.integers(4096, 4200)))
        image.poke(at, data.draw(st.integers(0, 255)))
    name = read_volume_group(image.read)
    assert name.isascii()
    assert len(name) <= 127


def test_a_label_in_the_last_of_the_four_sectors() -> None:
    disk, _ = recorded("whole-pv")
    head = bytearray(disk.read(0, MIB))
    head[1536:2048] = head[512:1024]
    head[512:1024] = bytes(512)
    assert read_volume_group(lambda offset, length: bytes(head[offset : offset + length])) == "datavg"
