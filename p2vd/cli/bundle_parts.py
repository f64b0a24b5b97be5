"""What a support bundle is made of beside p2vd's own words: files, commands that only look, the store."""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p2vd.config import Config
from p2vd.system.command import Commands

Part = Callable[[], str]
"""Makes the text of a part. Raises OSError, P2vdError, CliError, sqlite3.Error, ValueError."""

MAX_CHARACTERS = 32 << 20
_COMMAND_S = 30.0

_REPORT = ("--readonly", "--reportformat", "json", "--units", "b", "-a", "-o")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "journal-p2vd.txt": (
        *("journalctl", "--no-pager", "--output=short-iso-precise", "--lines=50000"),
        *("--unit=p2vd.service", "--unit=p2vd-change-*"),
    ),
    "journal-kernel.txt": (
        "journalctl",
        "--no-pager",
        "--output=short-iso-precise",
        "--dmesg",
        "--lines=5000",
    ),
    "unit-p2vd.txt": ("systemctl", "show", "p2vd.service"),
    "units-of-changes.txt": ("systemctl", "list-units", "--all", "--no-pager", "p2vd-change-*"),
    "kernel.txt": ("uname", "-a"),
    "packages.txt": ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\\n"),
    "disks.json": ("lsblk", "--json", "--bytes", "--output-all"),
    "mounts.txt": ("findmnt", "--list", "--output", "SOURCE,TARGET,FSTYPE,SIZE,AVAIL"),
    "lvm/version.txt": ("lvm", "version"),
    "lvm/physical-volumes.json": ("pvs", *_REPORT, "pv_all,vg_name"),
    "lvm/volume-groups.json": ("vgs", *_REPORT, "vg_all"),
    "lvm/volumes.json": ("lvs", *_REPORT, "lv_all,vg_name,seg_all"),
    "lvm/configuration.txt": ("lvmconfig", "--typeconfig", "diff"),
    "device-mapper/info.txt": ("dmsetup", "info", "--columns"),
    "device-mapper/table.txt": ("dmsetup", "table"),
    "device-mapper/status.txt": ("dmsetup", "status", "--noflush"),
    "device-mapper/tree.txt": ("dmsetup", "ls", "--tree"),
    "multipath/maps.json": ("multipathd", "show", "maps", "json"),
    "multipath/topology.txt": ("multipath", "-ll"),
    "multipath/configuration.txt": ("multipathd", "show", "config", "local"),
    "iscsi/sessions.txt": ("iscsiadm", "--mode", "session", "--print", "1"),
    "iscsi/version.txt": ("iscsiadm", "--version"),
    "libvirt/domains.txt": ("virsh", "list", "--all"),
    "libvirt/version.txt": ("virsh", "version"),
}
"""Commands that only look, each with a deadline. dmsetup shows no keys of crypt devices unless told to."""

FILES: Mapping[str, tuple[str, ...]] = {
    "release.txt": ("etc/os-release",),
    "configuration/lvm.conf.txt": ("etc/lvm/lvm.conf", "etc/lvm/lvmlocal.conf"),
    "configuration/multipath.conf.txt": ("etc/multipath.conf", "etc/multipath/conf.d/*"),
    "configuration/iscsid.conf.txt": ("etc/iscsi/iscsid.conf",),
    "iscsi/records.txt": ("etc/iscsi/nodes/*/*/*", "etc/iscsi/nodes/*/*", "etc/iscsi/send_targets/*/*"),
    "quarantine.txt": ("etc/p2vd/quarantine.d/*",),
    "md.txt": ("proc/mdstat",),
    "memory.txt": ("proc/meminfo",),
}
"""Files of the host, joined, each under its name."""

SECRETS = (
    "etc/iscsi/iscsid.conf",
    "etc/iscsi/nodes/*/*/*",
    "etc/iscsi/nodes/*/*",
    "etc/iscsi/send_targets/*/*",
)
"""Where open-iscsi keeps secrets: what is found here is left out of every part."""


@dataclass(frozen=True)
class Host:
    """Where a bundle's parts come from. `root`: where /etc and /proc are."""

    config: Config
    commands: Commands
    root: Path = Path("/")


def host_parts(host: Host) -> Iterator[tuple[str, Part]]:
    """Yield the parts that need no daemon, by their names in the archive."""
    state = host.config.state_dir
    for name, argv in COMMANDS.items():
        yield name, partial(_command, host.commands, argv)
    for name, patterns in FILES.items():
        yield name, partial(_files, host.root, patterns)
    for directory in host.config.policy_dirs:
        name = f"configuration/policies{str(directory).replace('/', '-')}.txt"
        yield name, partial(_policies, directory)
    yield "state/job-store.json", lambda: job_store(state / "state.db")
    yield "state/receipts.txt", lambda: joined(sorted(state.glob("jobs/*/*.json")))
    yield "state/audit.jsonl", lambda: joined([*sorted(state.glob("audit/audit*.jsonl"))[-2:]])
    yield "state/files.txt", lambda: _listing(state)


def _policies(directory: Path) -> str:
    return joined(sorted(directory.glob("*.toml")))


def joined(paths: list[Path]) -> str:
    """Return files one after another, each under its name. Raises OSError where one cannot be read."""
    return "\n".join(
        f"==> {path} <==\n{path.read_text(errors='replace')}" for path in paths if path.is_file()
    )


def found(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return the files that patterns name, each once."""
    return list(dict.fromkeys(path for pattern in patterns for path in sorted(root.glob(pattern))))


def _files(root: Path, patterns: tuple[str, ...]) -> str:
    return joined(found(root, patterns))


def _command(commands: Commands, argv: tuple[str, ...]) -> str:
    result = commands.query(argv, timeout_s=_COMMAND_S, ok=range(256))
    if result.returncode == 0:
        return result.stdout
    return f"{result.stdout}\n(exit status {result.returncode}) {result.stderr}"


def job_store(path: Path) -> str:
    """Return what is in the job store, as JSON by kind; the file is not touched.

    While p2vd runs it is read beside it; else from a copy, because SQLite would tidy up the file itself.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    if path.with_name(f"{path.name}-shm").exists():
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            return _records(db)
    with tempfile.TemporaryDirectory() as directory:
        for each in path.parent.glob(f"{path.name}*"):
            shutil.copy(each, directory)
        with closing(sqlite3.connect(Path(directory) / path.name)) as db:
            return _records(db)


def _records(db: sqlite3.Connection) -> str:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    kinds: dict[str, list[object]] = {}
    for kind, value in db.execute("SELECT kind, value FROM record ORDER BY number"):
        kinds.setdefault(kind, []).append(json.loads(value))
    return json.dumps({"format": version, **kinds}, indent=1)


def _listing(state: Path) -> str:
    lines = []
    for path in sorted(state.rglob("*")):
        status = path.lstat()
        lines.append(
            f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {status.st_size} {status.st_mtime_ns} {path}"
        )
    return "\n".join(lines)
