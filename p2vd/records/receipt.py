"""The receipt of a proven job: what was copied where, who declared what, and how it was proven.

It is the job's memory outside the store, for people and auditors: one JSON file in the job's
directory. Its own SHA-256, over the canonical JSON of all the rest, shows an edited or torn file.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import p2vd
from p2vd.model.codec import to_dict
from p2vd.model.job import Job
from p2vd.model.plan import FileTarget, LunTarget, LvTarget
from p2vd.system import durable

FORMAT = 1

FILE_NAME = "receipt.json"

MODE = 0o600
"""Root's alone, as the job's directory is."""

_CHECKSUM = "sha256"


def build_receipt(job: Job, versions: Mapping[str, str], host: str = "") -> dict[str, Any]:
    """Return the receipt of `job`. Sizes are bytes, times microseconds since the epoch. Pure.

    `host`: the name of this one, which activates the volume at its boot where policy says so.
    """
    plan, progress = job.plan, job.progress
    receipt: dict[str, Any] = {
        "format": FORMAT,
        "job": job.uuid,
        "machine": {"uuid": job.machine_uuid, "name": plan.machine_name},
        "stage": job.stage.value,
        "source": to_dict(plan.source),
        "target": {**to_dict(plan.target), **_made_as(job)},
        "plan": {
            "id": plan.id,
            "policy": plan.policy,
            "policy_file": plan.policy_file,
            "parts": [list(part) for part in plan.digest_parts],
        },
        "activation": {
            "host": host,
            "at_boot": isinstance(plan.target, LvTarget) and plan.target.autoactivate,
        },
        "source_offline": {
            "declared": plan.source_offline,
            "by": to_dict(job.started_by),
            "declared_us": job.offline_declared_us,
        },
        "proof": {
            "verify": plan.copy.verify.value,
            "source_stable": job.source_stable,
            "digest": job.digest,
            "generation": job.generation,
        },
        "bytes": {
            "copied": progress.bytes_copied,
            "zero": progress.bytes_zero,
            "verified": progress.bytes_verified,
            "bad": progress.bad_bytes,
        },
        "bad_ranges": [list(each) for each in job.bad_ranges],
        "start_time_us": job.start_time_us,
        "end_time_us": job.end_time_us,
        "versions": dict(versions),
    }
    return seal(receipt)


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `record` with its checksum, which `is_whole` looks at."""
    return {**record, _CHECKSUM: _checksum(record)}


def _made_as(job: Job) -> dict[str, str]:
    """Return what the target is known by since it was made; a LUN's WWID was known before."""
    match job.plan.target:
        case LvTarget():
            return {"lv_uuid": job.lv_uuid}
        case FileTarget() as target:
            return {"path": target.path, "file_id": job.target_file_id}
        case LunTarget():
            return {}


def is_whole(receipt: Mapping[str, Any]) -> bool:
    """Whether a receipt's checksum fits the rest of it."""
    rest = {key: value for key, value in receipt.items() if key != _CHECKSUM}
    return receipt.get(_CHECKSUM) == _checksum(rest)


def write_receipt(job: Job, directory: Path) -> Path:
    """Write the job's receipt into `directory`, durably and whole or not at all; return its path.

    A whole receipt of this job that is there already stays: recovery may repeat this with another
    version of p2vd or of the kernel than that which copied. Raises OSError.
    """
    path = directory / FILE_NAME
    if _has_receipt(path, job):
        return path
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(build_receipt(job, versions(), platform.node()), indent=2, ensure_ascii=False) + "\n"
    durable.replace(path, text, MODE)
    return path


def _has_receipt(path: Path, job: Job) -> bool:
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # none yet, or torn
        return False
    return isinstance(receipt, dict) and receipt.get("job") == job.uuid and is_whole(receipt)


def _checksum(receipt: Mapping[str, Any]) -> str:
    canonical = json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def versions() -> dict[str, str]:
    """What makes a record: p2vd, and what it runs on."""
    return {"p2vd": p2vd.__version__, "python": platform.python_version(), "kernel": platform.release()}
