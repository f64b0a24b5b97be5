"""Clients that are made from the XML alone run a whole migration, and get each error by its name."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2vd.bus.names import (
    ERROR_PREFIX,
    ERRORS,
    JOB,
    MACHINE,
    MANAGER,
    ROOT,
    SOURCE,
    VOLUME_GROUP,
    object_path,
)
from tests import waiting
from tests.bus.harness import PATIENCE_S, Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.harness import Simulated
from tests.sim.test_end_to_end import limit, of, usable
from tests.sim.xml_clients import DbusPythonClient, GdbusClient, RemoteError, XmlClient

MIB = 1 << 20
NOTHING: Mapping[str, Any] = {}
until = partial(waiting.until, within_s=PATIENCE_S, every_s=0.05)


@pytest.fixture(params=[GdbusClient, DbusPythonClient], ids=["GDBus", "dbus-python"])
def made(request: pytest.FixtureRequest, bus_address: str) -> Iterator[XmlClient]:
    client: XmlClient = request.param(bus_address)
    yield client
    client.close()


def plan(made: XmlClient, source: str, name: str = "erp1") -> tuple[str, dict[str, Any]]:
    options = {"source-offline": True, "name": name}
    plan_id, page = made.call(ROOT, MANAGER, "Plan", [source], options)
    return str(plan_id), page


def test_a_whole_migration(start: Start, client: Client, made: XmlClient) -> None:
    start(SCRIPT.replace("400 MiB", "48 MiB"))
    source = usable(client)[0]
    made.call(ROOT, MANAGER, "Rescan", NOTHING)
    assert made.properties(ROOT, MANAGER)["Problems"] == []
    assert made.properties(object_path(SOURCE, source), SOURCE)["Size"] == 96 * MIB
    (paths,) = made.call(object_path(SOURCE, source), SOURCE, "GetPaths", NOTHING)
    assert len(paths) == 2
    limit(client, 2)
    plan_id, page = plan(made, source)
    assert page["VolumeGroup"] == "vg_san"
    (machine,) = made.call(ROOT, MANAGER, "Migrate", plan_id, NOTHING)
    (job,) = made.properties(machine, MACHINE)["Jobs"]

    def is_job(name: str, value: object) -> None:
        until(lambda: made.properties(job, JOB)[name] == value)

    is_job("Activity", "running")
    made.call(job, JOB, "SetBandwidth", 500 * MIB, NOTHING)
    made.call(machine, MACHINE, "Pause", NOTHING)
    is_job("Activity", "idle")
    assert made.properties(job, JOB)["Holds"] == ["user"]
    made.call(job, JOB, "Resume", NOTHING)
    limit(client, 0)
    until(lambda: made.properties(machine, MACHINE)["State"] == "registered")
    (receipt,) = made.call(job, JOB, "GetReceipt", NOTHING)
    assert source in receipt
    (group,) = of(client, VOLUME_GROUP)
    (volumes,) = made.call(group, VOLUME_GROUP, "GetVolumes", NOTHING)
    assert "erp1" in [volume["Name"] for volume in volumes]
    made.call(machine, MACHINE, "Rollback", NOTHING)
    until(lambda: made.properties(machine, MACHINE)["State"] == "rolled-back")


# ---- errors --------------------------------------------------------------------------------------


@dataclass
class Desk:
    """A daemon with a machine whose copy takes its time, for an error to be provoked at."""

    made: XmlClient
    client: Client
    daemon: Simulated
    state: Path
    machine: str
    job: str
    free: str

    def manager(self, method: str, *arguments: Any) -> None:
        self.made.call(ROOT, MANAGER, method, *arguments)

    def finished(self) -> str:
        """A machine that is registered; its job's path."""
        self.client.until(
            lambda: self.free in usable(self.client)
        )  # it may have grown, and is looked at anew
        plan_id, _ = plan(self.made, self.free, "erp2")
        (machine,) = self.made.call(ROOT, MANAGER, "Migrate", plan_id, NOTHING)
        until(lambda: self.made.properties(machine, MACHINE)["State"] == "registered")
        (job,) = self.made.properties(machine, MACHINE)["Jobs"]
        return str(job)

    def take_in(self, record: str) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(record.encode())
            file.seek(0)
            self.manager("ImportMachine", file.fileno(), NOTHING)


