"""p2vd is started with a policy file that has errors: what is under way goes on, and all else waits."""

import time
from pathlib import Path

from p2vd.bus.names import JOB, MACHINE
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.test_end_to_end import NONE, await_, ctl, limit, migrate, usable
from tests.sim.test_waves import fates, machines, state, wave_file

BROKEN = "[[rule]]\ncolour = 3\n"
HOUR_US = 3600 * 1_000_000


def test_what_waits_goes_on_once_the_file_is_corrected(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    daemon = start(SCRIPT, max_jobs=1)
    limit(client, 1)
    sources = usable(client)
    running, job = migrate(client, sources[0], "erp1")
    client.until(lambda: client.get(job, JOB, "BytesCommitted"))
    queued, later = migrate(client, sources[1], "erp2")
    await_(client, later, JOB, "Stage", "planned")
    listed = wave_file(tmp_path, sources[2:])
    ctl(bus_address, "migrate", "--wave", str(listed), "--at", "+1h")
    wave = str(client.manager("GetWaves", "a{sv}", NONE)[0]["Id"])
    assert daemon.stop() == 0

    broken = tmp_path / "state/policy.d/60-broken.toml"
    broken.write_text(BROKEN)
    daemon = start(SCRIPT, max_jobs=1)
    daemon.tell("set_clock", time.time_ns() // 1000 + 2 * HOUR_US)
    await_(client, running, MACHINE, "State", "registered")
    client.until(lambda: "policy files have errors" in str(client.get(later, JOB, "Stalled")))
    client.until(lambda: fates(client, wave) == {"vm1": "waits"})
    assert str(broken) in str(client.get(later, JOB, "Stalled"))
    refused = ctl(bus_address, "waves", "show", wave)
    assert "No policies are in force" in refused

    broken.unlink()
    ctl(bus_address, "reload")
    await_(client, queued, MACHINE, "State", "registered")
    client.until(lambda: machines(client) == dict.fromkeys(("erp1", "erp2", "vm1"), "registered"))
    client.until(lambda: state(client, wave) == "done")
