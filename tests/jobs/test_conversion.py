"""A guest's conversion: done once, undone when it fails, found again after a crash at any command."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.control import Interrupted, TryAgain
from p2vd.jobs.conversion import GuestConversion, leave_as_proven
from p2vd.jobs.machine_step import go_on
from p2vd.model.domain import Conversion
from p2vd.model.job import MachineState
from p2vd.model.lvm import Lv
from p2vd.registration.conversion import PROGRAM, Converter, flush_unit_of, unit_of
from p2vd.registration.errors import ConversionFailed, ConversionLost, ConverterMissing
from p2vd.system.command import ChangeUnknown, Result
from tests.fakes import FakeCommands
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine
from tests.jobs.values import plan

XML = "<domain/>"


class PowerCut(BaseException):
    """The daemon ends here."""


class Storage:
    """What outlives a daemon: the volume, its undo point, and what each holds."""

    def __init__(self, pool: str) -> None:
        tags = frozenset({f"p2vd.job={JOB.uuid}"})
        self.lv = Lv("lv-uuid", "erp1", JOB.plan.target.size_bytes, pool=pool, tags=tags, active=True)
        self.undo: Lv | None = None
        self.contents = {"lv-uuid": "copied"}
        self.changes = 0
        self.cut_before, self.cut_after = 0, 0
        self.converter_writes = "converted"
        self.converter_status = 0
        self.flush_status = 0

    def change(self, argv: tuple[str, ...]) -> Result:
        """Carry out one command, unless the power is cut before; or cut it after."""
        self.changes += 1
        if self.changes == self.cut_before:
            raise PowerCut
        result = getattr(self, argv[0])(argv)
        if self.changes == self.cut_after:
            raise PowerCut
        return result if isinstance(result, Result) else Result(argv, 0, "", "")

    def lvcreate(self, argv: tuple[str, ...]) -> None:
        assert self.undo is None, "a second undo point would be of what is half converted"
        assert argv[-1] == "vg_san/erp1"
        tag = argv[argv.index("--addtag") + 1]
        self.undo = replace(self.lv, uuid="undo-uuid", name="erp1_p2vd_undo", tags=frozenset({tag}))
        self.contents["undo-uuid"] = self.contents["lv-uuid"]

    def lvremove(self, argv: tuple[str, ...]) -> None:
        assert f'lv_tags="p2vd.undo={JOB.uuid}"' in " ".join(argv)
        self.undo = None
        del self.contents["undo-uuid"]

    def lvchange(self, argv: tuple[str, ...]) -> None:
        active = argv[argv.index("--activate") + 1] == "y"
        if argv[-1] == "vg_san/erp1_p2vd_undo":
            assert self.undo is not None
            self.undo = replace(self.undo, active=active)
        else:
            self.lv = replace(self.lv, active=active)

    def lvconvert(self, argv: tuple[str, ...]) -> None:
        assert self.lv.active is not bool(self.lv.pool), "LVM would put the merge off"
        self.contents["lv-uuid"] = self.contents.pop("undo-uuid")
        self.undo = None

    def env(self, argv: tuple[str, ...]) -> Result:
        assert self.undo is not None
        assert self.lv.active
        assert Path(argv[-1]).read_text() == XML
        assert self.contents["lv-uuid"] == "copied", "a guest is never converted twice"
        self.contents["lv-uuid"] = self.converter_writes
        return Result(argv, self.converter_status, "", "virt-v2v: error: no operating systems found")

    def sync(self, argv: tuple[str, ...]) -> Result:
        assert argv == ("sync", "--data", "/dev/mapper/vg_san-erp1")
        assert self.undo is not None, "there is no way back any more"
        said = f"sync: error syncing '{argv[-1]}': Input/output error"
        return Result(argv, self.flush_status, "", said if self.flush_status else "")


class Daemon(ProvenMachine):
    """A daemon over the storage; the next one has another store's connection and nothing else."""

    def __init__(self, directory: Path, storage: Storage, *, running: frozenset[str] = frozenset()) -> None:
        self.storage = storage
        super().__init__(directory, MachineState.READY)
        for program in ("lvcreate", "lvremove", "lvchange", "lvconvert", "env", "sync"):
            self.commands.on(program, storage.change)
        self.commands.on("dmsetup status", pool_status(1000, chunks=5 * 16384))
        self.commands.on("dmsetup table", "0 2097152 thin-pool 253:3 253:4 128 0 0")
        self.commands.running = running
        programs = directory / "bin"
        programs.mkdir(exist_ok=True)
        (programs / PROGRAM).touch(mode=0o755)
        self.converter = Converter(self.commands, [str(programs)])
        self.stop = threading.Event()

    @property
    def lv(self) -> Lv:
        return self.storage.lv

    @lv.setter
    def lv(self, _: Lv) -> None:
        """The storage has it."""

    @property
    def others(self) -> tuple[Lv, ...]:
        return (self.storage.undo,) if self.storage.undo else ()

    @others.setter
    def others(self, _: tuple[Lv, ...]) -> None:
        """The storage has them."""

    def convert(self) -> None:
        machine = self.board.machine(MACHINE.uuid)
        GuestConversion(self.services, machine, self.converter, self.stop).convert(XML)

    @property
    def converted(self) -> bool:
        return self.board.machine(MACHINE.uuid).converted