def not_authorized(desk: Desk) -> None:
    desk.made.call(desk.job, JOB, "Cancel", {"target": "remove"})


def option_not_permitted(desk: Desk) -> None:
    desk.manager("Rescan", {"colour": "blue"})


def policy_invalid(desk: Desk) -> None:
    (desk.state / "policy.d/90-wrong.toml").write_text("[[rule]]\ncolour = 1\n")
    try:
        desk.manager("Reload", NOTHING)
    finally:
        (desk.state / "policy.d/90-wrong.toml").unlink()


def invalid_argument(desk: Desk) -> None:
    desk.manager("Plan", [], NOTHING)


def not_found(desk: Desk) -> None:
    desk.manager("Migrate", "no-such-plan", NOTHING)


def refused(desk: Desk) -> None:
    desk.manager("Plan", [desk.free], NOTHING)


def illegal_transition(desk: Desk) -> None:
    desk.made.call(desk.job, JOB, "Retry", NOTHING)


def plan_outdated(desk: Desk) -> None:
    plan_id, _ = plan(desk.made, desk.free, "erp2")
    desk.daemon.tell("grow", desk.free, 192 * MIB)
    path = object_path(SOURCE, desk.free)
    until(lambda: desk.made.properties(path, SOURCE)["Size"] == 192 * MIB)
    desk.manager("Migrate", plan_id, NOTHING)


def passport_invalid(desk: Desk) -> None:
    desk.take_in('{"name": "x", "memory": 1}')


def passport_exists(desk: Desk) -> None:
    desk.take_in('name = "erp9"\n')
    desk.take_in('name = "erp9"\nmemory_bytes = "1 GiB"\n')


def receipt_damaged(desk: Desk) -> None:
    job = desk.finished()
    receipt = desk.state / "jobs" / str(desk.made.properties(job, JOB)["Uuid"]) / "receipt.json"
    receipt.write_text(receipt.read_text().replace("erp2", "erp3"))
    desk.made.call(job, JOB, "GetReceipt", NOTHING)


def audit_unwritable(desk: Desk) -> None:
    audit = desk.state / "audit"
    audit.rename(desk.state / "audit.away")
    audit.write_text("a file where a directory should be")
    desk.made.call(desk.job, JOB, "Pause", NOTHING)


def scan_failed(desk: Desk) -> None:
    desk.daemon.tell("break_report")
    desk.manager("Rescan", NOTHING)


# In this order: after the last two, not much works.
PROVOKED: Mapping[str, Callable[[Desk], None]] = {
    "NotAuthorized": not_authorized,
    "OptionNotPermitted": option_not_permitted,
    "PolicyInvalid": policy_invalid,
    "InvalidArgument": invalid_argument,
    "NotFound": not_found,
    "Refused": refused,
    "IllegalTransition": illegal_transition,
    "PlanOutdated": plan_outdated,
    "PassportInvalid": passport_invalid,
    "PassportExists": passport_exists,
    "ReceiptDamaged": receipt_damaged,
    "AuditUnwritable": audit_unwritable,
    "ScanFailed": scan_failed,
}


@pytest.fixture
def desk(start: Start, client: Client, made: XmlClient, tmp_path: Path) -> Desk:
    daemon = start(SCRIPT + '[authority]\ndeny = ["org.p2vd1.remove-target"]\n')
    first, second, _ = usable(client)
    limit(client, 1)  # until the job has a limit of its own
    plan_id, _ = plan(made, first)
    (machine,) = made.call(ROOT, MANAGER, "Migrate", plan_id, NOTHING)
    (job,) = made.properties(machine, MACHINE)["Jobs"]
    made.call(job, JOB, "SetBandwidth", 1 * MIB, NOTHING)
    limit(client, 0)
    return Desk(made, client, daemon, tmp_path / "state", machine, job, second)


def name_of(desk: Desk, provoke: Callable[[Desk], None]) -> str:
    try:
        provoke(desk)
    except RemoteError as error:
        return error.name
    return "no error"


def test_each_error_has_its_name(desk: Desk) -> None:
    assert ERRORS.keys() >= PROVOKED.keys()
    names = {name: name_of(desk, provoke) for name, provoke in PROVOKED.items()}
    assert names == {name: ERROR_PREFIX + name for name in PROVOKED}
