"""What is left of a migration in the audit and the receipt, through crashes and after the job has gone."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from p2vd.bus.names import JOB, MACHINE
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.test_end_to_end import await_, ctl, limit, migrate, of, uuid_of


def entries(address: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ctl(address, "audit", "--json", *options))
    return found


def test_a_migration_is_in_the_audit_from_the_question_to_the_end(
    start: Start, client: Client, bus_address: str
) -> None:
    start()
    machine, job = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    wwid = str(client.get(job, JOB, "SourceId"))
    found = entries(bus_address, "--wwid", wwid)
    asked_for = [f"{entry['kind']} {entry['verb']}" for entry in found if entry["kind"] in ("asked", "ended")]
    assert asked_for == [
        "asked Manager.Plan",
        "ended Manager.Plan",
        "asked Manager.Migrate",
        "ended Manager.Migrate",
    ]
    stages = [entry["outcome"] for entry in found if entry["kind"] == "job"]
    assert stages == ["planned", "provisioning", "copying", "verifying", "proven"]
    states = [entry["outcome"] for entry in found if entry["kind"] == "machine"]
    assert states == ["planned", "copying", "ready", "registering", "registered"]
    asked = next(entry for entry in found if entry.get("verb") == "Manager.Migrate")
    assert asked["who"]["uid"] == os.getuid()
    assert asked["who"]["pid"] == os.getpid()
    assert asked["plan"] == asked["arguments"]["plan_id"]
    assert entries(bus_address, "--machine", "erp1")[-1]["outcome"] == "registered"
    assert "The audit is whole" in ctl(bus_address, "audit", "verify")


def test_a_daemon_killed_in_a_copy_leaves_a_whole_audit(
    start: Start, client: Client, bus_address: str
) -> None:
    daemon = start(SCRIPT.replace("400 MiB", "40 MiB"))
    limit(client, 2)
    machine, job = migrate(client)
    await_(client, job, JOB, "Stage", "copying")
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    start()
    await_(client, machine, MACHINE, "State", "registered")
    assert "The audit is whole" in ctl(bus_address, "audit", "verify")
    found = entries(bus_address)
    assert [entry["outcome"] for entry in found if entry["kind"] == "daemon"] == ["started", "started"]
    stages = [entry["outcome"] for entry in found if entry["kind"] == "job"]
    assert stages == ["planned", "provisioning", "copying", "verifying", "proven"]


def test_a_full_disk_stops_what_changes_and_nothing_else(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    start(SCRIPT.replace("400 MiB", "40 MiB"))
    machine, job = migrate(client)
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))  # for a while there is nothing to record
    audit = tmp_path / "state/audit"
    audit.rename(tmp_path / "away")
    audit.write_text("in the way")
    with pytest.raises(AssertionError, match=r"nothing was done\. Make room"):
        ctl(bus_address, "pause", uuid_of(client, job))
    assert list(client.get(job, JOB, "Holds")) == []
    assert "cannot be written" in ctl(bus_address, "sources")
    await_(client, machine, MACHINE, "State", "registered")  # what had begun goes on
    audit.unlink()
    (tmp_path / "away").rename(audit)
    ctl(bus_address, "reload")
    found = entries(bus_address)
    assert [entry["outcome"] for entry in found if entry["kind"] == "machine"][-1] == "registered"
    assert "The audit is whole" in ctl(bus_address, "audit", "verify")


def test_a_receipt_outlives_its_job(start: Start, client: Client, bus_address: str, tmp_path: Path) -> None:
    daemon = start()
    machine, job = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    uuid, wwid = uuid_of(client, job), str(client.get(job, JOB, "SourceId"))
    before = ctl(bus_address, "receipt", uuid[:8])
    ctl(bus_address, "remove", uuid)
    assert client.until(lambda: client.heard("JobRemoved")) == [[job, "done"]]
    assert of(client, JOB) == {}
    assert list(client.get(machine, MACHINE, "Jobs")) == []
    daemon.stop()
    start()
    assert of(client, JOB) == {}
    assert ctl(bus_address, "receipt", wwid) == before
    assert json.loads(ctl(bus_address, "receipt", uuid, "--json"))["job"] == uuid
    path = tmp_path / f"state/jobs/{uuid}/receipt.json"
    path.write_text(path.read_text().replace("erp1", "erp2"))
    with pytest.raises(AssertionError, match="it was edited"):
        ctl(bus_address, "receipt", uuid)
