"""What the files and commands of a machine say, and what of it could not be read."""

import errno
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

# What reading a file gives that is not there, or an attribute that a device does not have (a NIC without
# link has no speed). All else is a fact that the machine has and keeps to itself.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP}

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_COMMAND_S = 120
_MANY_LINKS = 40  # as the kernel's own limit

Run = Callable[[Sequence[str]], Tuple[str, str]]


def run_command(argv: Sequence[str]) -> Tuple[str, str]:
    """Run a command; return what it printed, and why it failed ("": it did not)."""
    try:
        done = subprocess.run(  # noqa: UP022  (capture_output came with Python 3.7)
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=_COMMAND_S,
            env=_ENVIRONMENT,
            check=False,
        )
    except OSError as error:
        return "", error.strerror or str(error)
    except subprocess.TimeoutExpired:
        return "", f"no answer in {_COMMAND_S} s"
    said = done.stderr.decode("utf-8", "replace").strip()
    problem = (said or f"exit status {done.returncode}") if done.returncode else ""
    return done.stdout.decode("utf-8", "replace"), problem


class Host:
    """A machine. The kernel's files are below `root`, its own system's below `system_root`.

    They differ in a rescue system, which has the machine's own mounted somewhere. `problems` are
    sentences: what could not be read.
    """

    def __init__(self, root: str = "/", system_root: str = "", run: Run = run_command) -> None:
        self.root = root.rstrip("/")
        self.system_root = system_root.rstrip("/") if system_root else self.root
        self.run = run
        self.problems: List[str] = []

    def problem(self, sentence: str) -> None:
        """Note, once, what could not be read."""
        if sentence not in self.problems:
            self.problems.append(sentence)

    def raw(self, path: str) -> bytes:
        """Return a file's content; empty where it is not there, or noted where it cannot be read."""
        return self._read(self.root + path)

    def text(self, path: str) -> str:
        """Return a file's text without the blanks around it, likewise."""
        return _plain(self.raw(path))

    def names(self, path: str) -> List[str]:
        """Return the sorted names in a directory, none where it is not there."""
        try:
            return sorted(entry.name for entry in Path(self.root + path).iterdir())
        except OSError as error:
            self._note(path, error)
            return []

    def has(self, path: str) -> bool:
        """Whether there is such a file or directory."""
        return self._exists(self.root + path)

    def link(self, path: str) -> str:
        """Return where a symbolic link leads, as it says so; empty where there is none."""
        try:
            return os.readlink(self.root + path)
        except OSError as error:
            self._note(path, error)
            return ""

    def own_text(self, path: str) -> str:
        """Return the text of a file of the machine's own system, as `text` does."""
        return _plain(self._read(self._own(path)))

    def own_names(self, path: str) -> List[str]:
        """Return the sorted names in a directory of the machine's own system."""
        try:
            return sorted(entry.name for entry in Path(self._own(path)).iterdir())
        except OSError as error:
            self._note(path, error)
            return []

    def own_path(self, path: str) -> str:
        """Return where a file of the machine's own system is, for a command; empty where it is not."""
        real = self._own(path)
        return real if self._exists(real) else ""

    def _own(self, path: str) -> str:
        """Follow links as the machine's own system does: an absolute one does not leave its root."""
        for _ in range(_MANY_LINKS):
            try:
                target = os.readlink(self.system_root + path)
            except OSError:  # it is none, or cannot be looked at, which is noted when it is read
                break
            path = os.path.normpath(str(PurePosixPath(path).parent / target))
        return self.system_root + path

    def _exists(self, real: str) -> bool:
        try:
            Path(real).stat()
        except OSError as error:
            self._note(real[len(self.root) :], error)
            return False
        return True

    def _read(self, real: str) -> bytes:
        try:
            return Path(real).read_bytes()
        except OSError as error:
            self._note(real[len(self.root) :], error)
            return b""

    def _note(self, path: str, error: OSError) -> None:
        if error.errno not in _NOT_THERE:
            self.problem(f"{path} cannot be read: {error.strerror}.")


def _plain(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").replace("\0", " ").strip()


class Mount(NamedTuple):
    """A line of mountinfo: device number, mount point, type of filesystem, and what is mounted."""

    number: str
    place: str
    kind: str
    source: str


def mounts(host: Host) -> List[Mount]:
    """Return what is mounted, in the order of its mounting."""
    found = []
    for line in host.text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, rest = before.split(" "), after.split(" ")
        if len(words) > 4 and len(rest) > 1:
            found.append(Mount(words[2], words[4], rest[0], rest[1]))
    return found


def fields(text: str, separator: str) -> Dict[str, str]:
    """Return `NAME separator VALUE` lines as a dictionary, without blanks and quotes; the first of a name."""
    found: Dict[str, str] = {}
    for line in text.splitlines():
        name, mark, value = line.partition(separator)
        if mark and not name.lstrip().startswith("#"):
            found.setdefault(name.strip(), value.strip().strip("\"'"))
    return found


def number(text: str) -> int:
    """Return the whole number that `text` is, 0 where it is none or less than 0."""
    try:
        return max(int(text), 0)
    except ValueError:
        return 0
