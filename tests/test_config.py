"""The configuration, and which policy files count."""

import os
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from p2vd.config import AuditOptions, Config, ConfigInvalid, QuarantineMode, load, policy_texts, show
from p2vd.model.forms import IMAGE_NAMES
from p2vd.model.limits import Limits
from p2vd.policy.model import PolicyText

CONF = Path(__file__).parents[1] / "conf"


def written(tmp_path: Path, text: str) -> Path:
    """A configuration file."""
    path = tmp_path / "p2vd.toml"
    path.write_text(text)
    return path


def test_no_file_means_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2vd.config.DEFAULT_PATH", tmp_path / "none.toml")
    assert load() == Config()


def test_a_file_that_is_named_is_there(tmp_path: Path) -> None:
    """A typing error in --config shall not look like a configuration without a mistake."""
    with pytest.raises(ConfigInvalid, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")


def test_the_shipped_file_says_nothing() -> None:
    assert load(CONF / "p2vd.toml") == Config()


def test_the_shipped_file_shows_every_default(tmp_path: Path) -> None:
    lines = (CONF / "p2vd.toml").read_text().splitlines()
    settings = [line[1:] for line in lines if re.match(r"#(\w|\[\w)", line)]
    assert "\n".join(settings) + "\n" == show(Config())


def test_the_shipped_file_and_the_manual_name_every_kind_of_image() -> None:
    comment = (CONF / "p2vd.toml").read_text().partition("#image_directories")[0].rpartition("\n\n")[2]
    assert set(re.findall(r"\*(\.\w+)", comment)) == set(IMAGE_NAMES)
    table = (CONF / "p2vd.toml.5.md").read_text().partition("\n## IMAGES\n")[2].partition("\n\nImages")[0]
    assert set(re.findall(r"`(\.\w+)`", table)) == set(IMAGE_NAMES)


def test_the_manual_tells_of_every_setting() -> None:
    text = (CONF / "p2vd.toml.5.md").read_text()
    shown = tomllib.loads(show(Config()))
    shown |= shown.pop("limits")
    audit = shown.pop("audit")
    shown |= {f"audit.{name}": value for name, value in audit.items()}
    for name, value in shown.items():
        entry = next(line for line in text.splitlines() if line.startswith(f"`{name}` ("))
        default = entry.partition("default `")[2].removesuffix("`)")
        assert tomllib.loads(f"x = {default}")["x"] == value


def test_every_setting_can_be_said_and_shown(tmp_path: Path) -> None:
    config = Config(
        state_dir=Path("/s"),
        policy_dirs=(Path("/p"),),
        image_directories=(Path("/i"),),
        quarantine=QuarantineMode.UNKNOWN,
        quarantine_dir=Path("/q"),
        worker_user="w",
        max_jobs=1,
        commit_interval_s=2.5,
        auto_settle_s=7.5,
        stop_timeout_s=3,
        log_level="debug",
        limits=Limits(per_volume_group=1, per_array=2, per_portal=3, bandwidth_bytes_per_s=400 << 20),
        keep_finished_days=1,
        hooks_dir=Path("/h"),
        hook_timeout_s=2.5,
        audit=AuditOptions(keep_days=90, max_size=100 << 10),
    )
    default = Config()
    assert all(getattr(config, f.name) != getattr(default, f.name) for f in fields(Config))
    assert load(written(tmp_path, show(config))) == config


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "\nstate_dirs = 1",
            ":2: state_dirs: there is no such key; allowed here: audit, auto_settle_s, ",
        ),
        ("state_dir = 'var'", ":1: state_dir: must begin with /"),
        ("state_dir = ['/a', '/b']", ":1: state_dir: must be a string in quotes, not ['/a', '/b']"),
        ("policy_dirs = ['/a', 'b']", ":1: policy_dirs: must begin with /"),
        ("image_directories = ['/srv', 'b']", ":1: image_directories: must begin with /"),
        ("image_directories = ['/tmp/x']", ":1: image_directories: p2vd has a /tmp/x of its own"),
        ("quarantine = 'all'", ':1: quarantine: must be "sources" or "unknown", not \'all\''),
        ("worker_user = 'a b'", ":1: worker_user: must be the name of a user, not 'a b'"),
        ("worker_user = 'root'", ":1: worker_user: must not be root"),
        ("max_jobs = 0", ":1: max_jobs: must be a whole number from 1 to 256, not 0"),
        ("limits.per_array = -1", ":1: limits.per_array: must be a whole number from 0 to 256, not -1"),
        (
            "[limits]\nper_pool = 1",
            ":2: limits.per_pool: there is no such key; allowed here: bandwidth, per_array, per_portal",
        ),
        ("limits.bandwidth = '4 KiB'", ":1: limits.bandwidth: must be 1 MiB or more, or 0 for no limit"),
        ("limits.bandwidth = 7", ':1: limits.bandwidth: must be a size in quotes, as "10 GiB", not 7'),
        ("log_level = 'loud'", ":1: log_level: must be debug or info or warning or error, not 'loud'"),
        ("max_jobs = ", ":1: not TOML: Invalid value"),
        ("[audit]\nkeep = 1", ":2: audit.keep: there is no such key; allowed here: keep_days, max_size"),
        ("[audit]\nmax_size = '1 KiB'", ":2: audit.max_size: must be 64 KiB to 1024 MiB"),
        ("audit = 7", ":1: audit: must be a table: [audit]"),
    ],
)
def test_errors_name_line_and_key(tmp_path: Path, text: str, error: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    assert f"\n{path}{error}" in str(caught.value)


def test_the_limit_of_all_jobs_is_one_of_the_limits(tmp_path: Path) -> None:
    config = load(written(tmp_path, "max_jobs = 7\n[limits]\nper_array = 2\n"))
    assert config.all_limits == Limits(in_all=7, per_array=2)


def test_all_errors_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(written(tmp_path, "a = 1\nmax_jobs = 0\n"))
    assert len(caught.value.errors) == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "latin1").write_bytes(b"# \xe9\n")
    for name, problem in (("dangling", "cannot be read: No such"), ("latin1", "is not UTF-8 at byte 2")):
        with pytest.raises(ConfigInvalid, match=problem):
            load(tmp_path / name)


