"""Where a benchmark runs: loop devices of its own, or two devices that were given to it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from p2vd.copying import block_endpoints
from p2vd.copying.opener import Opener
from p2vd.model.errors import P2vdError
from p2vd.model.size import format_size
from p2vd.system import block
from p2vd.system.command import SystemCommands
from tests import loop
from tests.benchmark.content import Content, fill_device, zero_share

_SECTOR = 4096  # direct I/O of a loop device needs no less where the disk below has such sectors
_SPARE = 1.05


class NotHere(Exception):
    """A row cannot be run here: says why."""


@dataclass(frozen=True)
class Pair:
    """A source that is filled and a target that holds old bytes. `size_bytes` is the source's."""

    source: Path
    target: Path
    size_bytes: int
    sector_bytes: int


class Place(Protocol):
    """What has disks to copy between."""

    @property
    def may_fill(self) -> bool:
        """Whether sources may be written to."""

    def pair(self, size_bytes: int, content: Content) -> contextlib.AbstractContextManager[Pair]:
        """A pair of disks, the source filled with `content`. Raises NotHere."""

    def pairs(self, count: int, size_bytes: int) -> contextlib.AbstractContextManager[list[Pair]]:
        """Pairs of disks filled with random data. Raises NotHere."""

    def __str__(self) -> str:
        """What it is, for the head of the report."""


def need_space(directory: Path, size_bytes: int) -> None:
    """Raise NotHere where a directory has less room than that."""
    free = shutil.disk_usage(directory).free
    if free < size_bytes * _SPARE:
        needed = format_size(round(size_bytes * _SPARE))
        raise NotHere(f"it needs {needed} in {directory}, which has {format_size(free)}")


def need_direct_io(directory: Path) -> None:
    """Raise NotHere where files of a directory have no direct I/O: then memory would be measured."""
    probe = directory / "direct-io"
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise NotHere(f"the filesystem of {directory} has no direct I/O ({error.strerror})") from error
    finally:
        probe.unlink(missing_ok=True)


@dataclass(frozen=True)
class OwnDisks:
    """Loop devices with direct I/O upon files in a directory."""

    directory: Path

    may_fill: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"loop devices upon files in {self.directory.parent}"

    @contextmanager
    def pair(self, size_bytes: int, content: Content) -> Iterator[Pair]:
        """Make both; zeros are not written into the source, so that reading them costs nothing."""
        need_space(self.directory, size_bytes if content is Content.ZERO else 2 * size_bytes)
        with contextlib.ExitStack() as stack:
            yield self._make(stack, "0", size_bytes, content)

    @contextmanager
    def pairs(self, count: int, size_bytes: int) -> Iterator[list[Pair]]:
        """Make them all, on the same disk below."""
        need_space(self.directory, 2 * count * size_bytes)
        with contextlib.ExitStack() as stack:
            yield [self._make(stack, str(number), size_bytes, Content.RANDOM) for number in range(count)]

    def _make(self, stack: contextlib.ExitStack, name: str, size_bytes: int, content: Content) -> Pair:
        if why := loop.why_not():
            raise NotHere(why)
        need_direct_io(self.directory)
        devices = []
        for role in ("source", "target"):
            backing = self.directory / f"{role}-{name}"
            stack.callback(backing.unlink, missing_ok=True)
            device = Path(stack.enter_context(loop.Loop(backing, size_bytes, _SECTOR)).device)
            if Path(f"/sys/block/{device.name}/loop/dio").read_text().strip() != "1":
                raise NotHere(f"{device} upon {self.directory} has no direct I/O")
            devices.append(device)
        if content is not Content.ZERO:
            fill_device(devices[0], content)
        fill_device(devices[1], Content.OLD)
        return Pair(devices[0], devices[1], size_bytes, _SECTOR)


@dataclass(frozen=True)
class GivenDisks:
    """A source and a target device; the source is only written to where `may_fill` says so."""

    source: Path
    target: Path
    may_fill: bool
    size_bytes: int
    sector_bytes: int
    found_zero: float

    def __str__(self) -> str:
        text = f"{self.source} ({format_size(self.size_bytes)}) to {self.target}"
        return text if self.may_fill else f"{text}; of the source as found {self.found_zero:.0%} is zero"

    @classmethod
    def checked(cls, source: Path, target: Path, *, may_fill: bool) -> "GivenDisks":
        """Let p2vd-copy's own checks judge both devices. Raises NotHere with what they say.

        The source too must be without signatures and holders: if it may be overwritten, for the same
        reason as a target; if not, because the host would take its copy on the target for the original.
        """
        for path in (source, target):
            if not path.is_block_device():
                raise NotHere(f"{path} is no block device")
        opener = Opener(SystemCommands())
        fds = []
        try:
            opened = block_endpoints.open_source(source, opener)
            fds.append(opened.fd)
            end = block_endpoints.open_target(target, opened, opener)
            fds.append(end.fd)
            block_endpoints.check_empty(target, end, opener, force=True, claimed_zero=False)
            try:
                block_endpoints.check_empty(source, opened, opener, force=True, claimed_zero=False)
            except P2vdError as error:
                raise NotHere(f"the source too must hold no signature: {error}") from error
            if may_fill and block.is_read_only(opened.fd):
                raise NotHere(f"{source} is read-only")
        except P2vdError as error:
            raise NotHere(f"p2vd-copy's checks refuse it: {error}") from error
        finally:
            for fd in fds:
                os.close(fd)
        return cls(source, target, may_fill, opened.size_bytes, opened.sector_size, zero_share(source))

    @contextmanager
    def pair(self, size_bytes: int, content: Content) -> Iterator[Pair]:
        """The two devices, whole: `size_bytes` is not asked."""
        del size_bytes
        if self.may_fill:
            fill_device(self.source, content)
        elif content is not Content.RANDOM:
            raise NotHere(f"its source must hold {content.value}: --overwrite-source allows to write that")
        fill_device(self.target, Content.OLD)
        yield Pair(self.source, self.target, self.size_bytes, self.sector_bytes)

    def pairs(self, count: int, size_bytes: int) -> contextlib.AbstractContextManager[list[Pair]]:
        """Two devices are one pair."""
        del size_bytes
        raise NotHere(f"it needs {count} pairs of devices; one was given")
