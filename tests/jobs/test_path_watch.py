"""A path of a running copy that comes back is asked who it is, and what is asked may hang."""

import threading
from dataclasses import replace

import pytest

from p2vd.jobs.control import PathReplaced
from p2vd.jobs.path_watch import ASK_AGAIN_S, ASK_SILENT_S, PathWatch, elsewhere
from p2vd.model.disk import PathState, ScsiPath, Source
from p2vd.model.inventory import Inventory
from p2vd.system.command import Result
from tests.fakes import FakeCommands
from tests.jobs.values import WWID, scsi_path, source

OTHER = "36001405ffffffffffffffffffffffffff"
LONG_S = 60.0
SILENT = Result((), 1, "", "")


def lun(*paths: ScsiPath) -> Source:
    return replace(source(), paths=paths)


def seen(**states: PathState) -> Inventory:
    return Inventory((lun(*(scsi_path(device, state) for device, state in states.items())),))


READY, FAULTY, UNKNOWN = PathState.READY, PathState.FAULTY, PathState.UNKNOWN


def await_end(name: str) -> None:
    """Wait for the threads that ask the paths of that name; of others there are none."""
    for thread in threading.enumerate():
        if thread.name.startswith(name):
            thread.join(LONG_S)
            assert not thread.is_alive()


class Watched:
    """A copy of a LUN by sda and sdb, each of which answers as it is told to."""

    def __init__(self, *silent: str) -> None:
        self.commands = FakeCommands().on("sg_turs", "")
        self.says("sda", WWID).says("sdb", WWID).says("sdc", WWID)
        self.watch = PathWatch(self.commands, (source(),), silent, 0.0)

    def says(self, device: str, wwid: str | Result) -> "Watched":
        self.commands.replace(f"/lib/udev/scsi_id -g -u -d /dev/{device}", wwid)
        return self

    def look(self, now_s: float, **states: PathState) -> PathReplaced | None:
        """Look once to ask, and once more when what was asked has answered."""
        found = self.watch.look(seen(**states), now_s)
        await_end("ask-")
        return found or self.watch.look(seen(**states), now_s)

    def asked(self) -> list[str]:
        """Which paths were asked since this was last asked."""
        asked = [argv[-1].removeprefix("/dev/") for argv in self.commands.queries if "scsi_id" in argv[0]]
        self.commands.calls.clear()
        return asked

    def sound(self) -> list[str]:
        return [path.device for path in self.watch.sound(lun(*map(scsi_path, ("sda", "sdb", "sdc"))))]


def test_a_path_that_was_asked_and_stays_is_asked_now_and_then() -> None:
    """An array that gives the number away at once leaves no path down in between."""
    copy = Watched()
    assert copy.look(1.0, sda=READY, sdb=READY) is None
    assert copy.asked() == []
    copy.says("sdb", OTHER)
    found = copy.look(ASK_AGAIN_S, sda=READY, sdb=READY)
    assert sorted(copy.asked()) == ["sda", "sdb"]
    assert found is not None
    assert (found.device, found.expected, found.found) == ("/dev/sdb", WWID, OTHER)
    assert found.name == "IdentityChanged"
    assert copy.sound() == ["sda"]
    assert f"/dev/sdb, a path of {WWID}, leads to {OTHER} by now" in str(found)
    assert "--remove-target" in str(found)


def test_a_path_that_comes_back_as_another_lun_is_found() -> None:
    copy = Watched()
    assert copy.look(1.0, sda=READY, sdb=FAULTY) is None
    assert copy.sound() == ["sda"]
    copy.says("sdb", OTHER)
    assert copy.look(2.0, sda=READY, sdb=FAULTY) is None
    assert copy.asked() == []
    found = copy.look(3.0, sda=READY, sdb=READY)
    assert found is not None
    assert found.found == OTHER
    assert copy.asked() == ["sdb"]


def test_a_path_that_comes_back_as_it_was_is_asked_once() -> None:
    copy = Watched()
    copy.look(1.0, sda=READY, sdb=FAULTY)
    assert copy.look(2.0, sda=READY, sdb=READY) is None
    assert copy.look(3.0, sda=READY, sdb=READY) is None
    assert copy.asked() == ["sdb"]
    assert copy.sound() == ["sda", "sdb"]


