"""Calls of every wrong kind: each is refused by a name, the daemon lives, and nothing has changed."""

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from gi.repository import GLib

from p2vd.bus.names import BUS_NAME, ERROR_PREFIX, ERRORS, JOB, MACHINE, MANAGER, ROOT
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.fuzz import STANDARD_NAMES, Fuzzer, RawBus, Sender, blob, mutated
from tests.sim.test_end_to_end import NONE, await_, looked_at, migrate, usable

# The daemon's word for what it did not foresee.
_FAULT = "p2vd has a fault"


def state_of(client: Client, directory: Path) -> dict[str, Any]:
    """All that calls could have changed: what is on the bus, the store, the simulated host, files."""
    with sqlite3.connect(f"file:{directory}/state.db?mode=ro", uri=True) as store:
        rows = [line for line in store.iterdump() if "audit" not in line]
    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not {"audit", "host"} & set(path.relative_to(directory).parts)
        and path.name not in ("log", "state.db", "state.db-wal", "state.db-shm")
    }
    return {"objects": client.objects(), "store": rows, "files": files}


def prepare(start: Start, client: Client) -> tuple[dict[str, list[str]], list[str]]:
    """A registered machine, a cancelled one, one that left the bus: objects by path, and what is gone."""
    start(SCRIPT)
    first, second, third = usable(client)
    machine, _ = migrate(client, first, "erp1")
    cancelled, _ = migrate(client, second, "erp2")
    client.call(cancelled, MACHINE, "Cancel", "a{sv}", {"target": "remove"})
    removed, job = migrate(client, third, "erp3")
    client.call(removed, MACHINE, "Cancel", "a{sv}", {"target": "remove"})
    await_(client, cancelled, MACHINE, "State", "cancelled")
    await_(client, removed, MACHINE, "State", "cancelled")
    await_(client, machine, MACHINE, "State", "registered")
    client.call(job, JOB, "Remove", "a{sv}", NONE)
    client.until(lambda: job not in client.objects())
    client.manager("Rescan", "a{sv}", NONE)
    client.until(lambda: not client.get(ROOT, MANAGER, "Scanning"))
    looked_at(client)  # also what jobs have let go
    targets = {
        str(path): [str(name) for name in own if name.startswith("org.p2vd1")]
        for path, own in sorted(client.objects().items())
    }
    return {**targets, ROOT: [MANAGER]}, [job, removed]


@pytest.mark.campaign
def test_wrong_calls_are_refused_by_name(
    start: Start,
    client: Client,
    bus_address: str,
    tmp_path: Path,
    campaign_seed: int,
    request: pytest.FixtureRequest,
) -> None:
    targets, gone = prepare(start, client)
    before = state_of(client, tmp_path / "state")
    sender = Sender(bus_address)
    known = STANDARD_NAMES | {ERROR_PREFIX + name for name in ERRORS}
    wrong = []
    for call in Fuzzer(campaign_seed, targets, gone).calls(
        100_000 if request.config.getoption("--full") else 600
    ):
        name, sentence = sender.send(call)
        refused = name in known and sentence and _FAULT not in sentence
        if not refused and not (call.reads and name == ""):
            wrong.append(f"{name or 'an answer'}: {sentence[:200]} to {call}")
            assert len(wrong) < 20, "\n".join(wrong)
    sender.close()
    assert not wrong, "\n".join(wrong)
    assert "simulation" in client.get(ROOT, MANAGER, "Version")
    assert state_of(client, tmp_path / "state") == before


@pytest.mark.campaign
def test_messages_that_are_none_harm_their_sender_alone(
    start: Start,
    client: Client,
    bus_address: str,
    tmp_path: Path,
    campaign_seed: int,
    request: pytest.FixtureRequest,
) -> None:
    start()
    usable(client)
    before = state_of(client, tmp_path / "state")
    chance = random.Random(campaign_seed)
    body = GLib.Variant("(sa{sv})", ("@@@@-no-such-plan", {}))
    call = blob(BUS_NAME, ROOT, MANAGER, "Migrate", body, serial=2)
    for _ in range(5000 if request.config.getoption("--full") else 60):
        raw = RawBus(bus_address)
        raw.send(mutated(call, chance))
        raw.hear(0.02)
        raw.close()
        assert "simulation" in client.get(ROOT, MANAGER, "Version")
    assert state_of(client, tmp_path / "state") == before
