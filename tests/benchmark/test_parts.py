"""The parts of the benchmark that could make its figures wrong."""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2vd.model.size import MIB
from tests.benchmark import campaign, report
from tests.benchmark.__main__ import main
from tests.benchmark.campaign import Judged, NotRun
from tests.benchmark.content import Content, change, data_runs, fill_device, make_sparse_file
from tests.benchmark.disks import NotHere, OwnDisks, need_direct_io, need_space
from tests.benchmark.measuring import Measure, Process, ToolFailed, measured
from tests.benchmark.plan import Arm, Arms, Bench, Round, Row, Scenario
from tests.benchmark.rows import RANDOM, ROWS, SCENARIOS, fastest
from tests.benchmark.stats import Goal, Verdict


@pytest.fixture
def direct(tmp_path: Path) -> Path:
    """A directory whose files have direct I/O."""
    try:
        need_direct_io(tmp_path)
    except NotHere as reason:
        pytest.skip(str(reason))
    return tmp_path


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


# ---- content ---------------------------------------------------------------------------------------


def test_a_quarter_is_a_quarter_and_not_aligned_to_the_engines_blocks() -> None:
    runs = list(data_runs(1024 * MIB))
    assert 0.2 < sum(length for _, length in runs) / (1024 * MIB) < 0.3
    assert runs == list(data_runs(1024 * MIB))
    assert all(before[0] + before[1] < after[0] for before, after in itertools.pairwise(runs))
    assert runs[-1][0] + runs[-1][1] <= 1024 * MIB
    assert sum(start % MIB != 0 for start, _ in runs) > len(runs) // 2


def test_contents_are_what_they_are_called(direct: Path) -> None:
    disk, size = direct / "disk", 21 * MIB + 4096
    disk.write_bytes(bytes(size))
    fill_device(disk, Content.OLD)
    assert disk.read_bytes() == b"\xa5" * size
    fill_device(disk, Content.QUARTER)
    sparse = direct / "sparse"
    make_sparse_file(sparse, size)
    for data in (disk.read_bytes(), sparse.read_bytes()):
        position = 0
        for start, length in data_runs(size):
            assert not any(data[position:start])
            assert any(data[start : start + length])
            position = start + length
        assert not any(data[position:])
    assert sparse.stat().st_blocks * 512 < size // 2
    fill_device(disk, Content.RANDOM)
    before = disk.read_bytes()
    assert len(set(before[:MIB])) == 256
    change(disk, 0.1)
    after = disk.read_bytes()
    changed = [
        at for at in range(21) if before[at * MIB : (at + 1) * MIB] != after[at * MIB : (at + 1) * MIB]
    ]
    assert len(changed) == 2


# ---- measuring --------------------------------------------------------------------------------------


def test_memory_is_the_tools_own_and_not_that_of_the_process_that_forked_it(tmp_path: Path) -> None:
    large = bytearray(os.urandom(1) * (150 * MIB))
    small = measured(python("import time; time.sleep(0.2)"), tmp_path / "log")
    assert 3 * MIB < small.rss_bytes < 100 * MIB
    peak = measured(python(f"import time; x = b'1' * {64 * MIB}; del x; time.sleep(0.2)"), tmp_path / "log")
    assert peak.rss_bytes - small.rss_bytes > 60 * MIB
    del large


def test_cpu_is_that_of_the_run_alone(tmp_path: Path) -> None:
    busy = measured(python("import time\nwhile time.process_time() < 0.5: pass"), tmp_path / "log")
    idle = measured(python("import time; time.sleep(0.5)"), tmp_path / "log")
    assert busy.cpu_s >= 0.5
    assert idle.cpu_s < 0.5 <= idle.wall_s


def test_what_the_block_layer_wrote_is_counted(direct: Path) -> None:
    disk = direct / "disk"
    words = ["dd", "if=/dev/zero", f"of={disk}", "bs=1M", "count=8", "oflag=direct"]
    assert 8 * MIB <= measured(words, direct / "log").written_bytes < 9 * MIB
    words = ["dd", f"if={disk}", "of=/dev/null", "bs=1M", "iflag=direct"]
    assert 8 * MIB <= measured(words, direct / "log").read_bytes < 9 * MIB


def test_a_tool_that_fails_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="exit status 3: no such luck"):
        measured(python("import sys; print('no such luck'); sys.exit(3)"), tmp_path / "log")


def test_a_tool_does_not_outlive_its_context(tmp_path: Path) -> None:
    with Process(python("import time; time.sleep(600)"), tmp_path / "log") as process:
        assert process.running()
    assert process.child.returncode == -9


# ---- rounds and rows --------------------------------------------------------------------------------


def bench(directory: Path, rounds: int = 9, *, smoke: bool = False) -> Bench:
    return Bench(directory, OwnDisks(directory), 64 * MIB, rounds, 8, smoke, random.Random(1))


def scenario(arms: Callable[[], Arms]) -> Scenario:
    @contextmanager
    def opened(bench: Bench) -> Iterator[Arms]:
        del bench
        yield arms()

    return Scenario("a scenario", (), opened)


