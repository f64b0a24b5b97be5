"""A volume is verified long after, over the whole daemon: before and after its machine has run."""

import json
from pathlib import Path

from p2vd.bus.names import JOB, MACHINE
from tests.bus.harness import Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import NONE, await_, ctl, migrate

MIB = 1 << 20


def test_a_receipt_is_proven_again_until_the_machine_has_run(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    daemon = start()
    machine, job = migrate(client)
    await_(client, machine, MACHINE, "State", "registered")
    uuid, volume = (str(client.get(job, JOB, name)) for name in ("Uuid", "TargetUuid"))
    receipt = tmp_path / f"state/jobs/{uuid}/receipt.json"
    before = receipt.read_bytes()
    assert client.get(job, JOB, "Verification") == {}
    assert "unchanged. It is what the receipt says" in ctl(bus_address, "verify", "erp1")

    def verify() -> str:
        client.call(job, JOB, "Verify", "a{sv}", NONE)
        client.until(lambda: client.get(job, JOB, "Verification")["State"] != "running")
        return str(client.get(job, JOB, "Verification")["State"])

    daemon.tell("harm", volume, 5 * MIB, MIB)
    assert verify() == "differs"
    assert [tuple(each) for each in client.get(job, JOB, "Verification")["Differing"]] == [(5 * MIB, MIB)]
    daemon.tell("power", daemon.tell("domains")[0], True)
    assert verify() == "failed"
    assert client.get(job, JOB, "Verification")["Error"] == "VerifyMachineRuns"
    daemon.tell("power", daemon.tell("domains")[0], False)
    assert verify() == "used-since"
    assert "has run since" in client.get(job, JOB, "Verification")["Seen"]
    # The job leaves the bus, and its receipt is proven as before.
    client.call(job, JOB, "Remove", "a{sv}", NONE)
    assert "used-since. " in ctl(bus_address, "verify", uuid, exits=6)
    assert "used-since" in json.dumps(client.manager("GetVerifications", "sa{sv}", uuid, NONE))
    assert receipt.read_bytes() == before
    records = sorted(receipt.parent.glob("verification-*.json"))
    assert [json.loads(path.read_text())["state"] for path in records] == [
        "unchanged",
        "differs",
        "used-since",
        "used-since",
    ]
    entries = json.loads(ctl(bus_address, "audit", "--json"))
    told = [entry["outcome"] for entry in entries if entry["kind"] == "verification"]
    assert told == ["unchanged", "differs", "failed", "used-since", "used-since"]
