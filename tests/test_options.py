"""What this project adds to pytest: one seed for a whole run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TELLS = """
import pytest
from pathlib import Path

@pytest.mark.parametrize("number", range(8))
def test_it(number, campaign_seed, worker_id):
    (Path(__file__).parent / f"{worker_id}-{number}").write_text(str(campaign_seed))
"""


@pytest.mark.slow
def test_all_processes_of_a_run_have_the_seed_that_its_header_shows(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TELLS)
    words = [
        "-n",
        "2",
        "-p",
        "tests.options",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], capture_output=True, text=True, check=True, timeout=120
    )
    shown = re.search(r"--seed (\d+)", done.stdout)
    assert shown is not None
    said = {path.name: path.read_text() for path in tmp_path.glob("gw*")}
    assert len({name.split("-")[0] for name in said}) == 2
    assert set(said.values()) == {shown[1]}
