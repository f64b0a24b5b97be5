"""Targets in compressed frames, as a user makes them; zstd(1) and gunzip(1) are the judges."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2vd.copying import controls, endpoints
from p2vd.copying.layout import BLOCK
from p2vd.model.size import GIB
from tests.copying.test_tool import ODD, Files

FORMATS = {"raw.zst": ["zstd", "-dc"], "raw.gz": ["gunzip", "-c"]}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def unpacked(files: Files, form: str) -> bytes:
    """What the format's own tool makes of the target. It reads from a pipe: no name tells it anything."""
    with files.target.open("rb") as file:
        done = subprocess.run(FORMATS[form], stdin=file, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize("verify", ["both", "none"])
@pytest.mark.parametrize("size", [0, 1, BLOCK, ODD])
def test_a_disk_of_any_size_is_packed_and_proven(files: Files, form: str, size: int, verify: str) -> None:
    files.make(size)
    code, report = files.run("--target-format", form, "--verify", verify)
    assert (code, report["failure"]) == (0, None)
    assert unpacked(files, form) == files.source.read_bytes()
    assert report["bytes_copied"] + report["bytes_zero"] == size
    assert report["bytes_verified"] == (0 if verify == "none" else size)


@pytest.mark.parametrize("digest", ["xxh3", "sha256", "none"])
def test_every_digest(files: Files, form: str, digest: str) -> None:
    files.make(ODD)
    assert files.run("--target-format", form, "--digest", digest, "--verify", "both")[0] == 0
    code, report = files.run("--target-format", form, "--digest", digest, "--verify", "both")
    assert (code, report["failure"]) == (0, None)


@pytest.mark.parametrize(
    ("form", "level"), [("raw.zst", "1"), ("raw.zst", "19"), ("raw.gz", "1"), ("raw.gz", "9")]
)
def test_the_level_counts(files: Files, form: str, level: str) -> None:
    text = " ".join(str(number) for number in range(500_000)).encode()
    files.source.write_bytes(text[: 3 * BLOCK])
    assert files.run("--target-format", form, "--level", level)[0] == 0
    assert unpacked(files, form) == files.source.read_bytes()
    at_level = files.target.stat().st_size
    files.target.unlink()
    files.checkpoint.unlink()
    assert files.run("--target-format", form)[0] == 0
    usual = files.target.stat().st_size
    assert at_level != usual


def test_holes_cost_next_to_nothing(files: Files) -> None:
    with files.source.open("wb") as file:
        file.truncate(100 * GIB)
        file.seek(7 * GIB + 100)
        file.write(random.Random(1).randbytes(BLOCK))
    code, report = files.run("--target-format", "raw.zst")
    assert (code, report["failure"], report["bytes_verified"]) == (0, None, 100 * GIB)
    assert files.target.stat().st_size < 8 * BLOCK
    assert files.checkpoint.stat().st_size < BLOCK


def test_memory_does_not_grow_with_the_disk(files: Files, form: str) -> None:
    """100 GiB with data in every GiB."""
    with files.source.open("wb") as file:
        file.truncate(100 * GIB)
        for number in range(0, 100, 8 if form == "raw.gz" else 2):
            file.seek(number * GIB + 5)
            file.write(b"data")
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from p2vd.copying.worker import main\n"
        "code = main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1], file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    words = files.words("--target-format", form)
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.splitlines()[-1]) < 64 * 1024


def test_run_again_it_writes_nothing_and_repeats_its_report(files: Files, form: str) -> None:
    files.make(ODD)
    _, first = files.run("--target-format", form)
    before = files.target.stat().st_mtime_ns
    code, second = files.run("--target-format", form)
    assert (code, second["digest"], files.target.stat().st_mtime_ns) == (0, first["digest"], before)
    assert files.run("--target-format", form, "--verify", "both")[1]["source_stable"] == "proven"
    assert files.target.stat().st_mtime_ns == before


