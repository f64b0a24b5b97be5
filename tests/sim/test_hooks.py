"""Hooks in the whole daemon: held and released over the bus, and run again after a power cut."""

import os
import signal
from pathlib import Path

import dbus

from p2vd.bus.names import JOB, MACHINE
from tests.bus.harness import PATIENCE_S, Client
from tests.sim.conftest import Start
from tests.sim.test_end_to_end import NONE, await_, ctl, migrate, usable
from tests.waiting import until


def put(directory: Path, step: str, text: str) -> Path:
    path = directory / "state/hooks.d" / step / "10-hook"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def holds(client: Client, job: str) -> list[str]:
    return [str(hold) for hold in client.get(job, JOB, "Holds")]


def test_hooks_hold_a_job_and_let_it_go_on(
    start: Start, client: Client, tmp_path: Path, bus_address: str
) -> None:
    tmp_path.chmod(0o755)
    put(tmp_path, "before-copy", "grep -q '\"disk\": 2' || exit 0; echo no snapshot; exit 7")
    told = tmp_path / "told"
    for step in ("after-proven", "before-register", "after-register"):
        put(tmp_path, step, f"cat >> {told}")
    start()
    options = dbus.Dictionary({"source-offline": True, "name": "erp1"}, signature="sv")
    plan, _ = client.manager("Plan", "asa{sv}", usable(client)[:2], options)
    machine = str(client.manager("Migrate", "sa{sv}", plan, NONE))
    first, job = map(str, client.get(machine, MACHINE, "Jobs"))
    client.until(lambda: holds(client, job) == ["hook"])
    await_(client, first, JOB, "Stage", "proven")
    client.until(lambda: "failed with exit status 7: no snapshot" in str(client.get(job, JOB, "Stalled")))
    assert "held: hook" in ctl(bus_address, "jobs")
    put(tmp_path, "before-copy", f"cat >> {told}")
    ctl(bus_address, "retry", "erp1")
    await_(client, machine, MACHINE, "State", "registered")
    steps = [line.partition('"step": "')[2].partition('"')[0] for line in told.read_text().splitlines()]
    assert steps == ["after-proven", "before-copy", "after-proven", "before-register", "after-register"]
    audit = ctl(bus_address, "audit")
    assert "before-copy/10-hook: failed" in audit
    assert "after-register/10-hook: ended" in audit


def test_a_hook_that_a_power_cut_met_runs_again(start: Start, client: Client, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    told = tmp_path / "told"
    pid = tmp_path / "pid"
    hook = put(tmp_path, "before-copy", f"echo $$ > {pid}; echo begun >> {told}; exec sleep 1000")
    daemon = start()
    _, job = migrate(client)
    # Nothing on the bus tells of it.
    until(lambda: told.exists() and told.read_text() == "begun\n", within_s=PATIENCE_S, every_s=0.05)
    daemon.power_cut()
    os.kill(int(pid.read_text()), signal.SIGKILL)  # a power cut would have
    hook.write_text(f"#!/bin/sh\necho again >> {told}\n")
    start()
    await_(client, job, JOB, "Stage", "proven")
    assert told.read_text() == "begun\nagain\n"


def test_a_job_that_is_proven_is_held_where_its_policy_says_so_and_can_be_resumed(
    start: Start, client: Client, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    put(tmp_path, "after-proven", "exit 1")
    directory = tmp_path / "state/policy.d"
    directory.mkdir(parents=True)
    (directory / "50-held.toml").write_text(
        '[[rule]]\nname = "held"\nmatch.wwid = "*"\ntarget.volume_groups = ["vg_san"]\n'
        'target.provisioning = "thin"\ntarget.single_host = true\nhooks.failure = "hold"\n'
    )
    start()
    machine, job = migrate(client)
    client.until(lambda: holds(client, job) == ["hook"])
    assert (client.get(job, JOB, "Stage"), client.get(machine, MACHINE, "State")) == ("proven", "copying")
    put(tmp_path, "after-proven", "exit 0")
    client.call(job, JOB, "Resume", "a{sv}", NONE)
    await_(client, machine, MACHINE, "State", "registered")
    assert holds(client, job) == []
