"""`tests/bench --quick`: every kind of scenario runs to its end on this machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2vd.model.size import MIB
from tests import loop
from tests.benchmark import forms, tools
from tests.benchmark.content import Content
from tests.benchmark.disks import GivenDisks, NotHere, OwnDisks
from tests.benchmark.rows import ROWS
from tests.loop import Loop, needs_loop

pytestmark = [pytest.mark.root, needs_loop]


def quick(directory: Path, *rows: str) -> dict[str, dict[str, Any]]:
    """Run rows; skip where this machine lacks a tool or direct I/O."""
    words = [word for row in rows for word in ("--row", row)]
    words += ["--quick", "--rounds", "1", "--json", "--directory", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmark", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    for row in found.values():
        if "missing:" in row.get("reason", "") or "direct I/O" in row.get("reason", ""):
            pytest.skip(row["reason"])
    assert not list(directory.iterdir())
    return found


@pytest.mark.parametrize(
    "rows", [("ceiling", "qemu-img", "fastest", "cpu"), ("sparse-file",), ("digests",), ("verify",)]
)
def test_rows_are_measured_and_judge_nothing(tmp_path: Path, rows: tuple[str, ...]) -> None:
    found = quick(tmp_path, *rows)
    assert set(found) == set(rows)
    for name, row in found.items():
        assert row["verdict"] == "smoke, no verdict"
        assert set(row["arms"]) == set(ROWS[name].arms)
        for rounds in row["arms"].values():
            (measure,) = rounds
            assert measure["wall_s"] > 0
            assert 0 < measure["rss_bytes"] < 200 * MIB


@pytest.mark.slow
def test_every_form_is_made(tmp_path: Path) -> None:
    words = ["--forms", "--quick", "--json", "--directory", str(tmp_path)]
    argv = [sys.executable, "-m", "tests.benchmark", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)["forms"]
    assert [each["name"] for each in made] == [form.name for form in forms.FORMS]
    for each in made:
        assert each["reason"] or (each["wall_s"] and (each["size_bytes"] < 64 * MIB or "dd" in each["name"]))
    assert not made[0]["reason"]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_copy_says_what_it_copied_again(tmp_path: Path) -> None:
    row = quick(tmp_path, "resume")["resume"]
    (measure,) = row["arms"]["p2vd-copy"]
    assert 0 < measure["figures"]["again_bytes"] < 256 * MIB
    assert measure["figures"]["again_s"] > 0


def test_the_delta_row_runs_or_says_that_it_is_not_built(tmp_path: Path) -> None:
    row = quick(tmp_path, "delta")["delta"]
    built = tools.has_option("--resync")
    assert (row["verdict"], row.get("reason", "")) == (
        ("smoke, no verdict", "") if built else ("not run", "not built: p2vd-copy has no --resync")
    )


def test_a_device_with_something_on_it_is_neither_target_nor_source(tmp_path: Path) -> None:
    with Loop(tmp_path / "a", 16 * MIB) as empty, Loop(tmp_path / "b", 16 * MIB) as full:
        a, b = Path(empty.device), Path(full.device)
        assert GivenDisks.checked(a, b, may_fill=False).size_bytes == 16 * MIB
        subprocess.run(["mkswap", full.device], check=True, capture_output=True)
        for source, target in ((a, b), (b, a)):
            with pytest.raises(NotHere, match=f"{full.device}.*holds swap"):
                GivenDisks.checked(source, target, may_fill=True)
        with pytest.raises(NotHere, match=r"it is the source|in use"):
            GivenDisks.checked(a, a, may_fill=True)


def test_a_given_source_is_not_written_to_unasked(tmp_path: Path) -> None:
    with Loop(tmp_path / "a", 16 * MIB) as source, Loop(tmp_path / "b", 16 * MIB) as target:
        given = GivenDisks.checked(Path(source.device), Path(target.device), may_fill=False)
        with given.pair(0, Content.RANDOM) as pair:
            assert not any(pair.source.read_bytes())
            assert pair.target.read_bytes() == b"\xa5" * (16 * MIB)
        with pytest.raises(NotHere, match="--overwrite-source"), given.pair(0, Content.QUARTER):
            pass
        with pytest.raises(NotHere, match="4 pairs"):
            given.pairs(4, 0)


def test_own_disks_leave_nothing_behind(tmp_path: Path) -> None:
    assert loop.why_not() == ""
    with OwnDisks(tmp_path).pair(16 * MIB, Content.QUARTER) as pair:
        assert pair.source.is_block_device()
    assert not list(tmp_path.iterdir())