def pool_status(used: int, chunks: int = 16384, metadata: int = 10) -> str:
    """A pool of so many chunks of 64 KiB, 1 GiB, and 1024 blocks of metadata."""
    state = f"{metadata}/1024 {used}/{chunks} - rw discard_passdown queue_if_no_space - 1024"
    return f"0 {chunks * 128} thin-pool 1 {state}"


@pytest.fixture(params=["pool0", ""], ids=["thin", "thick"])
def storage(request: pytest.FixtureRequest) -> Storage:
    return Storage(request.param)


@pytest.fixture
def daemon(tmp_path: Path, storage: Storage) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, storage)
    yield daemon
    daemon.services.store.close()


def test_a_guest_is_converted_once(daemon: Daemon, storage: Storage) -> None:
    daemon.convert()
    daemon.convert()
    assert storage.contents == {"lv-uuid": "converted"}
    assert daemon.converted
    assert [argv[0] for argv in daemon.commands.changes] == ["lvcreate", "env", "sync", "lvremove"]
    unit = next(call.unit for call in daemon.commands.calls if call.argv[0] == "env")
    assert unit == unit_of(MACHINE.uuid)


def test_a_conversion_that_fails_leaves_what_was_copied(daemon: Daemon, storage: Storage) -> None:
    storage.converter_writes, storage.converter_status = "half", 1
    with pytest.raises(ConversionFailed, match="no operating systems found"):
        daemon.convert()
    assert storage.contents == {"lv-uuid": "copied"}
    assert (storage.undo, storage.lv.active, daemon.converted) == (None, True, False)
    storage.converter_writes, storage.converter_status = "converted", 0
    daemon.convert()
    assert storage.contents == {"lv-uuid": "converted"}


def test_what_the_disks_do_not_keep_is_not_converted(daemon: Daemon, storage: Storage) -> None:
    """The converter wrote all, and a flush at the end failed: after a power cut it might be half of it."""
    storage.flush_status = 1
    with pytest.raises(ConversionLost, match="vg_san-erp1': Input/output error"):
        daemon.convert()
    assert storage.contents == {"lv-uuid": "copied"}
    assert (storage.undo, daemon.converted) == (None, False)
    storage.flush_status = 0
    daemon.convert()
    assert storage.contents == {"lv-uuid": "converted"}


