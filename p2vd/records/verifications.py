"""Later verifications, each a file of its own beside the receipt, which is never rewritten.

A record names the receipt by its SHA-256 and has one of its own, as the receipt does.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from p2vd.model.codec import to_dict
from p2vd.model.verification import Verification
from p2vd.records.receipt import FILE_NAME, MODE, is_whole, seal
from p2vd.system import durable

FORMAT = 1

_PREFIX = "verification-"


def write_verification(
    directory: Path, job: str, verification: Verification, versions: Mapping[str, str]
) -> Path:
    """Put a record beside the receipt in `directory`, durably and whole or not at all; return its path.

    `directory` is the job's. Raises OSError.
    """
    path = directory / f"{_PREFIX}{verification.started_us}.json"
    record = {
        "format": FORMAT,
        "job": job,
        "receipt_sha256": hashlib.sha256((directory / FILE_NAME).read_bytes()).hexdigest(),
        **to_dict(verification),
        "versions": dict(versions),
    }
    durable.replace(path, json.dumps(seal(record), indent=2, ensure_ascii=False) + "\n", MODE)
    return path


def read_verifications(directory: Path) -> tuple[dict[str, Any], ...]:
    """Return the records of a job, oldest first; one that is torn or was edited says so, and nothing else.

    `directory` is the job's. Raises OSError.
    """
    return tuple(_read(path) for path in _paths(directory))


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if isinstance(record, dict) and is_whole(record):
        return record
    return {"file": path.name, "problem": "it is torn or was edited: its checksum does not fit"}


def _paths(directory: Path) -> Iterator[Path]:
    numbered = (
        (int(number), path)
        for path in directory.glob(f"{_PREFIX}*.json")
        if (number := path.stem.removeprefix(_PREFIX)).isdigit()
    )
    return (path for _, path in sorted(numbered))
