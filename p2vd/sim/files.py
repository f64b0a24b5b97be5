"""The simulated filesystems for files: real directories below the state directory, of a size that is said."""

import json
from collections.abc import Sequence
from pathlib import Path

from p2vd.sim.lvm import Answered
from p2vd.sim.script import Directory
from p2vd.system import image_file

_BLOCK = 4096


class SimFiles:
    """The directories of a script. `root`: where their paths begin. Used under the SAN's lock.

    `used`: what of each is taken, by its path. The files themselves are sparse and stay so.
    """

    def __init__(self, directories: Sequence[Directory], root: Path) -> None:
        """Make them, with the files that an earlier run left there. Raises OSError."""
        self.root = root
        self.sizes = {directory.path: directory.size_bytes for directory in directories}
        self.used = dict.fromkeys(self.sizes, 0)
        for path in self.sizes:
            self.real(path).mkdir(parents=True, exist_ok=True)

    def real(self, path: str) -> Path:
        """Return where the file or directory of that simulated path is."""
        return self.root / path.lstrip("/")

    def take(self, path: str, more_bytes: int) -> None:
        """Let the directory `path` be fuller."""
        if path in self.used:
            self.used[path] += more_bytes

    def step(self, words: Sequence[str]) -> str:
        """Answer as `python -m p2vd.system.image_file` does."""
        request = json.loads(words[0])
        answer = image_file.answer(request | {"mount": ""})  # each of these is its own mount
        if request["step"] == "look" and "seen" in answer:
            path = self._path(request["path"])
            size, free = self._numbers(path)
            answer["seen"] |= {
                "mount_point": path,
                "filesystem": "simfs",
                "size_bytes": size,
                "free_bytes": free,
            }
        return json.dumps(answer)

    def stat_filesystem(self, words: Sequence[str]) -> str:
        """Answer `stat --file-system --printf="%i %S %b %a"`."""
        path = self._path(words[-1])
        size, free = self._numbers(path)
        return f"{path.replace(' ', '_')} {_BLOCK} {size // _BLOCK} {free // _BLOCK}"

    def stat_file(self, words: Sequence[str]) -> str:
        """Answer `stat --printf=%i@%.9W`."""
        seen = image_file.find(Path(words[-1]))
        if seen is None:
            raise Answered(1, f"stat: cannot statx '{words[-1]}': No such file or directory\n")
        return seen.file_id

    def _path(self, real: str) -> str:
        path = f"/{Path(real).relative_to(self.root)}"
        if path not in self.sizes:
            raise Answered(1, f"the script has no directory {path}\n")
        return path

    def _numbers(self, path: str) -> tuple[int, int]:
        return self.sizes[path], max(0, self.sizes[path] - self.used[path])
