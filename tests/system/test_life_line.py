"""Whether a child or one of its own is there still: by a pipe that both have open."""

import os
import signal
import sys
from pathlib import Path

import pytest

from p2vd.system.descriptors import SeqpacketChannel
from p2vd.system.life_line import LifeLine
from p2vd.system.process import spawn
from tests.waiting import until, until_stopped

LONG_S = 40.0
BY_SANDBOX = "sandbox.start(['sleep', '600'], [], sandbox.Limits())"
BY_QUERY = "command.SystemCommands().query(['sleep', '600'], timeout_s=600)"
CHILD = """
import sys, threading
from p2vd.system import command, life_line, sandbox
from p2vd.system.descriptors import SeqpacketChannel
life_line.hand_down(int(sys.argv[2]))
SeqpacketChannel.from_fd(int(sys.argv[1])).send({"ready": True})
STARTS
threading.Event().wait()
"""


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("starts", [BY_SANDBOX, BY_QUERY], ids=["sandbox", "query"])
def test_a_child_of_the_child_that_outlives_it_is_known(starts: str) -> None:
    """A stopped process hears no SIGTERM, as one that is in the kernel."""
    ours, theirs = SeqpacketChannel.pair()
    line = LifeLine()
    words = (str(theirs.fileno()), str(line.theirs))
    child = spawn(
        [sys.executable, "-c", CHILD.replace("STARTS", starts), *words], theirs.fileno(), also=[line.theirs]
    )
    theirs.close()
    line.started()
    with ours:
        assert ours.receive(LONG_S) is not None
        found = until(lambda: children(child.pid), within_s=LONG_S)
        os.kill(found[0], signal.SIGSTOP)
        until_stopped(found[0])
        try:
            child.kill()
            child.wait(LONG_S)
            assert line.held
        finally:
            os.kill(found[0], signal.SIGKILL)
        until(lambda: not line.held, within_s=LONG_S)


def test_what_is_written_into_it_is_no_end() -> None:
    line = LifeLine()
    os.write(line.theirs, b"junk")
    assert line.held
    line.started()
    assert not line.held
