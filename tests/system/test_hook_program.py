"""Programs of the administrator: which may be run, and what becomes of those that misbehave."""

import os
from pathlib import Path

import pytest

from p2vd.system.hook_program import (
    OUTPUT_BYTES,
    ProgramRefused,
    ProgramStopped,
    list_programs,
    run,
)
from tests.waiting import until_ended

KNOWN = {"before": None, "after": None}
STRANGER = 65534
PATIENCE_S = 60.0
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    directory = tmp_path / "hooks.d"
    (directory / "before").mkdir(parents=True)
    return directory


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def listed(hooks: Path, step: str = "before") -> list[str]:
    return [path.name for path in list_programs(hooks, step, KNOWN, os.getuid())]


def refused(hooks: Path) -> str:
    with pytest.raises(ProgramRefused) as caught:
        listed(hooks)
    return str(caught.value)


# ---- which may be run ----------------------------------------------------------------------------


def test_programs_come_by_name_and_hidden_files_do_not(hooks: Path) -> None:
    for name in ("20-b", "10-a", ".hidden"):
        script(hooks / "before" / name, "")
    assert listed(hooks) == ["10-a", "20-b"]
    assert listed(hooks, "after") == []


def test_where_no_directory_is_there_are_no_programs(tmp_path: Path) -> None:
    assert listed(tmp_path / "none") == []
    with pytest.raises(ProgramRefused, match=r"none is not there \(mkdir it"):
        list_programs(tmp_path / "none", "before", KNOWN, os.getuid(), may_be_absent=False)


@needs_root
@pytest.mark.parametrize("place", ["before/10-a", "before", "."])
def test_what_is_another_users_is_refused_by_name(hooks: Path, place: str) -> None:
    script(hooks / "before/10-a", "")
    os.chown(hooks / place, STRANGER, -1)
    assert refused(hooks) == f"{hooks / place} belongs to uid {STRANGER} and not to root (chown root)"


def test_a_directory_above_of_another_user_is_refused(hooks: Path) -> None:
    """Also where nobody is root: what belongs to neither root nor the required owner."""
    script(hooks / "before/10-a", "")
    if os.getuid() == 0:
        os.chown(hooks.parent, STRANGER, -1)
    with pytest.raises(ProgramRefused, match="belongs to uid"):
        list_programs(hooks, "before", KNOWN, os.getuid() + 1)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
@pytest.mark.parametrize("place", ["before/10-a", "before", "."])
def test_what_others_may_write_is_refused_by_name(hooks: Path, place: str, mode: int) -> None:
    script(hooks / "before/10-a", "")
    (hooks / place).chmod(mode)
    assert refused(hooks) == f"{hooks / place} may be written by others than its owner (chmod go-w)"


def test_a_directory_above_may_be_written_by_others_only_where_it_is_sticky(hooks: Path) -> None:
    script(hooks / "before/10-a", "")
    hooks.parent.chmod(0o1777)
    assert listed(hooks) == ["10-a"]
    hooks.parent.chmod(0o777)
    assert "may be written by others" in refused(hooks)


def test_links_are_not_followed(hooks: Path, tmp_path: Path) -> None:
    (hooks / "before/10-a").symlink_to(script(tmp_path / "elsewhere", ""))
    assert "10-a is no program: a regular file, and symbolic links are not followed" in refused(hooks)


@pytest.mark.parametrize("name", ["10-a.dpkg-old", "10-a~", "a b"])
def test_a_name_that_may_be_an_old_copy_is_refused(hooks: Path, name: str) -> None:
    script(hooks / "before" / name, "")
    assert refused(hooks).startswith(f"{hooks / 'before' / name} has a name that is not of letters")


def test_a_program_that_is_not_executable_is_refused_and_not_left_out(hooks: Path) -> None:
    script(hooks / "before/10-a", "").chmod(0o644)
    assert refused(hooks) == f"{hooks / 'before/10-a'} is not executable (chmod 0755)"


def test_a_directory_of_no_step_is_refused_so_that_a_slip_of_the_pen_shows(hooks: Path) -> None:
    (hooks / "befor").mkdir()
    assert refused(hooks) == f"{hooks / 'befor'} is of no step: here may be before, after"


# ---- how they run --------------------------------------------------------------------------------


def test_a_program_gets_its_input_and_little_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "xyzzy")
    ended = run(script(tmp_path / "hook", 'cat; echo "$#" "$PWD" >&2; env'), "told", PATIENCE_S)
    assert ended.how == ""
    assert ended.output.startswith("told0 /\n")
    assert "LC_ALL=C.UTF-8" in ended.output
    assert "xyzzy" not in ended.output


def test_input_that_nobody_reads_blocks_nobody(tmp_path: Path) -> None:
    assert run(script(tmp_path / "hook", "exit 0"), "x" * (1 << 20), PATIENCE_S).how == ""


@pytest.mark.parametrize(
    ("text", "how"), [("exit 3", "failed with exit status 3"), ("kill -9 $$", "was ended by signal 9")]
)
def test_a_bad_end_is_told(tmp_path: Path, text: str, how: str) -> None:
    ended = run(script(tmp_path / "hook", f"echo no room; {text}"), "", PATIENCE_S)
    assert (ended.how, ended.output) == (how, "no room")


def test_output_is_bounded_and_its_writer_is_not_held_up(tmp_path: Path) -> None:
    ended = run(
        script(tmp_path / "hook", "echo begin; head -c 4000000 /dev/zero | tr '\\0' x"), "", PATIENCE_S
    )
    assert ended.how == ""
    assert ended.output.startswith("begin")
    assert len(ended.output) <= OUTPUT_BYTES + len(" ...")


def test_one_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    # In that time the shell has to get so far as to tell.
    hook = script(tmp_path / "hook", 'trap "" TERM; sleep 1000 & echo $!; while :; do wait; done')
    ended = run(hook, "", 5.0)
    assert ended.late
    assert ended.how == "did not end within 5 s and was ended"
    until_ended(int(ended.output))


def test_what_is_left_behind_is_ended_and_its_open_output_is_not_waited_for(tmp_path: Path) -> None:
    ended = run(script(tmp_path / "hook", "sleep 1000 & echo $!"), "", PATIENCE_S)
    assert (ended.how, ended.late) == ("", False)
    until_ended(int(ended.output))


def test_the_wait_can_be_given_up(tmp_path: Path) -> None:
    hook = script(tmp_path / "hook", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    with pytest.raises(ProgramStopped):
        run(hook, "", 1000.0, lambda: not (tmp_path / "pid").exists() or not _said(tmp_path / "pid"))
    until_ended(int((tmp_path / "pid").read_text()))


def _said(path: Path) -> str:
    return path.read_text().strip()


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("no interpreter\n")
    hook.chmod(0o755)
    with pytest.raises(ProgramRefused, match="cannot be started"):
        run(hook, "", PATIENCE_S)


def test_one_that_cannot_be_watched_is_ended_and_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, children = tmp_path / "hook", []
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)

    def pidfd_open(pid: int) -> int:
        children.append(pid)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with pytest.raises(ProgramRefused, match="was started, cannot be watched"):
        run(program, "", 60)
    (child,) = children
    assert not Path(f"/proc/{child}").exists()
