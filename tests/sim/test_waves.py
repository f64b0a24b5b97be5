"""Waves over the whole simulated daemon: planned as one, begun at their time, over restarts, cancelled."""

import json
import time
from pathlib import Path

import dbus
import pytest

from p2vd.bus.names import MACHINE, MANAGER, ROOT
from p2vd.cli.main import main
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.test_end_to_end import NONE, usable

SIX = SCRIPT.replace("count = 3", "count = 6")


def wave_file(directory: Path, sources: list[str], *more: str) -> Path:
    path = directory / "wave.csv"
    lines = [f",{source},vm{number},yes," for number, source in enumerate(sources, 1)]
    path.write_text("\n".join(["machine,sources,name,source_offline,priority", *lines, *more]) + "\n")
    return path


def fates(client: Client, wave: str) -> dict[str, str]:
    page = next(each for each in client.manager("GetWaves", "a{sv}", NONE) if each["Id"] == wave)
    return {str(one["Name"]): str(one["Fate"]) for one in page["Machines"]}


def state(client: Client, wave: str) -> str:
    return str(next(w["State"] for w in client.manager("GetWaves", "a{sv}", NONE) if w["Id"] == wave))


def machines(client: Client) -> dict[str, str]:
    found = client.objects().values()
    return {str(each[MACHINE]["Name"]): str(each[MACHINE]["State"]) for each in found if MACHINE in each}


def test_a_wave_is_planned_started_and_reported(
    start: Start, client: Client, bus_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start()
    path = wave_file(tmp_path, usable(client)[:2], "nobody,,,yes,")
    assert main(["--bus", bus_address, "plan", "--wave", str(path), "--json"]) == 6
    page = json.loads(capsys.readouterr().out)
    assert [(one["Name"], one["Fate"]) for one in page["Machines"]] == [
        ("vm1", "ready"),
        ("vm2", "ready"),
        ("nobody", "refused"),
    ]
    assert machines(client) == {}
    assert main(["--bus", bus_address, "migrate", "--wave", str(path)]) == 6
    out = capsys.readouterr().out
    assert f"Wave {page['Id']}" in out
    assert "There is no record of a machine 'nobody'." in out
    client.until(lambda: machines(client) == {"vm1": "registered", "vm2": "registered"})
    client.until(lambda: state(client, page["Id"]) == "done")
    assert fates(client, page["Id"]) == {"vm1": "started", "vm2": "started", "nobody": "refused"}
    assert main(["--bus", bus_address, "report", "--since", "1h"]) == 0
    out = capsys.readouterr().out
    assert "2 done" in out
    assert "vm1" in out
    assert main(["--bus", bus_address, "audit", "--json"]) == 0
    asked = [entry["verb"] for entry in json.loads(capsys.readouterr().out) if entry["kind"] == "asked"]
    assert asked == ["Manager.StartWave"]


def test_a_wave_waits_for_its_time_over_a_restart_and_can_be_cancelled(
    start: Start, client: Client, bus_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start()
    sources = usable(client)
    path = wave_file(tmp_path, sources[:2])
    assert main(["--bus", bus_address, "migrate", "--wave", str(path), "--at", "+1h", "--json"]) == 0
    wave = json.loads(capsys.readouterr().out)["Id"]
    assert main(["--bus", bus_address, "jobs"]) == 0
    assert wave in capsys.readouterr().out
    assert daemon.stop() == 0
    daemon = start()
    assert (state(client, wave), machines(client)) == ("scheduled", {})
    daemon.tell("set_clock", time.time_ns() // 1000 + 2 * 3600 * 1_000_000)
    client.until(lambda: set(machines(client)) == {"vm1", "vm2"})
    path.write_text(f"sources,name,source_offline\n{sources[2]},vm3,yes\n")
    assert main(["--bus", bus_address, "migrate", "--wave", str(path), "--at", "+20h", "--json"]) == 0
    later = json.loads(capsys.readouterr().out)["Id"]
    assert main(["--bus", bus_address, "waves", "cancel", later[:6]]) == 0
    assert state(client, later) == "cancelled"
    with pytest.raises(dbus.DBusException, match="cancelled"):
        client.call(ROOT, MANAGER, "StartWave", "sa{sv}", later, NONE)


def test_two_hundred_machines_are_planned_right(
    start: Start, client: Client, bus_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(SCRIPT.replace("count = 3", "count = 200").replace('"96 MiB"', '"8 MiB"'))
    path = wave_file(tmp_path, usable(client))
    assert main(["--bus", bus_address, "plan", "--wave", str(path), "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert [one["Name"] for one in page["Machines"]] == [f"vm{number}" for number in range(1, 201)]
    assert {one["Fate"] for one in page["Machines"]} == {"ready"}
    assert len({one["Plan"] for one in page["Machines"]}) == 200