@pytest.fixture
def directories(tmp_path: Path) -> Config:
    """A configuration with directories `etc` over `usr`."""
    for name in ("etc", "usr"):
        (tmp_path / name).mkdir()
    return Config(policy_dirs=(tmp_path / "etc", tmp_path / "usr"))


def names(config: Config) -> list[str]:
    """The chosen files, as `directory/name`."""
    return ["/".join(Path(text.path).parts[-2:]) for text in policy_texts(config)]


def put(config: Config, *paths: str) -> None:
    """Make files that hold their own names."""
    for path in paths:
        (config.policy_dirs[0].parent / path).write_text(f"# {path}\n")


def test_files_apply_in_the_order_of_their_names(directories: Config) -> None:
    put(directories, "usr/10-b.toml", "etc/20-c.toml", "usr/30-a.toml", "etc/00-z.toml")
    assert names(directories) == ["etc/00-z.toml", "usr/10-b.toml", "etc/20-c.toml", "usr/30-a.toml"]


def test_a_file_in_etc_hides_one_of_the_same_name(directories: Config) -> None:
    put(directories, "usr/10-a.toml", "etc/10-a.toml")
    (text,) = policy_texts(directories)
    assert text == PolicyText(str(directories.policy_dirs[0] / "10-a.toml"), "# etc/10-a.toml\n")


def test_a_link_to_dev_null_hides_and_says_nothing(directories: Config) -> None:
    put(directories, "usr/10-a.toml", "usr/20-b.toml")
    (directories.policy_dirs[0] / "10-a.toml").symlink_to("/dev/null")
    assert names(directories) == ["usr/20-b.toml"]


def test_only_toml_files_count(directories: Config) -> None:
    put(directories, "etc/README", "etc/.hidden.toml", "etc/a.toml~", "etc/a.toml.dpkg-old")
    assert names(directories) == []


def test_directories_need_not_be_there(tmp_path: Path) -> None:
    assert policy_texts(Config(policy_dirs=(tmp_path / "none",))) == ()


def test_what_cannot_be_read_is_a_problem(directories: Config, tmp_path: Path) -> None:
    (directories.policy_dirs[0] / "10-a.toml").symlink_to(tmp_path / "none")
    (directories.policy_dirs[0] / "20-b.toml").mkdir()
    (directories.policy_dirs[0] / "30-c.toml").write_bytes(b"\xff")
    (directories.policy_dirs[0] / "40-d.toml").symlink_to("40-d.toml")
    os.mkfifo(directories.policy_dirs[0] / "50-e.toml")  # would be waited for, for ever
    assert [text.problem for text in policy_texts(directories)] == [
        f"cannot be read: {os.strerror(2)}",
        f"cannot be read: {os.strerror(21)}",
        "is not UTF-8 at byte 0",
        f"cannot be read: {os.strerror(40)}",
        "cannot be read: it is no regular file",
    ]


def test_a_byte_order_mark_is_no_mistake(directories: Config) -> None:
    """Editors of Windows begin files with it, and nobody sees it in line 1."""
    (directories.policy_dirs[0] / "10-a.toml").write_bytes(b"\xef\xbb\xbf# a\r\n")
    (text,) = policy_texts(directories)
    assert (text.text, text.problem) == ("# a\n", "")


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (text,) = policy_texts(Config(policy_dirs=(tmp_path / "file",)))
    assert text == PolicyText(str(tmp_path / "file"), "", f"cannot be read: {os.strerror(20)}")
