"""`p2vd-copy` on files, as a user runs it."""

import contextlib
import io
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying import standalone
from p2vd.copying.layout import BLOCK
from p2vd.copying.session import Session
from p2vd.system import block

ODD = 3 * BLOCK + 65536 + 700


class Files:
    """A source, a target and a checkpoint in a directory of their own."""

    def __init__(self, directory: Path):
        self.source = directory / "source"
        self.target = directory / "target"
        self.checkpoint = directory / "checkpoint"

    def make(self, size: int, seed: int = 1, data: float = 0.5) -> None:
        """A source of `size` bytes; about that share of its 64 KiB parts holds data."""
        chance = random.Random(seed)
        with self.source.open("wb") as file:
            for at in range(0, size, 65536):
                length = min(65536, size - at)
                if chance.random() < data:
                    file.seek(at)
                    file.write(chance.randbytes(length))
                elif chance.random() < 0.5:
                    file.seek(at)
                    file.write(bytes(length))
            file.truncate(size)

    def words(self, *more: str) -> list[str]:
        return [str(self.source), str(self.target), "--checkpoint", str(self.checkpoint), *more]

    def run(self, *more: str) -> tuple[int, dict[str, Any]]:
        """Run the tool in this process; return its exit status and its closing report."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                code = standalone.main(self.words("--json", *more))
        except SystemExit as stop:
            code = int(str(stop.code))
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        return code, lines[-1] if lines else {}

    def equal(self) -> bool:
        return self.source.read_bytes() == self.target.read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("verify", ["read-back", "both"])
@pytest.mark.parametrize("size", [0, 1, 512, 4096, BLOCK, ODD, 40 * BLOCK])
def test_a_file_of_any_size_is_copied_and_proven(files: Files, size: int, verify: str) -> None:
    files.make(size)
    code, report = files.run("--verify", verify)
    assert (code, report["exit_code"], report["failure"]) == (0, 0, None)
    assert files.equal()
    assert report["bytes_copied"] + report["bytes_zero"] == size
    assert report["bytes_verified"] == size
    assert report["source_stable"] == "proven"


@pytest.mark.parametrize("digest", ["xxh3", "sha256", "none"])
def test_every_digest(files: Files, digest: str) -> None:
    files.make(ODD)
    code, report = files.run("--digest", digest, "--verify", "both")
    assert code == 0
    assert files.equal()
    assert report["digest"].startswith(digest if digest != "none" else "")


def test_a_sparse_file_stays_sparse_and_is_quick(files: Files) -> None:
    with files.source.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(5 << 30)
        file.write(b"data")
    code, report = files.run()
    assert code == 0
    assert report["bytes_copied"] <= 65536
    assert files.target.stat().st_blocks * 512 <= 2 * BLOCK
    assert files.checkpoint.stat().st_size < 2 * BLOCK


def test_a_second_run_copies_nothing_and_repeats_the_report(files: Files) -> None:
    files.make(ODD)
    _, first = files.run()
    before = files.target.stat().st_mtime_ns
    code, second = files.run()
    assert code == 0
    assert second["digest"] == first["digest"]
    assert second["bytes_copied"] == first["bytes_copied"]
    assert files.target.stat().st_mtime_ns == before


def test_a_stop_is_at_a_checkpoint_and_the_next_run_goes_on(files: Files) -> None:
    files.make(96 * BLOCK, data=1)
    slow = subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *files.words("--json", "--bandwidth", "10M")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout is not None
    for line in slow.stdout:
        if json.loads(line).get("committed_bytes", 0) > 0:
            break
    slow.send_signal(signal.SIGTERM)
    rest, _ = slow.communicate()
    report = json.loads(rest.splitlines()[-1])
    assert slow.returncode == 5
    assert 0 < report["committed_bytes"] < 96 * BLOCK
    code, second = files.run()
    assert code == 0
    assert second["bytes_skipped"] >= report["committed_bytes"]
    assert files.equal()


def test_a_slow_copy_commits_what_it_has_and_not_only_whole_works(files: Files) -> None:
    """What a crash takes back is bounded by time, however little is copied in it."""
    files.make(64 * BLOCK, data=1)
    slow = subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *files.words("--json", "--bandwidth", "4M")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert slow.stdout is not None
    first = next(line for line in map(json.loads, slow.stdout) if line["committed_bytes"] > 0)
    slow.kill()
    slow.communicate()
    assert first["bytes_copied"] < 24 * BLOCK


def test_a_target_altered_behind_its_back_is_found(files: Files) -> None:
    files.make(8 * BLOCK, data=1)
    assert files.run("--verify", "none")[0] == 0
    with files.target.open("r+b") as file:
        file.seek(5 * BLOCK + 77)
        file.write(b"altered")
    code, report = files.run()
    assert code == 3
    assert report["failure"]["name"] == "TargetMismatch"
    assert (report["failure"]["offset"], report["failure"]["length"]) == (5 * BLOCK, BLOCK)


def test_each_altered_range_is_named_with_its_bytes(files: Files) -> None:
    """As JSON and in the sentence for people; neighbours are one range; all of it is found, not the first."""
    files.make(8 * BLOCK + 700, data=1)
    assert files.run("--verify", "none")[0] == 0
    with files.target.open("r+b") as file:
        for at in (BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 8 * BLOCK + 699):
            file.seek(at)
            file.write(b"\0")
    code, report = files.run()
    assert (code, report["exit_code"]) == (3, 3)
    assert (report["failure"]["offset"], report["failure"]["length"]) == (BLOCK, 2 * BLOCK + 700)
    ranges = f"at byte offset+length {BLOCK}+{2 * BLOCK}, {8 * BLOCK}+700"
    assert ranges in report["failure"]["message"]
    argv = [sys.executable, "-m", "p2vd.copying.worker", *files.words()]
    plain = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (plain.returncode, plain.stdout) == (3, "")
    assert ranges in plain.stderr


@pytest.mark.parametrize("at", [0, 3 * BLOCK, 8 * BLOCK - 1])
def test_a_changed_source_is_found(files: Files, at: int) -> None:
    files.make(8 * BLOCK, data=1)
    assert files.run("--verify", "none")[0] == 0
    with files.source.open("r+b") as file:
        file.seek(at)
        file.write(b"!")
    code, report = files.run("--verify", "both")
    assert code == 3
    assert report["failure"]["name"] == "SourceChanged"


@pytest.mark.parametrize(("which", "failure"), [("source", "SourceChanged"), ("target", "TargetMismatch")])
@pytest.mark.parametrize("to_hole", [True, False], ids=["data became a hole", "a hole became data"])
def test_what_is_a_hole_now_and_was_not_is_found(
    files: Files, which: str, failure: str, to_hole: bool
) -> None:
    """Holes are not read again, but they must be where the digests say zeros."""
    files.make(4 * BLOCK, data=1)
    with files.source.open("r+b") as file:
        block.punch_hole(file.fileno(), 2 * BLOCK, BLOCK)
    assert files.run("--verify", "none")[0] == 0
    with getattr(files, which).open("r+b") as file:
        if to_hole:
            block.punch_hole(file.fileno(), BLOCK, BLOCK)
        else:
            file.seek(2 * BLOCK + 5)
            file.write(b"!")
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (3, failure)
    assert report["failure"]["offset"] == (1 if to_hole else 2) * BLOCK


def test_a_source_that_grew_is_refused(files: Files) -> None:
    files.make(ODD)
    assert files.run()[0] == 0
    with files.source.open("ab") as file:
        file.write(b"more")
    code, report = files.run()
    assert code == 1
    assert report["failure"]["name"] == "CheckpointMismatch"


def test_an_existing_file_is_no_target(files: Files) -> None:
    files.make(ODD)
    files.target.write_bytes(b"precious")
    code, report = files.run("--force")
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert files.target.read_bytes() == b"precious"
    assert not files.checkpoint.exists()


DIE_AFTER_CREATING = """
import os, sys
from p2vd.copying import endpoints, standalone
create = endpoints.create_file_target
def create_and_die(*args, **options):
    create(*args, **options)
    os._exit(9)
