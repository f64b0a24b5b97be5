"""A C program made from the installed XML by gdbus-codegen runs a whole migration."""

import shutil
import subprocess
from pathlib import Path

import pytest

from p2vd.bus.names import INTERFACES
from tests.bus.harness import Client
from tests.sim.conftest import SCRIPT, Start
from tests.sim.test_end_to_end import usable

HERE = Path(__file__).parent
XML = [Path(f"p2vd/bus/interfaces/{name}.xml") for name in INTERFACES]


def compiled(directory: Path) -> Path:
    """The program, or no test: libglib2.0-dev and gcc have what makes it."""
    wanted = ["pkg-config", "--cflags", "--libs", "gio-unix-2.0"]
    if not all(map(shutil.which, ("gdbus-codegen", "gcc", "pkg-config"))):
        pytest.skip("needs gcc, pkg-config and libglib2.0-dev")
    flags = subprocess.run(wanted, capture_output=True, text=True, check=True).stdout.split()
    generate = ["gdbus-codegen", "--generate-c-code", "p2vd", "--c-namespace", "P2vd"]
    generate += ["--interface-prefix", "org.p2vd1.", "--output-directory", str(directory)]
    subprocess.run([*generate, *map(str, XML)], check=True)
    program = directory / "migrate"
    sources = [str(HERE / "migrate.c"), str(directory / "p2vd.c")]
    subprocess.run(["gcc", "-o", str(program), f"-I{directory}", *sources, *flags], check=True)
    return program


@pytest.mark.slow
def test_generated_code_runs_a_whole_migration(
    start: Start, client: Client, bus_address: str, tmp_path: Path
) -> None:
    program = compiled(tmp_path)
    start(SCRIPT)
    done = subprocess.run(
        [str(program), bus_address, usable(client)[0]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines() if not line.startswith("state"))
    assert told.pop("plan without a declaration") == "org.p2vd1.Error.Refused"
    assert told.pop("rescan with a colour") == "org.p2vd1.Error.OptionNotPermitted"
    assert told.pop("retry of what has not failed") == "org.p2vd1.Error.IllegalTransition"
    assert set(told.values()) == {"done"}
