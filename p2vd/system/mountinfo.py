"""The host's mounts, as proc(5) tells them.

The daemon's own sandbox has others: each path that it may write to is a mount there.
"""

import re
from pathlib import Path

_ESCAPED = re.compile(r"\\(040|011|012|134)")


def read(proc: Path = Path("/proc")) -> str:
    """Return the mountinfo of process 1. Raises OSError."""
    try:
        return (proc / "1/mountinfo").read_text("utf-8", "surrogateescape")
    except PermissionError:  # another process's namespace needs ptrace rights, which the unit has
        return (proc / "self/mountinfo").read_text("utf-8", "surrogateescape")


def unescape(text: str) -> str:
    """Return a path as it is: space, tab, newline and backslash are octal in mountinfo."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
