"""The disposable helper that looks at what is on a disk, and changes nothing.

`python -m p2vd.discovery.examiner --channel FD`. Everything that can hang on a sick disk happens here,
in a process the daemon can do without. A disk is opened read-only, so that its close makes no event of
udev, and not exclusively, for nobody is to be kept from it; the tools get the open descriptor's own
name, so that all look at one device. Partitions are read at their offsets: nothing is scanned,
mapped, activated or mounted.
"""

import argparse
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from p2vd.discovery import examining
from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.discovery.lvm_label import read_volume_group
from p2vd.discovery.ntfs import NtfsUnclear, read_ntfs
from p2vd.discovery.partitions import (
    GPT,
    PARTX_COLUMNS,
    PROTECTIVE,
    boot_style,
    parse_partitions,
    parse_probe,
    read_mbr,
    table_of,
)
from p2vd.discovery.sampling import sample_zeros
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.contents import BootStyle, Contents, Partition, Reservation, Signature, Table
from p2vd.model.errors import P2vdError
from p2vd.model.size import MIB
from p2vd.system import block, life_line
from p2vd.system.command import CommandFailed, CommandTimedOut, Result, SystemCommands
from p2vd.system.descriptors import SeqpacketChannel

# util-linux's tools end at once on a well disk; the daemon's deadline for all of it is longer.
_TOOL_TIMEOUT_S = 15.0
_BLKID = ("blkid", "--probe", "--no-part-details", "--output", "udev")
# blkid(8): nothing found, or not to be told apart.
_NOTHING_FOUND, _AMBIVALENT = 2, 8
# sg_persist(8): it reads what the LUN knows, by any path, and takes nothing.
_PERSIST = ("sg_persist", "--in", "--no-inquiry", "--readonly")
# sg3_utils(8): illegal request and invalid opcode (the array has no reservations), ENOTTY (no SCSI disk).
_NO_RESERVATIONS = (5, 9, 50 + errno.ENOTTY)
_HOLDER = re.compile(r"Key=(\S+).*?type: ([^\n]+)", re.DOTALL)
_KEYS = re.compile(r"(\d+) registered reservation key")

_MAX_PROBED = 64


@dataclass(eq=False)
class DiskChanged(P2vdError):
    """The device is not the one that discovery saw."""

    devnode: str
    field: str
    template: ClassVar[str] = (
        "{devnode} is another disk now: its {field} has changed. Rescan (p2vctl rescan)."
    )


class Disk(Protocol):
    """A disk open for reading. `path` is what tools may open to see the same device."""

    path: str
    size_bytes: int
    sector_size: int
    physical_sector_size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end. Raises OSError."""
        ...


class Tools(Protocol):
    """What runs the tools that look at a disk: system.command's Commands, or discovery.facsimile's."""

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Run a command that changes nothing. Raises CommandFailed, CommandTimedOut."""
        ...


