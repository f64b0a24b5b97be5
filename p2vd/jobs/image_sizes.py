"""How large disks are whose images had to be read to their end for it: kept over restarts of the daemon.

Nothing depends on it: without the file, or an entry in it, an image is read again.
"""

import json
import logging
import threading
from collections.abc import Collection
from pathlib import Path

from p2vd.model.disk import Source
from p2vd.system import durable

log = logging.getLogger(__name__)

FILE = "image-sizes.json"


class ImageSizes:
    """Sizes by path, each bound to the file that was read and to its contents. Thread-safe."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` None: keep them in memory alone."""
        self._path = path
        self._lock = threading.Lock()
        self._sizes: dict[str, tuple[list[str | int], int]] | None = None

    def get(self, file: Source) -> int | None:
        """Return the size of the disk in that file; None: it was not read yet, or is another by now."""
        with self._lock:
            known = self._read().get(file.id)
        return known[1] if known is not None and known[0] == _key(file) else None

    def put(self, file: Source, size_bytes: int, known: Collection[str]) -> None:
        """Keep what was learned, and of what is kept only images that are `known`. One thread at a time.

        A state directory that cannot be written costs another reading, no more.
        """
        with self._lock:
            sizes = {path: size for path, size in self._read().items() if path in known}
            sizes[file.id] = (_key(file), size_bytes)
            self._sizes = sizes
        if self._path is None:
            return
        try:
            durable.replace(self._path, json.dumps(sizes, sort_keys=True, indent=1) + "\n", 0o600)
        except OSError as error:
            log.warning("%s cannot be written (%s): images will be read again", self._path, error)

    def _read(self) -> dict[str, tuple[list[str | int], int]]:
        if self._sizes is None:
            self._sizes = {}
            if self._path is not None and self._path.exists():
                try:
                    found = json.loads(self._path.read_text(encoding="utf-8"))
                    self._sizes = {str(path): (list(key), int(size)) for path, (key, size) in found.items()}
                except (OSError, ValueError, TypeError, AttributeError) as error:
                    log.warning("%s is not understood (%s): images are read again", self._path, error)
        return self._sizes


def _key(file: Source) -> list[str | int]:
    return [file.format.value, file.file_id, file.size_bytes, file.modified_us]
