"""How large disks are whose images had to be read to their end for it: kept over restarts of the daemon.

Nothing depends on it: without the file, or an entry in it, an image is read again.
"""

import json
import logging
import threading
from collections.abc import Collection
from pathlib import Path

from p2vd.copying.asking import MOST_BYTES
from p2vd.model.disk import Source
from p2vd.system import durable

log = logging.getLogger(__name__)

FILE = "image-sizes.json"

_Size = tuple[list[str | int], int]
"""What tells the file and its contents from others, and the size of the disk in it."""


class ImageSizes:
    """Sizes by path, each bound to the file that was read and to its contents. Thread-safe."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` None: keep them in memory alone."""
        self._path = path
        self._lock = threading.Lock()
        # Now: whoever asks later shall not wait for a disk.
        self._sizes = _read(path) if path is not None else {}

    def get(self, file: Source) -> int | None:
        """Return the size of the disk in that file; None: it was not read yet, or is another by now."""
        with self._lock:
            known = self._sizes.get(file.id)
        return known[1] if known is not None and known[0] == _key(file) else None

    def put(self, file: Source, size_bytes: int, known: Collection[str]) -> None:
        """Keep what was learned, and of what is kept only images that are `known`. One thread at a time.

        Of a directory in which none is known all is kept: its file server may be away. A state directory that
        cannot be written costs another reading, no more.
        """
        seen = {_directory(path) for path in known}
        with self._lock:
            sizes = {
                path: size
                for path, size in self._sizes.items()
                if path in known or _directory(path) not in seen
            }
            sizes[file.id] = (_key(file), size_bytes)
            self._sizes = sizes
        if self._path is None:
            return
        try:
            durable.replace(self._path, json.dumps(sizes, sort_keys=True, indent=1) + "\n", 0o600)
        except OSError as error:
            log.warning("%s cannot be written (%s): images will be read again", self._path, error)


def _read(path: Path) -> dict[str, _Size]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(image): (list(key), _bytes(size)) for image, (key, size) in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        log.warning("%s is not understood (%s): images are read again", path, error)
        return {}


def _bytes(size: float) -> int:
    if not 0 <= int(size) < MOST_BYTES:
        raise ValueError(f"no disk has {int(size)} bytes")
    return int(size)


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _key(file: Source) -> list[str | int]:
    return [file.format.value, file.file_id, file.size_bytes, file.modified_us]
