"""Guest conversion by virt-v2v-in-place: drivers and agents for the new hardware, written into the volumes.

Debian 12 has it in the package virt-v2v (2.2.0) as /usr/bin/virt-v2v-in-place; later versions of virt-v2v
install it in libexec, away from people. It takes the disks from a libvirt definition and writes to them.
"""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from p2vd.registration.errors import ConversionFailed, ConversionLost, ConverterMissing
from p2vd.system.command import CommandFailed, Commands, log_late

log = logging.getLogger(__name__)

PROGRAM = "virt-v2v-in-place"
DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/usr/libexec", "/usr/libexec/virt-v2v")

_DEADLINE_S = 3600.0
_KEPT_CHARACTERS = 1500

# Other than a change of LVM they may be ended: what was done is undone from the undo point.
_MAY_BE_ENDED = ("KillSignal=SIGTERM", "SendSIGKILL=yes")
_PROPERTIES = (*_MAY_BE_ENDED, "RuntimeMaxSec=4h", "OOMScoreAdjust=0", "Nice=5")


class Converter:
    """The converter of this host. Thread-safe: it keeps no state."""

    def __init__(self, commands: Commands, directories: Sequence[str] = DIRECTORIES) -> None:
        self._commands = commands
        self._path = os.pathsep.join(directories)

    def program(self) -> str:
        """Return where it is. Raises ConverterMissing."""
        found = shutil.which(PROGRAM, path=self._path)
        if found is None:
            raise ConverterMissing(PROGRAM)
        return found

    def run(
        self, machine: str, uuid: str, definition: Path, on_late: Callable[[str], None] = log_late
    ) -> None:
        """Convert the guest on the disks of a libvirt definition; it takes minutes.

        It runs in a unit of its own, `unit_of(uuid)`, and outlives this process. Raises ConverterMissing,
        ConversionFailed with its last words, ChangeUnknown.
        """
        # Without libvirt: the appliance is a child, which reads volumes as root, and goes with the unit.
        argv = ["env", "LIBGUESTFS_BACKEND=direct", self.program(), "-i", "libvirtxml", "--root", "single"]
        try:
            self._commands.change(
                [*argv, str(definition)],
                unit=unit_of(uuid),
                deadline_s=_DEADLINE_S,
                on_late=on_late,
                properties=_PROPERTIES,
                must_exit=True,
            )
        except CommandFailed as error:
            if error.returncode < 0:
                raise
            said = " ".join(error.stderr.split())[-_KEPT_CHARACTERS:]
            raise ConversionFailed(machine, error.returncode, said or "nothing") from error

    def flush(self, machine: str, uuid: str, device: str, on_late: Callable[[str], None] = log_late) -> None:
        """Have the disk behind a volume keep what the converter wrote to it, whatever happens to its power.

        virt-v2v has QEMU write without flushes (cachemode=unsafe); the kernel writes back at the last close,
        tells nobody where that fails before the next fsync(2), and sends the disk no flush. It runs in a unit
        of its own, for a sick disk may take for ever. Raises ConversionLost, ChangeUnknown.
        """
        try:
            self._commands.change(
                ["sync", "--data", device],
                unit=flush_unit_of(uuid),
                on_late=on_late,
                properties=_MAY_BE_ENDED,
                must_exit=True,
            )
        except CommandFailed as error:
            if error.returncode < 0:
                raise
            raise ConversionLost(machine, device, " ".join(error.stderr.split()) or "nothing") from error


def unit_of(machine_uuid: str) -> str:
    """Return the name under which a machine's conversion is among the running changes."""
    return f"{machine_uuid}-convert"


def flush_unit_of(machine_uuid: str) -> str:
    """Return the name under which a flush of what was converted is among the running changes."""
    return f"{machine_uuid}-flush"