def row(arms: Sequence[str], *commands: str) -> Row:
    def figures(rounds: Sequence[Round]) -> list[float]:
        return [each[arms[0]].wall_s / each[arms[-1]].wall_s for each in rounds]

    return Row("a-row", "what it is", Goal(0.5), tuple(arms), figures, commands)


def test_each_round_runs_every_arm_that_is_wanted_in_an_order_of_its_own(tmp_path: Path) -> None:
    ran: list[str] = []

    def arm(name: str, wall_s: float) -> Arm:
        def run() -> Measure:
            ran.append(name)
            return Measure(wall_s)

        return Arm(run, lambda: ran.append(f"prepare {name}"))

    found = campaign.run(
        scenario(lambda: {"a": arm("a", 1), "b": arm("b", 4), "c": arm("c", 1)}),
        [row(["a", "b"])],
        bench(tmp_path),
    )
    pairs = [tuple(ran[at : at + 4]) for at in range(0, len(ran), 4)]
    assert len(pairs) == 9
    assert set(pairs) == {("prepare a", "a", "prepare b", "b"), ("prepare b", "b", "prepare a", "a")}
    (judged,) = found
    assert isinstance(judged, Judged)
    assert (judged.verdict, judged.figures) == (Verdict.MET, [0.25] * 9)


def test_a_missing_tool_is_named_and_keeps_no_other_row_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    arms = {"a": Arm(lambda: Measure(1.0)), "b": Arm(lambda: Measure(1.0))}
    missing, judged = campaign.run(
        scenario(lambda: arms), [row(["a", "b"]), row(["a", "b"], "ddrescue", "fio")], bench(tmp_path)
    )
    assert isinstance(missing, NotRun)
    assert missing.reason == "missing: ddrescue (package gddrescue), fio (package fio)"
    assert isinstance(judged, Judged)
    assert judged.verdict is Verdict.MISSED


@pytest.mark.parametrize(("error", "failed"), [(NotHere("no room"), False), (ToolFailed("it broke"), True)])
def test_what_ends_a_scenario_is_said_of_its_rows(tmp_path: Path, error: Exception, failed: bool) -> None:
    def fail() -> Measure:
        raise error

    (found,) = campaign.run(scenario(lambda: {"a": Arm(fail)}), [row(["a"])], bench(tmp_path))
    assert found == NotRun(found.row, str(error), failed)
    assert str(error) in report.row_text(found)


def test_a_full_directory_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match=r"it needs 1\.05 PiB in "):
        need_space(tmp_path, 1 << 50)


def test_the_fastest_peer_is_one_for_all_rounds() -> None:
    walls = {"qemu-img": (3, 3, 3), "nbdcopy": (1, 9, 9), "dd": (2, 2, 9), "ddrescue": (9, 9, 1)}
    rounds = [
        {"p2vd-copy": Measure(1.0), **{peer: Measure(float(wall[at])) for peer, wall in walls.items()}}
        for at in range(3)
    ]
    assert fastest(rounds) == "dd"
    (of_fastest,) = [each for each in RANDOM.rows if each.name == "fastest"]
    assert of_fastest.figures(rounds) == [1 / 2, 1 / 2, 1 / 9]


def test_every_row_of_the_goals_table_is_there() -> None:
    goals = {name: str(row.goal) for name, row in ROWS.items()}
    assert goals == {
        "ceiling": ">= 0.95",
        "qemu-img": "<= 0.75",
        "fastest": "<= 0.85",
        "cpu": "<= 1",
        "quarter-dirty": "<= 0.8",
        "quarter-zero": "<= 0.85",
        "sparse-file": "<= 1",
        "all-zero": "<= 0.35",
        "rss": "<= 32",
        "digests": "<= 1.05",
        "verify": "<= 1.05",
        "delta": "<= 1.1",
        "resume": "<= 1",
        "four": "<= 1.1",
    }
    assert len({scenario.what for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "/dev/null"], "--source and --target go together"),
        (["--source", "/dev/a", "--target", "/dev/b"], "all on /dev/b would be lost"),
        (["--source", "/dev/null", "--target", "/dev/null", "--overwrite-target"], "is no block device"),
        (["--overwrite-target"], "are for devices that are given"),
    ],
)
def test_devices_need_consent(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--directory", str(tmp_path)]) == 1
    assert said in capsys.readouterr().err


def test_the_engine_without_a_checkpoint_copies_and_keeps_none(direct: Path) -> None:
    source = direct / "source"
    source.write_bytes(os.urandom(40 * MIB + 700))
    words = [str(source), str(direct / "target"), "--checkpoint", str(direct / "checkpoint")]
    harness = [sys.executable, "-m", "tests.benchmark.engine", "--without-checkpoint", "--"]
    done = subprocess.run(
        [*harness, *words, "--digest", "none", "--verify", "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (direct / "target").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in direct.iterdir()) == ["source", "target"]
