"""The daemon's configuration, and the policy files as they lie in their directories."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import ClassVar

from p2vd.model.errors import P2vdError
from p2vd.model.limits import Limits
from p2vd.model.size import KIB, MIB
from p2vd.policy.model import PolicyText
from p2vd.policy.toml import Document, FileError, Table

DEFAULT_PATH = Path("/etc/p2vd/p2vd.toml")
LOG_LEVELS = ("debug", "info", "warning", "error")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_PRIVATE = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  (refused, not used)
_MAX_WAIT_S = 86400.0
_MAX_HOOK_S = 3600.0
_MAX_JOBS = 256
_LIMITS = ("per_volume_group", "per_array", "per_portal")
_MIN_BANDWIDTH = MIB
_MAX_DAYS = 36500
_MIN_AUDIT, _MAX_AUDIT = 64 << 10, 1 << 30


class QuarantineMode(Enum):
    """Which maps are kept from the host's own rules (units/59-p2vd-quarantine.rules).

    `sources`: those that a policy matches, and p2vd's volumes. `unknown`: also every multipath map
    that is not listed as the host's own, so that a LUN seen for the first time is never touched.
    """

    SOURCES = "sources"
    UNKNOWN = "unknown"


@dataclass(eq=False)
class ConfigInvalid(P2vdError):
    """The configuration file cannot be used; all its errors."""

    errors: tuple[FileError, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        return "The configuration is not valid.\n" + "\n".join(str(error) for error in self.errors)


@dataclass(frozen=True)
class AuditOptions:
    """The table `[audit]`: how long the audit's files are kept (0: for ever), and how big one becomes."""

    keep_days: int = 0
    max_size: int = 16 << 20


@dataclass(frozen=True)
class Config:
    """What p2vd.toml(5) describes; every default is here. Times in seconds."""

    state_dir: Path = Path("/var/lib/p2vd")
    policy_dirs: tuple[Path, ...] = (Path("/etc/p2vd/policy.d"), Path("/usr/lib/p2vd/policy.d"))
    image_directories: tuple[Path, ...] = ()
    quarantine: QuarantineMode = QuarantineMode.SOURCES
    quarantine_dir: Path = Path("/etc/p2vd/quarantine.d")
    worker_user: str = "p2vd-worker"
    max_jobs: int = 4
    commit_interval_s: float = 1.0
    auto_settle_s: float = 60.0
    stop_timeout_s: float = 7.0
    log_level: str = "info"
    limits: Limits = field(default_factory=Limits)
    keep_finished_days: int = 7
    hooks_dir: Path = Path("/etc/p2vd/hooks.d")
    hook_timeout_s: float = 60.0
    audit: AuditOptions = field(default_factory=AuditOptions)

    @property
    def all_limits(self) -> Limits:
        """`limits` with that of all jobs together, `max_jobs`."""
        return replace(self.limits, in_all=self.max_jobs)


def load(path: Path | None = None) -> Config:
    """Return the configuration in `path`, None: in the usual file, which says nothing where it is not there.

    Raises ConfigInvalid with every error, by file, line and key.
    """
    named, path = path is not None, path or DEFAULT_PATH
    if not named and not os.path.lexists(path):
        return Config()
    text = read_file(path)
    if text.problem:
        raise ConfigInvalid((FileError(str(path), 0, "", text.problem),))
    document = Document(str(path), text.text)
    config = _config(document.root())
    if document.errors:
        raise ConfigInvalid(tuple(document.errors))
    return config


def show(config: Config) -> str:
    """Return `config` as a file that says the same."""
    named = {setting.name: getattr(config, setting.name) for setting in fields(config)}
    tables = (Limits, AuditOptions)
    keys = [f"{name} = {_toml(value)}" for name, value in named.items() if not isinstance(value, tables)]
    limits = [f"{name} = {_toml(getattr(config.limits, name))}" for name in _LIMITS]
    limits.append(f"bandwidth = {_toml(_size(config.limits.bandwidth_bytes_per_s))}")
    audit = (f"keep_days = {config.audit.keep_days}", f"max_size = {_toml(_size(config.audit.max_size))}")
    return "\n".join([*keys, "[limits]", *limits, "[audit]", *audit]) + "\n"


def policy_texts(config: Config) -> tuple[PolicyText, ...]:
    """Return the policy files in the order in which they apply: by file name.

    A file hides those of the same name in later directories; a link to /dev/null hides them and
    says nothing. What cannot be read comes back as a text with a problem, which is an error.
    """
    chosen: dict[str, Path] = {}
    problems: list[PolicyText] = []
    for directory in config.policy_dirs:
        try:
            names = sorted(entry.name for entry in directory.iterdir() if _is_policy(entry.name))
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(PolicyText(str(directory), "", f"cannot be read: {error.strerror}"))
            continue
        for name in names:
            chosen.setdefault(name, directory / name)
    # Not Path.resolve(), which raises where a link leads to itself.
    files = [path for _, path in sorted(chosen.items()) if os.path.realpath(path) != os.devnull]
    return (*problems, *(_read_policy(path) for path in files))