def test_a_flush_that_does_not_end_keeps_the_way_back(tmp_path: Path, storage: Storage) -> None:
    daemon = Daemon(tmp_path, storage)
    daemon.commands.replace("sync", ChangeUnknown(("sync",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    assert (storage.undo is not None, daemon.converted) == (True, False)
    assert daemon.commands.calls[-1].unit == flush_unit_of(MACHINE.uuid)
    daemon.services.store.close()
    again = Daemon(tmp_path, storage, running=frozenset({flush_unit_of(MACHINE.uuid)}))
    again.stop.set()
    with pytest.raises(Interrupted):
        again.convert()
    with pytest.raises(TryAgain, match=r"systemctl stop p2vd-change-[0-9a-f-]+-flush\.service"):
        leave_as_proven(again.services, again.board.machine(MACHINE.uuid), again.board.job(JOB.uuid))
    assert not again.commands.changes
    again.services.store.close()


CHANGES_OF_A_GOOD_RUN = 4
CHANGES_OF_A_FAILED_RUN = 8
"""Of a thick volume, which is active again before it is merged, whose last flush failed."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, CHANGES_OF_A_FAILED_RUN + 1))
@pytest.mark.parametrize("fails", ["", "converter", "flush"], ids=["succeeds", "fails", "is not kept"])
def test_cut_off_at_any_command_it_is_converted_in_the_end(
    tmp_path: Path, storage: Storage, when: str, at: int, fails: str
) -> None:
    first = Daemon(tmp_path, storage)
    setattr(storage, f"cut_{when}", at)
    if fails:
        storage.converter_writes = "half"
        setattr(storage, f"{fails}_status", 1)
        with pytest.raises((PowerCut, ConversionFailed, ConversionLost)):
            first.convert()
    elif at <= CHANGES_OF_A_GOOD_RUN:
        with pytest.raises(PowerCut):
            first.convert()
    else:
        first.convert()
    first.services.store.close()
    storage.cut_before = storage.cut_after = 0
    storage.converter_writes, storage.converter_status, storage.flush_status = "converted", 0, 0
    second = Daemon(tmp_path, storage)
    second.convert()
    assert storage.contents == {"lv-uuid": "converted"}
    assert (storage.undo, storage.lv.active, second.converted) == (None, True, True)
    second.services.store.close()


def test_a_conversion_of_an_earlier_daemon_that_still_runs_is_awaited(
    tmp_path: Path, storage: Storage
) -> None:
    daemon = Daemon(tmp_path, storage, running=frozenset({unit_of(MACHINE.uuid)}))
    daemon.stop.set()
    with pytest.raises(Interrupted):
        daemon.convert()
    assert not daemon.commands.changes
    daemon.services.store.close()


def test_nothing_is_taken_back_beneath_a_conversion_that_may_still_run(
    tmp_path: Path, storage: Storage
) -> None:
    daemon = Daemon(tmp_path, storage)
    daemon.commands.replace("env", ChangeUnknown(("env",), -9, ""))
    with pytest.raises(ChangeUnknown):
        daemon.convert()
    assert storage.undo is not None
    assert daemon.commands.changes[-1][0] == "env"
    daemon.services.store.close()


@pytest.mark.parametrize("status", [-9, 0], ids=["unknown", "converted"])
def test_a_disk_that_is_given_up_after_a_conversion_was_cut_off_has_no_undo_point_left(
    tmp_path: Path, storage: Storage, status: int
) -> None:
    daemon = Daemon(tmp_path, storage)
    if status:
        storage.converter_writes = "half"
        daemon.commands.replace("env", lambda argv: [storage.change(argv), Result(argv, status, "", "")][1])
        storage.cut_after = 2  # the converter wrote, and nobody heard of its end
    else:
        storage.cut_before = 4  # its undo point was still to go
    with pytest.raises(PowerCut):
        daemon.convert()
    storage.cut_after = storage.cut_before = 0
    machine, job = daemon.board.machine(MACHINE.uuid), daemon.board.job(JOB.uuid)
    daemon.commands.running = frozenset({unit_of(MACHINE.uuid)})
    with pytest.raises(TryAgain, match="the guest is being converted"):
        leave_as_proven(daemon.services, machine, job)
    assert storage.undo is not None
    daemon.commands.running = frozenset()
    leave_as_proven(daemon.services, machine, job)
    leave_as_proven(daemon.services, machine, job)
    assert storage.undo is None
    assert storage.contents == {"lv-uuid": "copied" if status else "converted"}
    daemon.services.store.close()


def test_what_is_registered_without_a_conversion_is_what_was_copied(tmp_path: Path, storage: Storage) -> None:
    """Also after a conversion that was cut off: it may have written half of what it had to."""
    daemon = Daemon(tmp_path, storage)
    storage.converter_writes, storage.cut_after = "half", 2
    with pytest.raises(PowerCut):
        daemon.convert()
    storage.cut_after = 0
    options = plan().domain
    daemon.services.store.put_plan(replace(plan(), domain=replace(options, conversion=Conversion.VIRT_V2V)))
    daemon.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, domain_uuid=""))
    daemon.board.cutover(MACHINE.uuid, start=False, domain=options)
    go_on(daemon.services, MACHINE.uuid, daemon.stop)
    assert daemon.board.machine(MACHINE.uuid).state is MachineState.REGISTERED
    assert storage.contents == {"lv-uuid": "copied"}
    assert (storage.undo, daemon.converted) == (None, False)
    daemon.services.store.close()


def test_without_a_converter_nothing_is_made(daemon: Daemon, storage: Storage, tmp_path: Path) -> None:
    daemon.converter = Converter(daemon.commands, [str(tmp_path)])
    with pytest.raises(ConverterMissing, match="apt-get install virt-v2v"):
        daemon.convert()
    assert not daemon.commands.changes


def test_commands_of_a_conversion_name_the_definition_and_may_be_ended(tmp_path: Path) -> None:
    (tmp_path / PROGRAM).touch(mode=0o755)
    commands = FakeCommands().on("env")
    Converter(commands, [str(tmp_path)]).run("erp1", MACHINE.uuid, tmp_path / "x.xml")
    (call,) = commands.calls
    assert call.argv[-5:] == ("-i", "libvirtxml", "--root", "single", str(tmp_path / "x.xml"))
    assert call.argv[1:3] == ("LIBGUESTFS_BACKEND=direct", str(tmp_path / PROGRAM))
    assert "SendSIGKILL=yes" in call.properties
    assert call.must_exit


def test_a_flush_may_be_ended_and_counts_only_where_it_came_to_its_end() -> None:
    """systemctl stop is what p2vd itself names; of its SIGTERM systemd says that all is well."""
    commands = FakeCommands().on("sync")
    Converter(commands).flush("erp1", MACHINE.uuid, "/dev/mapper/vg_san-erp1")
    (call,) = commands.calls
    assert {"KillSignal=SIGTERM", "SendSIGKILL=yes"} <= set(call.properties)
    assert call.must_exit