@pytest.mark.parametrize("state", [READY, UNKNOWN])
def test_a_new_path_is_asked(state: PathState) -> None:
    copy = Watched()
    assert copy.look(1.0, sda=READY, sdb=READY, sdc=state) is None
    assert copy.asked() == ["sdc"]
    assert copy.sound() == ["sda", "sdb", "sdc"]


def test_one_that_was_away_between_two_looks_is_asked() -> None:
    copy = Watched()
    copy.look(1.0, sda=READY, sdb=READY)
    copy.watch.note(seen(sda=READY, sdb=FAULTY))
    copy.watch.note(seen(sda=READY, sdb=READY))
    copy.look(2.0, sda=READY, sdb=READY)
    assert copy.asked() == ["sdb"]


def test_one_that_was_away_altogether_is_new() -> None:
    copy = Watched()
    copy.look(1.0, sda=READY)
    copy.look(2.0, sda=READY, sdb=READY)
    assert copy.asked() == ["sdb"]
    assert copy.watch.look(Inventory(), 3.0) is None
    assert copy.sound() == []


def test_what_was_silent_when_the_devices_were_opened_is_asked() -> None:
    copy = Watched("sdb")
    assert copy.sound() == ["sda"]
    copy.look(1.0, sda=READY, sdb=READY)
    assert copy.asked() == ["sdb"]


def test_one_that_does_not_answer_is_asked_until_it_does() -> None:
    copy = Watched("sdb").says("sdb", SILENT)
    for now_s in (1.0, 2.0, 1.0 + ASK_SILENT_S):
        assert copy.look(now_s, sda=READY, sdb=READY) is None
    assert copy.asked() == ["sdb", "sdb"]
    assert copy.sound() == ["sda"]
    copy.says("sdb", OTHER)
    assert copy.look(1.0 + 2 * ASK_SILENT_S, sda=READY, sdb=READY) is not None


class Hanging(FakeCommands):
    """An INQUIRY of sdb hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.on("sg_turs", "")
        self.begun, self.goes = threading.Event(), threading.Event()

    def query(self, argv: object, *, timeout_s: float = 30.0, ok: object = (0,)) -> Result:
        assert isinstance(argv, list)
        if argv[-1] == "/dev/sdb":
            self.begun.set()
            assert self.goes.wait(LONG_S)
        return super().query(argv)


def test_an_inquiry_that_hangs_holds_up_neither_the_look_nor_the_other_paths() -> None:
    copy = Watched("sda", "sdb")
    copy.commands = copy.watch._commands = Hanging()
    copy.says("sda", OTHER).says("sdb", WWID)
    assert copy.watch.look(seen(sdb=READY), 1.0) is None
    assert copy.commands.begun.wait(LONG_S)
    assert copy.watch.look(seen(sda=READY, sdb=READY), 2.0) is None
    await_end("ask-sda")
    assert copy.watch.look(seen(sda=READY, sdb=READY), 3.0) is not None
    # The answer of before it went away once more says nothing of what comes back.
    copy.watch.look(seen(sda=READY, sdb=FAULTY), 4.0)
    copy.says("sda", WWID)
    copy.commands.goes.set()
    copy.look(5.0, sda=FAULTY, sdb=FAULTY)
    assert copy.sound() == []
    copy.asked()
    copy.look(6.0, sda=FAULTY, sdb=READY)
    assert copy.asked() == ["sdb"]
    assert copy.sound() == ["sdb"]


def test_without_a_thread_a_path_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Watched("sdb")

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        assert copy.look(1.0, sda=READY, sdb=READY) is None
    assert copy.asked() == []
    copy.look(1.0 + ASK_SILENT_S, sda=READY, sdb=READY)
    assert copy.asked() == ["sdb"]


def test_an_nvme_namespace_is_the_kernels_own_to_ask() -> None:
    copy = Watched()
    namespace = lun(replace(scsi_path("nvme0n1"), hctl=""))
    copy.watch.look(Inventory((namespace,)), 1.0)
    assert copy.watch._under_way == {}
    assert copy.asked() == []


def test_all_paths_are_asked_at_once_where_somebody_waits() -> None:
    copy = Watched()
    assert elsewhere(copy.commands, source()) is None
    copy.says("sdb", OTHER)
    found = elsewhere(copy.commands, source())
    assert found is not None
    assert found.device == "/dev/sdb"
