"""The receipts of all jobs, also of those that left the bus: found, and checked before they are shown."""

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from p2vd.model.errors import NotFound, P2vdError
from p2vd.model.receipt import ReceiptNote
from p2vd.records.receipt import FILE_NAME, is_whole


@dataclass(eq=False)
class ReceiptDamaged(P2vdError):
    """A receipt is not what was written: torn, or edited. What it says is worth nothing."""

    path: str
    problem: str
    template: ClassVar[str] = (
        "The receipt {path} cannot be trusted: {problem}. Compare it with a copy kept elsewhere, and see who "
        "could write there; the audit (p2vctl audit) says what p2vd did with this disk."
    )


def read_receipt(jobs: Path, uuid: str) -> str:
    """Return the receipt of a job as JSON. `jobs`: where jobs have their directories.

    Raises NotFound, ReceiptDamaged, OSError.
    """
    path = jobs / uuid / FILE_NAME
    if path.parent.parent != jobs or path.parent.name in ("", ".."):  # no name, such as one with slashes
        raise NotFound("receipt of a job", uuid)
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise
        raise NotFound("receipt of a job", uuid) from None
    receipt, problem = _checked(data)
    if not problem and receipt["job"] != uuid:
        problem = f"it is that of job {receipt['job']}"
    if problem:
        raise ReceiptDamaged(str(path), problem)
    return data.decode()


def find_receipts(jobs: Path, text: str) -> tuple[ReceiptNote, ...]:
    """Return the receipts that `text` names, oldest first; "" names all.

    A job's UUID or a disk's WWID, or the beginning of one; a machine's name. A damaged receipt is found by
    its directory, the job's UUID, alone. Raises OSError.
    """
    return tuple(
        sorted((note for note in _notes(jobs) if _is_named(note, text)), key=lambda note: note.end_time_us)
    )


def _is_named(note: ReceiptNote, text: str) -> bool:
    if note.job.startswith(text):
        return True
    return not note.problem and (note.source.startswith(text) or note.machine_name == text)


def _notes(jobs: Path) -> Iterator[ReceiptNote]:
    for uuid in _names(jobs):
        try:
            receipt, problem = _checked((jobs / uuid / FILE_NAME).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        if problem:
            yield ReceiptNote(uuid, problem=problem)
        else:
            yield ReceiptNote(
                uuid, receipt["source"]["id"], receipt["machine"]["name"], receipt["end_time_us"]
            )


def _names(jobs: Path) -> list[str]:
    try:
        return [entry.name for entry in jobs.iterdir()]
    except FileNotFoundError:
        return []


def _checked(data: bytes) -> tuple[dict[str, Any], str]:
    """A receipt, and what is wrong with it ("": nothing)."""
    try:
        receipt = json.loads(data)
    except ValueError:
        return {}, "it is torn, no whole JSON"
    if not isinstance(receipt, dict) or not is_whole(receipt):
        return {}, "its own checksum does not fit: it was edited"
    return receipt, ""