@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment_it_goes_on(files: Files, form: str, seed: int) -> None:
    """SIGKILL after a random number of progress lines, again and again, then to the end."""
    chance = random.Random(seed)
    files.make(16 * BLOCK, seed, data=0.4)
    for number in range(3):
        # For eight seconds: behind the end of a whole target more bytes are damage, and told as that.
        words = files.words(
            "--json", "--bandwidth", "2M", "--target-format", form, "--level", str(number + 1)
        )
        victim = subprocess.Popen(
            [sys.executable, "-m", "p2vd.copying.worker", *words], stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        for _ in range(chance.randrange(1, 4)):
            victim.stdout.readline()
        victim.kill()
        victim.communicate()
        with files.target.open("ab") as file:  # as a crash may leave it
            file.write(chance.randbytes(1000))
    code, report = files.run("--target-format", form)
    assert (code, report["failure"]) == (0, None)
    assert unpacked(files, form) == files.source.read_bytes()


def test_stopped_by_a_signal_it_goes_on_where_it_was(files: Files, form: str) -> None:
    files.make(10 * BLOCK, data=1)
    words = files.words("--json", "--bandwidth", "2M", "--target-format", form)
    victim = subprocess.Popen(
        [sys.executable, "-m", "p2vd.copying.worker", *words], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    while not json.loads(victim.stdout.readline()).get("committed_bytes"):
        pass
    victim.send_signal(signal.SIGTERM)
    victim.communicate()
    assert victim.returncode == 5
    code, report = files.run("--target-format", form)
    assert (code, report["failure"]) == (0, None)
    assert report["bytes_skipped"] > 0
    assert unpacked(files, form) == files.source.read_bytes()


@pytest.mark.parametrize("where", ["frame", "end", "cut", "more"])
def test_damage_to_a_target_is_found(files: Files, form: str, where: str) -> None:
    files.make(8 * BLOCK, data=1)
    assert files.run("--target-format", form, "--verify", "none")[0] == 0
    size = files.target.stat().st_size
    with files.target.open("r+b") as file:
        if where == "cut":
            file.truncate(size // 2)
        else:
            file.seek({"frame": size // 2, "end": size - 5, "more": size}[where])
            file.write(b"!")
    code, report = files.run("--target-format", form)
    assert code == 3
    assert report["failure"]["name"] == ("TargetChanged" if where == "cut" else "TargetMismatch")


def test_a_changed_source_is_found(files: Files, form: str) -> None:
    files.make(8 * BLOCK, data=1)
    assert files.run("--target-format", form, "--verify", "none")[0] == 0
    with files.source.open("r+b") as file:
        file.seek(3 * BLOCK)
        file.write(b"!")
    code, report = files.run("--target-format", form, "--verify", "both")
    assert (code, report["failure"]["name"]) == (3, "SourceChanged")


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (["--target-format", "raw.gz"], "CheckpointMismatch"),
        (["--target-format", "raw"], "CheckpointMismatch"),
        (["--target-format", "raw.zst", "--resync"], "UsageError"),
    ],
)
def test_what_a_packed_target_cannot_be(files: Files, words: list[str], failure: str) -> None:
    files.make(ODD)
    assert files.run("--target-format", "raw.zst")[0] == 0
    before = files.target.read_bytes()
    code, report = files.run(*words)
    assert (code, report["failure"]["name"]) == (1, failure)
    assert files.target.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--target-format", "raw.zst", "--level", "20"],
        ["--target-format", "raw.gz", "--level", "10"],
        ["--target-format", "raw.gz", "--level", "-1"],
        ["--level", "3"],
        ["--target-format", "raw.bz2"],
    ],
)
def test_what_it_does_not_understand_it_refuses(files: Files, words: list[str]) -> None:
    files.make(ODD)
    assert files.run(*words)[0] == 1
    assert not files.target.exists()


def test_a_file_that_is_there_is_no_target(files: Files, form: str) -> None:
    files.make(ODD)
    files.target.write_bytes(b"precious")
    code, report = files.run("--target-format", form, "--force")
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")
    assert files.target.read_bytes() == b"precious"
    assert not files.checkpoint.exists()


def test_another_file_in_the_targets_place_is_refused(files: Files, form: str) -> None:
    files.make(ODD)
    assert files.run("--target-format", form, "--verify", "none")[0] == 0
    moved = files.target.rename(files.target.with_name("moved"))
    files.target.write_bytes(moved.read_bytes())
    code, report = files.run("--target-format", form)
    assert (code, report["failure"]["name"]) == (1, "TargetRefused")


def test_a_target_created_right_before_a_crash_is_taken_up(
    files: Files, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.make(ODD)
    create = endpoints.create_file_target

    def create_and_die(*args: object, **options: object) -> None:
        create(*args, **options)  # type: ignore[arg-type]  # as they came
        raise KeyboardInterrupt

    monkeypatch.setattr(endpoints, "create_file_target", create_and_die)
    with pytest.raises(KeyboardInterrupt):
        files.run("--target-format", form)
    monkeypatch.undo()
    assert files.run("--target-format", form)[0] == 0
    assert unpacked(files, form) == files.source.read_bytes()


@pytest.mark.parametrize(("call", "after"), [("pwrite", 0), ("pwrite", 5), ("fdatasync", 0)])
def test_it_goes_on_when_there_is_space_again(
    files: Files, form: str, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    """Also where only the flush tells, as on NFS; what was not committed is made again."""
    files.make(8 * BLOCK, data=1)
    monkeypatch.setattr(controls, "_NO_SPACE_WAIT_S", 0.1)
    real, left = getattr(os, call), [after, 3]

    def full(*args: object) -> object:
        left[0] -= 1
        if left[0] < 0 and left[1] > 0:
            left[1] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args)

    monkeypatch.setattr(os, call, full)
    code, report = files.run("--target-format", form)
    assert (code, report["failure"], left[1]) == (0, None, 0)
    monkeypatch.undo()
    assert unpacked(files, form) == files.source.read_bytes()


def test_a_write_that_fails_ends_the_copy_and_the_next_run_cuts_back(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.make(12 * BLOCK, data=1)
    pwrite, left = os.pwrite, [6]

    def sick(fd: int, data: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", sick)
    code, report = files.run("--target-format", "raw.zst")
    assert (code, report["failure"]["name"]) == (2, "WriteFailed")
    monkeypatch.undo()
    assert files.run("--target-format", "raw.zst")[0] == 0
    assert unpacked(files, "raw.zst") == files.source.read_bytes()
