"""Two daemons on one state directory: the second one does nothing."""

from pathlib import Path

from tests.bus.harness import Client, private_bus
from tests.sim.conftest import SCRIPT, Start
from tests.sim.harness import Simulated


def test_a_second_daemon_names_the_first_and_runs_none_of_its_jobs(
    start: Start, client: Client, tmp_path: Path
) -> None:
    """On a bus of its own, where nobody has the name: it had resumed the copies before it was noticed."""
    first = start()
    with private_bus(tmp_path) as other, Simulated(other, tmp_path / "state", SCRIPT) as second:
        assert second.wait() == 1
    assert f"Another p2vd (process {first.pid}) uses {tmp_path}/state" in second.log.read_text()
    assert client.objects()  # the first one has not noticed
