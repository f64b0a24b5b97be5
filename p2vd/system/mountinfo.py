"""The host's mounts, as proc(5) tells them.

The daemon's own sandbox has others: each path that it may write to is a mount there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_ESCAPED = re.compile(r"\\(040|011|012|134)")

_MOUNT_POINT, _SEPARATOR = 4, "-"


@dataclass(frozen=True)
class Mount:
    """Where a filesystem is mounted, its kind (`nfs4`), and what is mounted there (`filer:/exports/old`).

    `id`: the kernel's, which no other mount gets as long as somebody has a file of this one open.
    """

    point: str
    kind: str = ""
    source: str = ""
    id: str = ""

    def __str__(self) -> str:
        return f"{self.point} ({self.kind}, {self.source})" if self.kind else self.point


def read(proc: Path = Path("/proc")) -> str:
    """Return the mountinfo of process 1. Raises OSError."""
    try:
        return (proc / "1/mountinfo").read_text("utf-8", "surrogateescape")
    except PermissionError:  # another process's namespace needs ptrace rights, which the unit has
        return (proc / "self/mountinfo").read_text("utf-8", "surrogateescape")


def unescape(text: str) -> str:
    """Return a path as it is: space, tab, newline and backslash are octal in mountinfo."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def above(path: str, text: str) -> list[Mount]:
    """Return the mounts of `text` on which a canonical path may be, its own first. Asks no filesystem.

    The longest mount point; of those at one place the latest, which is mounted over the others. Lines that
    are none of mountinfo are passed over.
    """
    found: list[tuple[int, int, Mount]] = []
    for line in text.splitlines():
        words = line.split(" ")
        if _SEPARATOR not in words or len(words) < words.index(_SEPARATOR) + 3:
            continue
        point, (kind, source) = unescape(words[_MOUNT_POINT]), words[words.index(_SEPARATOR) + 1 :][:2]
        if path == point or path.startswith(point.rstrip("/") + "/"):
            found.append((len(point), len(found), Mount(point, kind, unescape(source), words[0])))
    return [mount for _, _, mount in sorted(found, key=lambda each: each[:2], reverse=True)]
