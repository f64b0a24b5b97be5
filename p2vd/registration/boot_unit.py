"""The transient unit of systemd in which QEMU runs for a boot test.

As a user of its own, which
- may open the machine's volumes for reading only: the kernel's device filter (`DeviceAllow=... r`) refuses
  the rest to it, whatever QEMU is told. Not `blockdev --setro`: a crash would leave the volumes so;
- has no network, no capability but that of reading image files, where there are any, and a /var/tmp that ends
  with it, where its overlays are: nothing is left behind, and each may grow to `OVERLAY_BYTES`;
- ends with the daemon (BindsTo=) and at the latest some time after the test's own timeout.

Outside of the daemon's own unit, as changes are: emulation writes code, which the daemon's sandbox forbids.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p2vd.model.boot_test import BootMachine, BootRequest
from p2vd.model.size import GIB, MIB
from p2vd.registration import qemu, uefi
from p2vd.system.command import CommandFailed, Commands, CommandTimedOut

log = logging.getLogger(__name__)

UNIT_PREFIX = "p2vd-boot-test-"
OVERLAY_BYTES = 4 * GIB

START_S = 60.0
BESIDE_GUEST_BYTES = 512 * MIB
"""QEMU's own memory; in emulation half of it is translated code."""

_SECRETS = ("/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/iscsi", "/etc/p2vd", "/var/lib/p2vd")
"""What a guest's process does not see, though it may read any file: that is for the image files."""

_GRACE_S = 180
_NO_SUCH_UNIT = 5  # systemctl(1)


@dataclass(frozen=True)
class Host:
    """Where this host's own things are; tests put them elsewhere.

    `bound_to`: the unit with which a test ends, "" for none.
    """

    run: Path = Path("/run")
    sysfs: Path = Path("/sys")
    kvm: Path = Path("/dev/kvm")
    meminfo: Path = Path("/proc/meminfo")
    firmware: tuple[Path, ...] = uefi.DIRECTORIES
    bound_to: str = "p2vd.service"


class BootUnit:
    """One test's unit, named by the machine: a machine has one test at a time."""

    def __init__(self, commands: Commands, host: Host, request: BootRequest, means: qemu.Means) -> None:
        self.means = means
        self._commands = commands
        self._host = host
        self._request = request
        self._stem = f"{UNIT_PREFIX}{request.machine.uuid}"
        self._name = f"{self._stem}.service"

    @property
    def directory(self) -> Path:
        """Where QEMU's sockets are and where it writes pictures; gone with the unit."""
        return self._host.run / self._stem

    def begin(self) -> None:
        """Start QEMU, which waits for `cont`. Raises CommandFailed, CommandTimedOut."""
        command = [
            *("systemd-run", "--quiet", "--collect", f"--unit={self._name}"),
            *(f"--property={value}" for value in self._properties()),
            "--",
            # systemd expands $NAME in the arguments of a service; $$ is a plain $.
            *(
                word.replace("$", "$$")
                for word in qemu.command(self._request.machine, self.means, str(self.directory))
            ),
        ]
        # As a query: it only asks systemd, which keeps or drops the whole unit. A kill leaves no half.
        self._commands.query(command, timeout_s=START_S)
        log.info("machine %s: boot test in %s", self._request.machine.name, self._name)

    def end(self) -> None:
        """End QEMU and all that it wrote, if it is there. Raises CommandFailed, CommandTimedOut."""
        self._commands.query(["systemctl", "stop", self._name], ok=(0, _NO_SUCH_UNIT))

    def why_it_ended(self) -> str:
        """Return what the unit said last."""
        asked = ["journalctl", f"--unit={self._name}", "--output=cat", "--lines=6", "--quiet", "--no-pager"]
        try:
            said = self._commands.query(asked, timeout_s=10).stdout
        except (CommandFailed, CommandTimedOut) as error:
            said = f"its journal cannot be read ({error})"
        return " ".join(said.split()) or "it said nothing"

    def _properties(self) -> Sequence[str]:
        request, host, kvm = self._request, self._host, self.means.kvm
        machine = request.machine
        bound = (f"BindsTo={host.bound_to}", f"After={host.bound_to}") if host.bound_to else ()
        return (
            *bound,
            "Type=exec",
            "DynamicUser=yes",
            f"SupplementaryGroups={'disk kvm' if kvm else 'disk'}",
            f"RuntimeDirectory={self._stem}",
            "RuntimeDirectoryMode=0700",
            "DevicePolicy=closed",
            *(f"DeviceAllow={disk.devnode} r" for disk in machine.disks if not disk.is_file),
            *(("DeviceAllow=/dev/kvm rw",) if kvm else ()),
            *("PrivateNetwork=yes", "PrivateTmp=yes", "PrivateIPC=yes", "RestrictAddressFamilies=AF_UNIX"),
            *_capabilities(machine),
            *("NoNewPrivileges=yes", "ProtectHome=yes", "ProtectSystem=strict"),
            *("ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectControlGroups=yes"),
            *("RestrictNamespaces=yes", "SystemCallArchitectures=native", "Environment=TMPDIR=/var/tmp"),
            *(f"LimitFSIZE={OVERLAY_BYTES}", "LimitCORE=0", "TasksMax=256", "OOMScoreAdjust=500"),
            f"MemoryMax={machine.memory_bytes + BESIDE_GUEST_BYTES}",
            # Copies come first.
            *("CPUWeight=20", "IOWeight=20"),
            *(f"RuntimeMaxSec={request.timeout_s + _GRACE_S}", "TimeoutStopSec=5"),
        )


def _capabilities(machine: BootMachine) -> tuple[str, ...]:
    """Return what the guest's process may beyond any other: nothing, but to read its image files.

    They belong to whom the policy says, and nobody else may read them; ProtectSystem=strict keeps all of this
    host's filesystems read-only all the same.
    """
    if not any(disk.is_file for disk in machine.disks):
        return ("CapabilityBoundingSet=",)
    return (
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
        "AmbientCapabilities=CAP_DAC_READ_SEARCH",
        *(f"InaccessiblePaths=-{path}" for path in _SECRETS),
    )