def _read_policy(path: Path) -> PolicyText:
    """Read what is a file: a pipe in such a directory would hold the daemon up for ever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return PolicyText(str(path), "", "cannot be read: it is no regular file")
    return read_file(path)


def read_file(path: Path) -> PolicyText:
    """Return what a file says, but not a byte order mark; of one that cannot be read, why not."""
    try:
        return PolicyText(str(path), path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return PolicyText(str(path), "", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        return PolicyText(str(path), "", f"is not UTF-8 at byte {error.start}")


def _config(table: Table) -> Config:
    config = Config(
        state_dir=_path(table, "state_dir", Config.state_dir),
        policy_dirs=_paths(table, "policy_dirs", Config.policy_dirs),
        image_directories=_images(table),
        quarantine=table.choice("quarantine", Config.quarantine),
        quarantine_dir=_path(table, "quarantine_dir", Config.quarantine_dir),
        worker_user=table.text("worker_user", Config.worker_user),
        max_jobs=table.integer("max_jobs", Config.max_jobs, 1, _MAX_JOBS),
        commit_interval_s=table.number("commit_interval_s", Config.commit_interval_s, 0.1, 60),
        auto_settle_s=table.number("auto_settle_s", Config.auto_settle_s, 0, _MAX_WAIT_S),
        stop_timeout_s=table.number("stop_timeout_s", Config.stop_timeout_s, 1, _MAX_WAIT_S),
        log_level=table.text("log_level", Config.log_level),
        limits=_limits(table.table("limits")),
        keep_finished_days=table.integer("keep_finished_days", Config.keep_finished_days, 0, _MAX_DAYS),
        hooks_dir=_path(table, "hooks_dir", Config.hooks_dir),
        hook_timeout_s=table.number("hook_timeout_s", Config.hook_timeout_s, 1, _MAX_HOOK_S),
        audit=_audit(table.table("audit")),
    )
    if not _USER.fullmatch(config.worker_user):
        table.error("worker_user", f"must be the name of a user, not {config.worker_user!r}")
    if config.worker_user == "root":
        table.error("worker_user", "must not be root: the worker drops every privilege before its first byte")
    if config.log_level not in LOG_LEVELS:
        table.error("log_level", f"must be {' or '.join(LOG_LEVELS)}, not {config.log_level!r}")
    table.finish()
    return config


def _limits(table: Table) -> Limits:
    bandwidth = table.size("bandwidth")
    if 0 < bandwidth < _MIN_BANDWIDTH:
        table.error("bandwidth", f"must be {_size(_MIN_BANDWIDTH)} or more, or 0 for no limit")
    numbers = {name: table.integer(name, 0, 0, _MAX_JOBS) for name in _LIMITS}
    table.finish()
    return Limits(**numbers, bandwidth_bytes_per_s=bandwidth)


def _audit(table: Table) -> AuditOptions:
    options = AuditOptions(
        keep_days=table.integer("keep_days", AuditOptions.keep_days, 0, _MAX_DAYS),
        max_size=table.size("max_size", AuditOptions.max_size),
    )
    if not _MIN_AUDIT <= options.max_size <= _MAX_AUDIT:
        table.error("max_size", f"must be {_size(_MIN_AUDIT)} to {_size(_MAX_AUDIT)}")
    table.finish()
    return options


def _path(table: Table, key: str, default: Path) -> Path:
    return _absolute(table, key, (Path(table.text(key, str(default))),))[0]


def _images(table: Table) -> tuple[Path, ...]:
    paths = _paths(table, "image_directories", (), none=True)
    for path in paths:
        if any(path.is_relative_to(private) for private in _PRIVATE):
            table.error("image_directories", f"p2vd has a {path} of its own (PrivateTmp=): use another place")
    return paths


def _paths(table: Table, key: str, default: Sequence[Path], *, none: bool = False) -> tuple[Path, ...]:
    texts = table.texts(key, tuple(str(path) for path in default), none=none)
    return _absolute(table, key, tuple(Path(text) for text in texts))


def _absolute(table: Table, key: str, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if not all(path.is_absolute() for path in paths):
        table.error(key, "must begin with /")
    return paths


def _is_policy(name: str) -> bool:
    return name.endswith(".toml") and not name.startswith(".")


def _size(value: int) -> str:
    """Return a size that parse_size makes the same number of again."""
    if not value:
        return "0"
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if value % unit == 0:
            return f"{value // unit} {name}"
    return f"{value} B"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Enum):
        return _toml(value.value)
    if isinstance(value, Path):
        return _toml(str(value))
    return json.dumps(value, ensure_ascii=False)