endpoints.create_file_target = create_and_die
standalone.main(sys.argv[1:])
"""


def test_a_target_created_right_before_a_crash_is_taken_up(files: Files) -> None:
    files.make(ODD)
    died = subprocess.run([sys.executable, "-c", DIE_AFTER_CREATING, *files.words()], check=False)
    assert died.returncode == 9
    assert files.target.exists()
    assert files.run()[0] == 0
    assert files.equal()


def test_another_file_in_the_targets_place_is_refused(files: Files) -> None:
    files.make(ODD)
    assert files.run("--verify", "none")[0] == 0
    moved = files.target.rename(files.target.with_name("moved"))
    files.target.write_bytes(moved.read_bytes())
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")


@pytest.mark.parametrize(
    "words",
    [
        ["--digest", "none"],
        ["--queue-depth", "0"],
        ["--resync"],
        ["--resync", "--digest", "none", "--verify", "both"],
        ["--target-unchanged"],
        ["--verify", "perhaps"],
        ["--bandwidth", "fast"],
        ["--forc"],
    ],
)
def test_what_it_does_not_understand_it_refuses(files: Files, words: list[str]) -> None:
    files.make(ODD)
    assert files.run(*words)[0] == 1
    assert not files.target.exists()


def test_a_source_that_is_no_disk_is_refused(files: Files) -> None:
    files.source.mkdir()
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (1, "SourceRefused")


def test_a_source_that_is_not_there_is_refused(files: Files) -> None:
    code, report = files.run()
    assert (code, report["failure"]["name"]) == (1, "OpenFailed")


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_it_goes_on(files: Files, seed: int) -> None:
    """SIGKILL after a random number of progress lines, again and again, then to the end."""
    chance = random.Random(seed)
    files.make(48 * BLOCK, seed, data=0.4)
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-m", "p2vd.copying.worker", *files.words("--json", "--bandwidth", "40M")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout is not None
        for _ in range(chance.randrange(1, 4)):
            victim.stdout.readline()
        victim.kill()
        victim.communicate()
    code, report = files.run()
    assert (code, report["failure"]) == (0, None)
    assert files.equal()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_copy_that_ends_without_a_report_has_one_all_the_same(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours: who waits for the copy hears of it as of any failure."""

    def dies(_: Session) -> None:
        raise SystemExit  # threading says nothing of this one

    files.make(ODD)
    monkeypatch.setattr(Session, "run", dies)
    code, report = files.run()
    assert (code, report["exit_code"], report["failure"]["name"]) == (2, 2, "Defect")
    monkeypatch.undo()
    assert files.run()[0] == 0
