"""Every form of a source into every form of a target: killed half-way, resumed, the same for a guest.

A form is one entry of a table. Without --full a sample runs: a third of the sources, the targets in turn.
"""

import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from p2vd.copying.layout import BLOCK
from tests.copying.nbd_server import NbdServer, command, needs, same_disk
from tests.copying.tool import Tool

pytestmark = needs("nbdkit", "qemu-img", "qemu-nbd")

SIZE = 24 * BLOCK + 3 * 512
DATA = 16 * BLOCK


@dataclass(frozen=True)
class Target:
    """What makes a target of that form, and how qemu-img reads it, after that tool has unpacked it."""

    words: tuple[str, ...]
    judged_as: str
    unpacked_by: str = ""

    def disk(self, target: Path) -> Path:
        """What qemu-img is shown: the target, or what was packed in it."""
        if not self.unpacked_by:
            return target
        unpacked = target.with_name("unpacked")
        with target.open("rb") as packed, unpacked.open("wb") as file:
            subprocess.run([self.unpacked_by, "-dc"], stdin=packed, stdout=file, check=True)
        return unpacked


@contextmanager
def raw(disk: Path) -> Iterator[list[str]]:
    yield [str(disk)]


@contextmanager
def over_nbd(disk: Path) -> Iterator[list[str]]:
    with NbdServer(disk.parent, "-r", "file", disk) as server:
        yield [server.uri]


def image(kind: str) -> Callable[[Path], AbstractContextManager[list[str]]]:
    @contextmanager
    def make(disk: Path) -> Iterator[list[str]]:
        path = disk.with_name(f"image.{kind}")
        options = ["-o", "force_size=on"] if kind == "vpc" else []
        command("qemu-img", "convert", "-f", "raw", "-O", kind, *options, disk, path)
        yield [str(path), "--source-format", kind]

    return make


def packed(form: str, *words: str) -> Callable[[Path], AbstractContextManager[list[str]]]:
    @contextmanager
    def make(disk: Path) -> Iterator[list[str]]:
        path = disk.with_name(f"image.{form}")
        with disk.open("rb") as unpacked, path.open("wb") as file:
            subprocess.run([*words, "-c"], stdin=unpacked, stdout=file, check=True)
        yield [str(path), "--source-format", form]

    return make


def packed_by_p2vd(form: str) -> Callable[[Path], AbstractContextManager[list[str]]]:
    @contextmanager
    def make(disk: Path) -> Iterator[list[str]]:
        path = disk.with_name(f"image.raw.{form}")
        code, _ = Tool(disk, path, "--target-format", f"raw.{form}").run()
        assert code == 0
        yield [str(path), "--source-format", form]

    return make


SOURCES: dict[str, Callable[[Path], AbstractContextManager[list[str]]]] = {
    "raw": raw,
    "nbd": over_nbd,
    **{kind: image(kind) for kind in ("qcow2", "vmdk", "vhdx", "vdi", "vpc")},
    "gz": packed("gz", "gzip", "-1"),
    "zst": packed("zst", "zstd", "-q"),
    "xz": packed("xz", "xz", "-0"),
    "raw.zst": packed_by_p2vd("zst"),
    "raw.gz": packed_by_p2vd("gz"),
}
"""Each makes the form of a raw disk and yields the words that name it as SOURCE."""

TARGETS: dict[str, Target] = {
    "raw": Target((), "raw"),
    "qcow2": Target(("--target-format", "qcow2"), "qcow2"),
    "qcow2, large clusters": Target(("--target-format", "qcow2", "--cluster-size", "2 MiB"), "qcow2"),
    "qcow2, zlib": Target(("--target-format", "qcow2", "--compress", "zlib"), "qcow2"),
    "qcow2, zstd": Target(("--target-format", "qcow2", "--compress", "zstd"), "qcow2"),
    "raw.zst": Target(("--target-format", "raw.zst"), "raw", "zstd"),
    "raw.gz": Target(("--target-format", "raw.gz", "--level", "1"), "raw", "gzip"),
}

SKIPPED: dict[tuple[str, str], str] = {}
"""Pairs that cannot be, each with the reason."""


def make_disk(path: Path, seed: int) -> None:
    """Random data, text that compresses, zeros and holes, in parts of 64 KiB."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        for at in range(0, DATA, 65536):
            kind = chance.random()
            if kind < 0.8:
                file.seek(at)
                file.write(chance.randbytes(65536) if kind < 0.6 else b"%08x" % at * 8192)
        file.truncate(SIZE)


def sampled(source: str, target: str, seed: int) -> bool:
    """Whether a pair is in the sample of that seed."""
    at = list(SOURCES).index(source) + zlib.crc32(str(seed).encode())
    return at % 3 == 0 and list(TARGETS).index(target) == at // 3 % len(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_killed_half_way_and_resumed_it_is_the_same_disk(
    tmp_path: Path, request: pytest.FixtureRequest, campaign_seed: int, source: str, target: str
) -> None:
    if reason := SKIPPED.get((source, target)):
        pytest.skip(reason)
    if not request.config.option.full and not sampled(source, target, campaign_seed):
        pytest.skip("not in this sample of the matrix; all of it runs with --full")
    disk, form = tmp_path / "disk", TARGETS[target]
    make_disk(disk, campaign_seed)
    with SOURCES[source](disk) as words:
        tool = Tool(words[0], tmp_path / "target", *words[1:], *form.words)
        tool.start("--bandwidth", "4 MiB")
        committed = tool.until_committed()
        tool.kill()
        assert 0 < committed < SIZE
        code, report = tool.run("--verify", "both")
    assert (code, report["failure"]) == (0, None), tool.said
    assert report["bytes_skipped"] >= committed
    assert report["source_stable"] == "proven"
    assert same_disk(disk, "raw", form.disk(tool.target), form.judged_as)
    if form.judged_as == "qcow2":
        assert "No errors" in command("qemu-img", "check", tool.target)
        if "--cluster-size" not in form.words:  # holes smaller than a cluster take space
            assert tool.target.stat().st_blocks * 512 < DATA + 4 * BLOCK


def test_every_pair_is_in_some_sample() -> None:
    pairs = {(source, target) for source in SOURCES for target in TARGETS}
    assert {pair for seed in range(400) for pair in pairs if sampled(*pair, seed)} == pairs
    assert all(any(sampled(*pair, seed) for pair in pairs) for seed in range(400))
