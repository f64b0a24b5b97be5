"""Image files as sources: those in the directories that the configuration names, and under loop devices.

An image has no WWID: it is its canonical path, its size and its file id. The file id is the inode with
its time of birth, so that a file put in the place of another is another, and that a restart, which may
number filesystems anew, changes nothing. How a file holds its disk is said by its name, never guessed.

`find` and `stat` look, in a process that can be left behind: a file server that is away hangs whoever asks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2vd.model.errors import OutputUnclear
from p2vd.model.forms import IMAGE_NAMES, PACKED_BEGINNINGS, SourceFormat
from p2vd.system.command import Commands

_TIMEOUT_S = 15.0
_HEAD_BYTES = 8
_FORMATS = {
    b"QFI\xfb": "qcow2",
    b"QED\0": "qed",
    b"KDMV": "vmdk",
    b"COWD": "vmdk",
    b"vhdxfile": "vhdx",
    b"conectix": "vhd",
    b"<<< ": "vdi",
    **{begin: form.value for begin, form in PACKED_BEGINNINGS.items()},
}
"""How image formats begin that are no disk's own bytes (their specifications, and QEMU's block/)."""


@dataclass(frozen=True)
class ImageFile:
    """One file: its canonical path, its own size, what tells it from another file of that path.

    `modified_us`: when it was last written, by the clock of its file server.
    """

    path: str
    size_bytes: int
    file_id: str
    modified_us: int = 0

    @property
    def format(self) -> SourceFormat:
        """How it holds the disk, as its name says."""
        return IMAGE_NAMES.get(Path(self.path).suffix, SourceFormat.RAW)


def find_images(commands: Commands, directory: Path) -> tuple[ImageFile, ...]:
    """Return the images in a directory, which is not searched deeper, in the order of their names.

    Raises CommandFailed (as where the directory is not there), CommandTimedOut, OutputUnclear.
    """
    place = commands.query(["readlink", "-e", "--", str(directory)], timeout_s=_TIMEOUT_S).stdout
    if not place.startswith("/") or not place.endswith("\n"):
        raise OutputUnclear(f"readlink -e {directory}", place[:80])
    names = [word for suffix in IMAGE_NAMES for word in ("-o", "-name", f"*{suffix}")][1:]
    look = [
        "find",
        place.removesuffix("\n"),
        "-maxdepth",
        "1",
        "-type",
        "f",
        "(",
        *names,
        ")",
        "-exec",
        *_STAT,
        "{}",
        "+",
    ]
    return tuple(sorted(_stat(commands, look), key=lambda image: image.path))


def file_ids(commands: Commands, paths: Sequence[str]) -> Mapping[str, str]:
    """Return the file ids of those `paths` that are there. Raises CommandTimedOut, OutputUnclear."""
    # 1: some of them are gone; the others were told.
    files = _stat(commands, [*_STAT, *paths], ok=(0, 1)) if paths else ()
    return {file.path: file.file_id for file in files}


def foreign_format(path: str) -> str:
    """Return the name of the format of an image that is no raw one, "" for a raw one. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123  (nothing of a Path is wanted)
        head = file.read(_HEAD_BYTES)
    return next((name for magic, name in _FORMATS.items() if head.startswith(magic)), "")


# The same order and words as `p2vd.system.block.file_id`; 0 where the filesystem knows no birth.
_STAT = ("stat", "--printf=%s %i@%.9W %.6Y %n\\0", "--")


_ENTRY = re.compile(r"(\d+) (\d+@-?\d+\.\d{9}) (-?\d+)\.(\d{6}) (/.*)", re.DOTALL)


def _stat(commands: Commands, argv: Sequence[str], ok: Sequence[int] = (0,)) -> list[ImageFile]:
    answer = commands.query(argv, timeout_s=_TIMEOUT_S, ok=ok).stdout
    *entries, rest = answer.split("\0")
    found = [_ENTRY.fullmatch(entry) for entry in entries]
    if rest or None in found:
        raise OutputUnclear(f"{argv[0]} (of image files)", answer[:80])
    return [ImageFile(one[5], int(one[1]), one[2], int(one[3] + one[4])) for one in found if one]