class OpenedDisk:
    """A block device or an image, open for reading. Raises OSError."""

    def __init__(self, devnode: str) -> None:
        # O_NONBLOCK: a device that would wait for something (a medium, a peer) fails instead.
        self.fd = os.open(devnode, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.size_bytes = block.size_bytes(self.fd)
        self.sector_size = block.sector_size(self.fd)
        self.physical_sector_size = block.physical_sector_size(self.fd)
        # Another host may have written since somebody here read last: nothing is to come from the cache.
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end. Raises OSError."""
        data = b""
        length = min(length, max(0, self.size_bytes - offset))  # what is on a disk may point anywhere
        while len(data) < length and (piece := os.pread(self.fd, length - len(data), offset + len(data))):
            data += piece
        return data

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)


@dataclass
class Examiner:
    """Looks at one disk after another.

    `sector_size`: the disks' logical one in bytes, where what the tools open does not tell it; else 0.
    """

    commands: Tools
    sector_size: int = 0
    _problems: list[str] = field(default_factory=list)

    def answer(self, request: ExamineRequest) -> ExamineReply:
        """Open the disk and return what is on it; what goes wrong is a reply too."""
        try:
            disk = OpenedDisk(request.devnode)
        except OSError as error:
            return ExamineReply(problem=f"{request.devnode} cannot be opened: {error.strerror or error}")
        try:
            self._expect(disk, request)
            if request.sample_blocks:
                sample = sample_zeros(disk, request.block_bytes, request.sample_blocks)
                return ExamineReply(sample=sample)
            return ExamineReply(self.examine(disk, request.scsi_paths))
        except OSError as error:
            return ExamineReply(problem=f"{request.devnode} cannot be read: {error.strerror or error}")
        except P2vdError as error:
            return ExamineReply(problem=str(error))
        finally:
            disk.close()

    def examine(self, disk: Disk, scsi_paths: Sequence[str] = ()) -> Contents:
        """Return what is on `disk`. Raises OSError, CommandFailed, CommandTimedOut, ToolUnclear."""
        self._problems = []
        reservation, keys = self._reservation(scsi_paths)
        nothing = Contents(Table.NONE, BootStyle.NONE, disk.physical_sector_size)
        try:
            found = self._look(disk, nothing)
        except OSError as error:
            # A reservation may exclude reading: the kernel says EBADE for a reservation conflict.
            if error.errno != errno.EBADE and reservation is None:
                raise
            reservation = reservation or Reservation("unknown", "reads are refused")
            found = replace(nothing, problems=("A reservation keeps this host from reading it.",))
        return replace(
            found,
            reservation=reservation,
            registered_keys=keys,
            problems=(*found.problems, *self._problems),
        )

    def _expect(self, disk: OpenedDisk, request: ExamineRequest) -> None:
        seen = (
            ("size", disk.size_bytes == request.size_bytes),
            ("sector size", not block.is_block(disk.fd) or disk.sector_size == request.sector_size),
            ("device-mapper UUID", not request.dm_uuid or block.dm_uuid(disk.fd) == request.dm_uuid),
        )
        for name, same in seen:
            if not same:
                raise DiskChanged(request.devnode, name)

    # ---- what is on it ----------------------------------------------------------------------------

    def _look(self, disk: Disk, nothing: Contents) -> Contents:
        head = disk.read(0, MIB)
        tail = disk.read(max(0, disk.size_bytes - MIB), MIB)
        mbr = read_mbr(head[:512])
        signature, table_name = self._probe(disk, 0, disk.size_bytes)
        partitions = self._partitions(disk) if table_name else ()
        if self.sector_size and table_name in (GPT, PROTECTIVE):
            # blkid takes a file's sectors for 512 bytes; partx was told, and finds the GPT that fits.
            fits = table_name == PROTECTIVE and bool(partitions)
            table_name, partitions = (GPT, partitions) if fits else (PROTECTIVE, ())
        table = table_of(table_name, mbr, head, disk.sector_size)
        return replace(
            nothing,
            table=table,
            boot=boot_style(table, mbr, partitions),
            signature=self._detailed(disk, 0, signature),
            partitions=tuple(
                self._with_signature(disk, one, probe=index < _MAX_PROBED)
                for index, (one, _) in enumerate(partitions)
            ),
            blank=not any(head) and not any(tail),
        )

    def _partitions(self, disk: Disk) -> tuple[tuple[Partition, int], ...]:
        sectors = ["--sector-size", str(self.sector_size)] if self.sector_size else []
        argv = ["partx", "--pairs", "--bytes", *sectors, "-o", PARTX_COLUMNS, disk.path]
        # 1: no table that it can read. blkid saw one, so that is said.
        answer = self.commands.query(argv, timeout_s=_TOOL_TIMEOUT_S, ok=(0, 1))
        if answer.returncode:
            self._problems.append(f"Its partitions cannot be listed: {' '.join(answer.stderr.split())}.")
            return ()
        found = parse_partitions(answer.stdout)
        if len(found) > _MAX_PROBED:
            self._problems.append(
                f"Only the first {_MAX_PROBED} of its {len(found)} partitions were looked at."
            )
        return found

    def _with_signature(self, disk: Disk, partition: Partition, *, probe: bool) -> Partition:
        start, end = partition.start_bytes, partition.start_bytes + partition.size_bytes
        if end > disk.size_bytes:
            self._problems.append(
                f"Partition {partition.number} ends beyond the disk: the disk was larger when it was made."
            )
            return partition
        if not probe:
            return partition
        signature, _ = self._probe(disk, start, partition.size_bytes)
        return replace(partition, signature=self._detailed(disk, start, signature))

    def _probe(self, disk: Disk, offset: int, size: int) -> tuple[Signature, str]:
        place = ["--offset", str(offset), "--size", str(size)] if offset else []
        answer = self.commands.query(
            [*_BLKID, *place, disk.path], timeout_s=_TOOL_TIMEOUT_S, ok=(0, _NOTHING_FOUND, _AMBIVALENT)
        )
        return parse_probe(answer.stdout)

    def _detailed(self, disk: Disk, start: int, signature: Signature) -> Signature:
        """Return the signature with what libblkid does not tell."""

        def read(offset: int, length: int) -> bytes:
            return disk.read(start + offset, length)

        if signature.type == "LVM2_member":
            return replace(signature, volume_group=read_volume_group(read))
        if signature.type == "swsuspend":
            return replace(signature, hibernated=True)
        if signature.type == "ntfs":
            where = f"The NTFS at {start} bytes"
            try:
                state = read_ntfs(read)
            except NtfsUnclear as error:
                self._problems.append(f"{where} cannot be read: {error.problem}.")
                return signature
            if state.problem:
                self._problems.append(f"{where} does not tell whether Windows hibernated: {state.problem}.")
            return replace(signature, dirty=state.dirty, hibernated=state.hibernated)
        return signature

    # ---- who has reserved it ----------------------------------------------------------------------

    def _reservation(self, scsi_paths: Sequence[str]) -> tuple[Reservation | None, int]:
        """Return the reservation and how many keys are registered, by the first path that answers."""
        for name in scsi_paths:
            try:
                held = self._persist("--read-reservation", name)
                keys = _KEYS.search(self._persist("--read-keys", name))
            except (CommandFailed, CommandTimedOut) as error:
                problem = str(error)
                continue
            if "Key=" not in held:
                return None, int(keys.group(1)) if keys else 0
            holder = _HOLDER.search(held)
            key, kind = holder.groups() if holder else ("unknown", " ".join(held.split()))
            return Reservation(key, kind.strip()), int(keys.group(1)) if keys else 0
        if scsi_paths:
            self._problems.append(f"Its reservations cannot be read: {problem}")
        return None, 0

    def _persist(self, what: str, name: str) -> str:
        answer = self.commands.query(
            [*_PERSIST, what, f"/dev/{name}"], timeout_s=_TOOL_TIMEOUT_S, ok=(0, *_NO_RESERVATIONS)
        )
        return answer.stdout if answer.returncode == 0 else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer requests on the inherited channel until it is closed."""
    parser = argparse.ArgumentParser(prog="p2vd-examiner", description=__doc__)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--life-line", type=int, metavar="FD", help="what children inherit")
    options = parser.parse_args(arguments)
    if options.life_line is not None:
        life_line.hand_down(options.life_line)
    examiner = Examiner(SystemCommands())
    with SeqpacketChannel.from_fd(options.channel) as channel:
        try:
            channel.send(examining.READY)
            while (packet := channel.receive()) is not None:
                request = from_dict(ExamineRequest, packet[0])
                channel.send(to_dict(examiner.answer(request)))
        except BrokenPipeError:
            return 1  # the daemon did not wait for us
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
