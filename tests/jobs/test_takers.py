"""A machine goes to the one that its plan names, and comes back from there; before that it is converted."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.machine_step import go_on
from p2vd.jobs.transitions import MachineEvent
from p2vd.model.domain import Conversion
from p2vd.model.job import MachineState
from p2vd.model.plan import DiskBus
from tests.jobs.proven_machine import JOB, MACHINE, ProvenMachine
from tests.jobs.values import plan

NEVER = threading.Event()


def machine_of(state_dir: Path, **options: object) -> ProvenMachine:
    """A machine that is about to be registered, as these options say."""
    lab = ProvenMachine(state_dir, MachineState.READY)
    domain = replace(plan().domain, **options)  # type: ignore[arg-type]  # fields of DomainOptions
    lab.services.store.put_plan(replace(plan(), domain=domain))
    lab.board.change_machine(MACHINE.uuid, lambda machine: replace(machine, domain_uuid=""))
    return lab


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("xl", {"erp1.cfg"}),
        ("proxmox", {"erp1.conf", "erp1-register.sh"}),
        ("kubevirt", {"erp1.yaml"}),
    ],
)
def test_files_are_written_and_taken_back(tmp_path: Path, uri: str, names: set[str]) -> None:
    directory = tmp_path / "definitions"
    directory.mkdir()
    (directory / "other.cfg").write_text("somebody else's")
    lab = machine_of(tmp_path, uri=uri, directory=str(directory), bus=DiskBus.AUTO)
    go_on(lab.services, MACHINE.uuid, NEVER)
    assert lab.board.machine(MACHINE.uuid).state is MachineState.REGISTERED
    assert {path.name for path in directory.iterdir()} == {*names, "other.cfg"}
    assert "/dev/vg_san/erp1" in "".join(path.read_text() for path in directory.iterdir())
    lab.board.advance_machine(MACHINE.uuid, MachineEvent.ROLL_BACK)
    go_on(lab.services, MACHINE.uuid, NEVER)
    assert lab.board.machine(MACHINE.uuid).state is MachineState.ROLLED_BACK
    assert [path.name for path in directory.iterdir()] == ["other.cfg"]


def test_a_name_that_is_taken_there_fails_the_registration_alone(tmp_path: Path) -> None:
    (tmp_path / "erp1.cfg").write_text("somebody else's")
    lab = machine_of(tmp_path, uri="xl", directory=str(tmp_path), bus=DiskBus.AUTO)
    go_on(lab.services, MACHINE.uuid, NEVER)
    machine = lab.board.machine(MACHINE.uuid)
    assert machine.state is MachineState.READY
    assert machine.error is not None
    assert machine.error.name == "FileNotOurs"
    assert (tmp_path / "erp1.cfg").read_text() == "somebody else's"


def test_a_guest_is_converted_before_it_is_defined_or_not_defined(tmp_path: Path) -> None:
    """Here there is no converter: nothing was made, and the machine waits."""
    lab = machine_of(tmp_path, conversion=Conversion.VIRT_V2V)
    go_on(lab.services, MACHINE.uuid, NEVER)
    machine = lab.board.machine(MACHINE.uuid)
    assert machine.state is MachineState.READY
    assert machine.error is not None
    assert machine.error.name == "ConverterMissing"
    assert not [argv for argv in lab.commands.changes if argv[0] == "lvcreate"]


def test_volumes_that_sleep_are_awake_before_the_machine_starts(tmp_path: Path) -> None:
    lab = machine_of(tmp_path, start=True)
    lab.lv = replace(lab.lv, active=False)

    def wake(argv: tuple[str, ...]) -> str:
        lab.lv = replace(lab.lv, active=argv[argv.index("--activate") + 1] == "y")
        return ""

    lab.commands.on("lvchange", wake)
    go_on(lab.services, MACHINE.uuid, NEVER)
    assert lab.board.machine(MACHINE.uuid).state is MachineState.REGISTERED
    assert lab.lv.active
    assert JOB.uuid in " ".join(lab.commands.changes[-1])
