"""What of a source was read, as a mapfile of GNU ddrescue (its manual, "Mapfile structure"). Pure.

ddrescue can go on from it, and ddrescueview shows it.
"""

from collections.abc import Iterable, Iterator

from p2vd.copying.layout import BLOCK, REGION_BLOCKS, Layout, merge_ranges, runs
from p2vd.copying.region import Region

FINISHED, UNTRIED, BAD = "+", "?", "-"

Range = tuple[int, int]


def mapfile(layout: Layout, regions: Iterable[Region], bad: Iterable[Range], made_by: str) -> Iterator[str]:
    """Yield the lines of the mapfile of a checkpoint's `regions`, ascending, and `bad` byte ranges."""
    blocks = [*_blocks(layout.source_bytes, merge_ranges(_done(layout, regions)), merge_ranges(bad))]
    untried = next((start for start, _, status in blocks if status == UNTRIED), None)
    yield f"# Mapfile. Created by {made_by}\n"
    yield "# current_pos  current_status  current_pass\n"
    status = FINISHED if untried is None else UNTRIED
    yield f"0x{layout.source_bytes if untried is None else untried:08X}     {status}               1\n"
    yield "#      pos        size  status\n"
    for start, length, status in blocks:
        yield f"0x{start:08X}  0x{length:08X}  {status}\n"


def _done(layout: Layout, regions: Iterable[Region]) -> Iterator[Range]:
    for region in regions:
        for first, count in runs(region.done):
            start = (region.number * REGION_BLOCKS + first) * BLOCK
            if start < layout.source_bytes:
                yield start, min(count * BLOCK, layout.source_bytes - start)


def _blocks(size: int, done: list[Range], bad: list[Range]) -> Iterator[tuple[int, int, str]]:
    """Yield (start, length, status) from end to end; neighbours of one status are one."""
    marks: list[tuple[int, int, str]] = []
    at = 0
    for start, length in done:
        if start > at:
            marks.append((at, start - at, UNTRIED))
        marks.append((start, length, FINISHED))
        at = start + length
    if at < size:
        marks.append((at, size - at, UNTRIED))
    remaining = iter(bad)
    hole = next(remaining, None)
    for start, length, status in marks:
        at, end = start, start + length
        while hole is not None and hole[0] < end:
            if hole[0] > at:
                yield at, hole[0] - at, status
            yield max(hole[0], at), min(sum(hole), end) - max(hole[0], at), BAD
            at = min(sum(hole), end)
            if sum(hole) > end:
                break
            hole = next(remaining, None)
        if at < end:
            yield at, end - at, status
