"""This host's UEFI firmware for guests, as its packages describe it (QEMU's docs/interop/firmware.json)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In the order of qemu's firmware.json: a file in /etc hides one of the same name in /usr.
DIRECTORIES = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))

# Without System Management Mode and enrolled keys: those make a boot loader's signature matter.
_UNWANTED = frozenset({"secure-boot", "requires-smm", "enrolled-keys"})


@dataclass(frozen=True)
class UefiFirmware:
    """Two flash images: the code, and the variables a machine starts with."""

    code: str
    variables: str


def find(directories: tuple[Path, ...] = DIRECTORIES) -> UefiFirmware | None:
    """Return the first firmware for x86-64 without Secure Boot, by file name; None where there is none."""
    for description in _descriptions(directories):
        mapping = description.get("mapping", {})
        machines = [
            machine
            for target in description.get("targets", [])
            if target.get("architecture") == "x86_64"
            for machine in target.get("machines", [])
        ]
        if (
            "uefi" in description.get("interface-types", [])
            and mapping.get("device") == "flash"
            and "nvram-template" in mapping
            and mapping["executable"].get("format") == "raw"
            and any(machine.startswith("pc-q35") for machine in machines)
            and not _UNWANTED & set(description.get("features", []))
        ):
            return UefiFirmware(mapping["executable"]["filename"], mapping["nvram-template"]["filename"])
    return None


def _descriptions(directories: tuple[Path, ...]) -> Iterator[dict[str, Any]]:
    files: dict[str, Path] = {}
    for directory in directories:
        for path in sorted(directory.glob("*.json")):
            files.setdefault(path.name, path)
    for name in sorted(files):
        try:
            description = json.loads(files[name].read_bytes())
        except (OSError, ValueError):  # an empty file hides the firmware of that name
            continue
        if isinstance(description, dict):
            yield description
