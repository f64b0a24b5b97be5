"""A disk's file: made once, found by its id, named when it is whole, and nobody else's ever touched."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from p2vd.system import image_file, mountinfo

MIB = 1 << 20


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_new_file_is_sparse_private_and_blank(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / "a", 8 * MIB)
    status = (tmp_path / "a").stat()
    assert (status.st_size, status.st_blocks, stat.S_IMODE(status.st_mode)) == (8 * MIB, 0, 0o600)
    assert image_file.find(tmp_path / "a") == seen
    assert seen.blank
    (tmp_path / "a").write_bytes(b"x")
    again = image_file.find(tmp_path / "a")
    assert again is not None
    assert (again.file_id, again.blank) == (seen.file_id, False)


def test_what_is_there_is_never_opened_for_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(FileExistsError):
        image_file.create(tmp_path / "a", MIB)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    with pytest.raises(FileExistsError):
        image_file.create(tmp_path / "link", MIB)
    assert (tmp_path / "a").read_text() == "mine"
    assert not (tmp_path / "b").exists()


def test_no_mount_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"nothing is mounted at {tmp_path}"):
        image_file.create(tmp_path / "a", MIB, str(tmp_path))
    assert not (tmp_path / "a").exists()


def published(tmp_path: Path, file_id: str) -> None:
    image_file.publish(tmp_path / ".a.new", tmp_path / "a", file_id, "", "", 0o640)


def test_a_file_gets_its_name_owner_and_mode_and_may_be_told_again(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / ".a.new", MIB)
    for _ in range(2):
        published(tmp_path, seen.file_id)
    status = (tmp_path / "a").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o640, os.geteuid())
    assert names(tmp_path) == ["a"]


def test_what_has_the_jobs_name_and_is_not_its_file_stays(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / ".a.new", MIB)
    published(tmp_path, seen.file_id)
    (tmp_path / ".a.new").write_text("theirs")
    published(tmp_path, seen.file_id)
    assert (tmp_path / ".a.new").read_text() == "theirs"


def test_a_directory_bound_onto_itself_is_no_filesystem_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the unit's sandbox does with each path that it may write to."""
    lines = mountinfo.read() + f"99 1 0:99 / {tmp_path} rw - ext4 /dev/sda1 rw\n"
    monkeypatch.setattr(mountinfo, "read", lambda: lines)
    assert image_file.look_at(tmp_path).mount_point != str(tmp_path)
    with pytest.raises(OSError, match=f"nothing is mounted at {tmp_path}"):
        image_file.create(tmp_path / "a", MIB, str(tmp_path))


def test_a_name_that_somebody_took_meanwhile_stays_theirs(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / ".a.new", MIB)
    (tmp_path / "a").write_text("theirs")
    with pytest.raises(FileExistsError):
        published(tmp_path, seen.file_id)
    assert (tmp_path / "a").read_text() == "theirs"
    assert image_file.find(tmp_path / ".a.new") == seen


def test_where_a_crash_left_both_names_one_is_taken_away(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / ".a.new", MIB)
    os.link(tmp_path / ".a.new", tmp_path / "a")
    published(tmp_path, seen.file_id)
    assert names(tmp_path) == ["a"]


def test_a_filesystem_without_the_flag_gets_a_second_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldLibc:
        def renameat2(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(image_file, "_libc", OldLibc())
    monkeypatch.setattr("ctypes.get_errno", lambda: errno.EINVAL)
    (tmp_path / "old").write_text("x")
    (tmp_path / "taken").write_text("y")
    with pytest.raises(FileExistsError):
        image_file.rename_new(tmp_path / "old", tmp_path / "taken")
    image_file.rename_new(tmp_path / "old", tmp_path / "new")
    assert names(tmp_path) == ["new", "taken"]


def test_another_file_of_that_name_is_not_removed(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / "a", MIB)
    assert not image_file.remove(tmp_path / "a", "1@2.000000003")
    assert image_file.remove(tmp_path / "a", seen.file_id)
    assert image_file.remove(tmp_path / "a", seen.file_id)


def test_a_directory_tells_its_filesystem(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    seen = image_file.look_at(tmp_path)
    assert seen.names == ("x",)
    assert str(tmp_path).startswith(seen.mount_point.rstrip("/"))
    assert 0 < seen.free_bytes <= seen.size_bytes
    assert seen.filesystem


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"step": "look", "path": "/nowhere/at/all"}, "FileNotFoundError"),
        ({"step": "find", "path": "/dev/null"}, "FileExistsError"),
        ({"step": "remove", "path": "/proc/self", "file_id": "x"}, "FileExistsError"),
    ],
)
def test_the_program_says_what_went_wrong(request_: dict[str, object], error: str) -> None:
    if request_["path"] == "/proc/self":
        request_ = {**request_, "path": "/proc/self/fd"}
    argv = [sys.executable, "-m", "p2vd.system.image_file", json.dumps(request_)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"] == error


def test_an_owner_that_this_host_does_not_know(tmp_path: Path) -> None:
    seen = image_file.create(tmp_path / ".a.new", MIB)
    request = {
        **{"step": "publish", "path": str(tmp_path / ".a.new"), "name": str(tmp_path / "a")},
        **{"file_id": seen.file_id, "owner": "nobody-of-that-name", "group": "", "mode": 0o600},
    }
    assert image_file.answer(request)["error"] == "KeyError"
    assert not (tmp_path / "a").exists()
