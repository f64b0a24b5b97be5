"""Writes one attribute of sysfs: `python -m p2vd.system.attribute PATH TEXT`.

A process of its own, because the kernel may keep the writer for as long as a sick device takes; whoever
asked can leave it behind. Imports next to nothing: it starts fast.
"""

import os
import sys


def main(path: str, text: str) -> int:
    """Write in one system call, as sysfs wants it. Returns the exit status; 1: it says why not."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        print(f"{path}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
