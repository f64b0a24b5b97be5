"""Definitions as files: whole or not there, ours or not touched."""

import os
from pathlib import Path

import pytest

from p2vd.model.definition_file import DefinitionFile
from p2vd.registration.errors import DefinitionUnwritable, FileNotOurs, StartedElsewhere
from p2vd.registration.files import FileHypervisor
from p2vd.system import durable

UUID = "22222222-2222-4222-8222-222222222222"
OTHER = "33333333-3333-4333-8333-333333333333"


def text(uuid: str = UUID, more: str = "memory = 64") -> str:
    return f"# {DefinitionFile.MARK} {uuid}.\n{more}\n"


CONF = DefinitionFile("erp1.conf", text())
SCRIPT = DefinitionFile("erp1.sh", "#!/bin/sh\n" + text(more="qm start"), runs=True)


def written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.fixture
def xl(tmp_path: Path) -> FileHypervisor:
    return FileHypervisor("xl", tmp_path)


def test_files_are_written_with_their_modes(xl: FileHypervisor, tmp_path: Path) -> None:
    old = os.umask(0o077)  # the daemon's
    try:
        xl.define([CONF, SCRIPT], UUID)
    finally:
        os.umask(old)
    assert written(tmp_path) == {"erp1.conf": CONF.text, "erp1.sh": SCRIPT.text}
    assert (tmp_path / "erp1.conf").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "erp1.sh").stat().st_mode & 0o777 == 0o755


def test_again_changes_nothing_and_what_is_missing_or_old_is_made(xl: FileHypervisor, tmp_path: Path) -> None:
    xl.define([CONF, SCRIPT], UUID)
    before = (tmp_path / "erp1.conf").stat()
    (tmp_path / "erp1.sh").unlink()
    xl.define([CONF, SCRIPT], UUID)
    assert (tmp_path / "erp1.conf").stat().st_ino == before.st_ino
    assert (tmp_path / "erp1.sh").exists()
    xl.define([DefinitionFile("erp1.conf", text(more="memory = 128")), SCRIPT], UUID)
    assert "128" in (tmp_path / "erp1.conf").read_text()


@pytest.mark.parametrize("foreign", ["name = 'erp1'\n", text(OTHER), ""])
def test_a_file_of_somebody_else_is_not_touched_and_nothing_is_written(
    xl: FileHypervisor, tmp_path: Path, foreign: str
) -> None:
    (tmp_path / "erp1.sh").write_text(foreign)
    with pytest.raises(FileNotOurs, match=r"erp1\.sh is there already"):
        xl.define([CONF, SCRIPT], UUID)
    assert written(tmp_path) == {"erp1.sh": foreign}
    xl.undefine(UUID)
    assert written(tmp_path) == {"erp1.sh": foreign}


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_is_not_ours(xl: FileHypervisor, tmp_path: Path, kind: str) -> None:
    path = tmp_path / CONF.name
    if kind == "link":
        (tmp_path / "elsewhere").write_text(CONF.text)
        path.symlink_to("elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(FileNotOurs):
        xl.define([CONF], UUID)


def test_rollback_removes_the_machine_s_files_whatever_their_names(
    xl: FileHypervisor, tmp_path: Path
) -> None:
    xl.define([CONF, SCRIPT], UUID)
    xl.define([DefinitionFile("erp2.conf", text(OTHER))], OTHER)
    (tmp_path / "erp1.conf").rename(tmp_path / "kept.conf")
    xl.undefine(UUID)
    assert list(written(tmp_path)) == ["erp2.conf"]
    xl.undefine(UUID)


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    xl = FileHypervisor("xl", tmp_path / "absent")
    with pytest.raises(DefinitionUnwritable, match=r"mkdir -p .*/absent"):
        xl.define([CONF], UUID)
    xl.undefine(UUID)


def test_a_crash_while_writing_leaves_no_file_of_that_name(
    xl: FileHypervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", power_cut)
        with pytest.raises(KeyboardInterrupt):
            xl.define([CONF], UUID)
    assert CONF.name not in written(tmp_path)
    xl.define([CONF], UUID)
    assert written(tmp_path) == {CONF.name: CONF.text}


def test_a_name_taken_in_the_same_moment_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("theirs")
    with pytest.raises(FileExistsError):
        durable.create(tmp_path / "x", "ours")
    assert written(tmp_path) == {"x": "theirs"}


def test_text_without_the_mark_is_a_defect(xl: FileHypervisor) -> None:
    with pytest.raises(ValueError, match="no mark"):
        xl.define([DefinitionFile("erp1.conf", text(OTHER))], UUID)


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ("xl", "run: xl create {directory}/erp1.sh"),
        ("proxmox", "run: sh {directory}/erp1.sh on the Proxmox VE host"),
        ("kubevirt", "run: kubectl apply -f {directory}/erp1.sh"),
    ],
)
def test_a_start_says_what_to_run(tmp_path: Path, tool: str, said: str) -> None:
    hypervisor = FileHypervisor(tool, tmp_path)
    hypervisor.define([CONF, SCRIPT], UUID)
    with pytest.raises(StartedElsewhere) as raised:
        hypervisor.start(UUID)
    assert said.format(directory=tmp_path) in str(raised.value)
    assert not hypervisor.is_running(UUID)
