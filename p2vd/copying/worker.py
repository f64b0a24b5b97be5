"""`p2vd-copy`: the worker under the daemon (`--daemon FD`), or the tool of its own."""

import sys
from collections.abc import Sequence

from p2vd.system import memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the daemon's worker where it says so, else the command-line tool."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    memory.one_arena()
    # Imported here: neither needs the other, and each copy starts one of them.
    if words[:1] == ["--daemon"]:
        from p2vd.copying import under_daemon

        return under_daemon.main(words)
    from p2vd.copying import standalone

    return standalone.main(words)


if __name__ == "__main__":
    raise SystemExit(main())
