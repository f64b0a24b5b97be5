"""What this project adds to pytest: one seed for a whole run, and no files of tests that passed."""

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


WRITES = """
import pytest

def test_passes(tmp_path):
    (tmp_path / "disk").write_bytes(b"x")

def test_fails(tmp_path):
    (tmp_path / "disk").write_bytes(b"x")
    assert False

@pytest.fixture
def broken(tmp_path):
    (tmp_path / "disk").write_bytes(b"x")
    yield
    assert False

def test_that_leaves_something(broken):
    pass
"""


def run_pytest(directory: Path, *words: str) -> str:
    """Run the tests of a directory with this project's options; what was printed."""
    plugins = ["-p", "tests.options", "-p", "no:cacheprovider", "--rootdir", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *words, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout


@pytest.mark.slow
def test_all_processes_of_a_run_have_the_seed_that_its_header_shows(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TELLS)
    printed = run_pytest(tmp_path, "-n", "2")
    shown = re.search(r"--seed (\d+)", printed)
    assert shown is not None, printed
    said = {path.name: path.read_text() for path in tmp_path.glob("gw*")}
    assert len({name.split("-")[0] for name in said}) == 2
    assert set(said.values()) == {shown[1]}


@pytest.mark.slow
def test_only_the_files_of_tests_that_failed_are_kept(tmp_path: Path) -> None:
    """The suite's own, of one run, were 15 GiB, and pytest keeps three runs."""
    (tmp_path / "test_it.py").write_text(WRITES)
    printed = run_pytest(tmp_path, "--basetemp", str(tmp_path / "kept"))
    assert "1 failed, 2 passed, 1 error" in printed
    kept = {path.parent.name for path in (tmp_path / "kept").rglob("disk")}
    assert kept == {"test_fails0", "test_that_leaves_something0"}
