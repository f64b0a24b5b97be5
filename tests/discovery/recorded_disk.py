"""Disks as tests/fixtures/contents/capture.py recorded them: what the tools said, and what was read."""

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2vd.discovery.examiner import Examiner
from p2vd.model.contents import Contents
from p2vd.system.command import Result
from tests.fakes import FakeCommands

FIXTURES = Path(__file__).parent.parent / "fixtures/contents"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
WHOLE = sorted({*NAMES} - {"bitlocker", "gpt-uefi", "luks", "mbr-grub"})
"""Those of which all was recorded that blkid finds; of the others, superblocks of partitions were not."""


class RecordedDisk:
    """Gives back what was read when the disk was recorded; another read fails the test."""

    path = "DISK"

    def __init__(self, recording: dict[str, Any]) -> None:
        self.size_bytes = int(recording["size_bytes"])
        self.sector_size = int(recording["sector_size"])
        self.physical_sector_size = int(recording["physical_sector_size"])
        self.known = {
            (offset, length): zlib.decompress(base64.b64decode(data))
            for offset, length, data in recording["reads"]
        }

    def read(self, offset: int, length: int) -> bytes:
        # A read that met the end is kept with the length it got.
        for (start, size), data in self.known.items():
            if start <= offset and offset + length <= start + size:
                return data[offset - start : offset - start + length]
        raise AssertionError(f"{length} bytes at {offset} were not recorded")

    def sparse_read(self, offset: int, length: int) -> bytes:
        """As `read`, and zeros where nothing was recorded."""
        found = bytearray(length)
        for (start, _), data in self.known.items():
            first, end = max(offset, start), min(offset + length, start + len(data))
            if first < end:
                found[first - offset : end - offset] = data[first - start : end - start]
        return bytes(found)

    def write_to(self, path: Path) -> None:
        """Make a sparse image of what was recorded."""
        with path.open("wb") as file:
            file.truncate(self.size_bytes)
            for (offset, _), data in self.known.items():
                file.seek(offset)
                file.write(data)


def recording(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return data


def recorded(name: str) -> tuple[RecordedDisk, FakeCommands]:
    """The disk `name`, and commands that answer as they did of it."""
    data = recording(name)
    commands = FakeCommands()
    for answer in data["commands"]:
        argv = tuple(answer["argv"])
        commands.on(argv, Result(argv, answer["returncode"], answer["stdout"], answer["stderr"]))
    return RecordedDisk(data), commands


def examined(name: str, scsi_paths: Sequence[str] = (), **answers: Any) -> Contents:
    """What the examiner says of the disk `name`; `answers` of sg_persist: reservation, keys."""
    disk, commands = recorded(name)
    for option, key in (("--read-reservation", "reservation"), ("--read-keys", "keys")):
        commands.on(f"sg_persist --in --no-inquiry --readonly {option}", *answers.get(key, ("",)))
    return Examiner(commands).examine(disk, scsi_paths)
