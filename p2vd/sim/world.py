"""The simulated host as a whole: every door that the daemon needs, over one SAN."""

import json
import logging
import os
from pathlib import Path

from p2vd.bus.port import Authority
from p2vd.model.disk import Portal
from p2vd.model.portal import Route
from p2vd.registration.files import FileHypervisor
from p2vd.sim.authority import SimAuthority
from p2vd.sim.boot_test import SimBootTester
from p2vd.sim.commands import SimCommands
from p2vd.sim.events import Uevents
from p2vd.sim.examiner import SimExaminer
from p2vd.sim.faults import Faults
from p2vd.sim.files import SimFiles
from p2vd.sim.hypervisor import SimLibvirt
from p2vd.sim.processes import Processes
from p2vd.sim.san import San
from p2vd.sim.script import Script
from p2vd.sim.tree import Tree
from p2vd.sim.volumes import Volumes
from p2vd.system.clock import SystemClock

log = logging.getLogger(__name__)

_POLICY = """# Written by p2vd --sim for its volume group; yours to change.
[[rule]]
name = "simulated"
match.transport = ["iscsi", "fc"]
target.volume_groups = ["{name}"]
target.provisioning = "{provisioning}"
target.single_host = true
"""


class World:
    """A SAN, its host and its hypervisor, as `script` says, below `directory`."""

    def __init__(self, script: Script, directory: Path) -> None:
        """Make it. Raises StateUnusable, OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        self.root = directory / "host"
        self.uevents = Uevents()
        tree = Tree(self.root)
        tree.hardware(script.host)
        self.san = San(tree, self.uevents)
        with self.san.lock:
            self.volumes = Volumes(self.san, script, directory / "state.json")
        # The host's own boot: over before p2vd starts to listen.
        self.uevents.clear()
        self.files_of_jobs = SimFiles(script.directories, directory / "files")
        self.commands = SimCommands(self.volumes, self.files_of_jobs)
        clock = SystemClock()
        self.processes = Processes(self.volumes, self.files_of_jobs, script, clock)
        done = directory / "faults.json"
        self.faults = Faults(self.volumes, self.commands, self.processes, script.faults, done, clock)
        self.boot_tester = SimBootTester(self.volumes)
        self._script = script
        log.warning("SIMULATION: no disk, volume or machine that p2vd tells of is real; nothing is copied")
        log.warning(
            "SIMULATION: polkit is not asked; every caller may do everything%s",
            f", but {', '.join(script.denied)}" if script.denied else "",
        )

    @property
    def worker_ids(self) -> tuple[int, int]:
        """The simulated workers' uid and gid: the daemon's own."""
        return os.getuid(), os.getgid()

    def examiner(self) -> SimExaminer:
        """Return what looks at simulated disks."""
        return SimExaminer(self.volumes, self.processes.exports)

    def libvirt(self, uri: str) -> SimLibvirt:
        """Return the simulated libvirt."""
        return SimLibvirt(uri, self.volumes)

    def files(self, tool: str, directory: Path) -> FileHypervisor:
        """Return what takes machines as files: below the simulated root, not where policy says."""
        return FileHypervisor(tool, self.root / directory.relative_to("/"))

    def route_to(self, portal: Portal, nic: str) -> Route:
        """Return how packets to a portal leave this host."""
        return Route(nic or "sim0", "192.0.2.254", mtu_bytes=1500)

    def authority(self, bus: Authority) -> SimAuthority:
        """Return who decides here; `bus` tells who asks."""
        return SimAuthority(bus, self._script.denied)

    def write_policy(self, directory: Path) -> None:
        """Put a policy for the first volume group into `directory`, unless that is there already."""
        if directory.exists() or not self._script.volume_groups:
            return
        group = self._script.volume_groups[0]
        directory.mkdir(parents=True)
        text = _POLICY.format(name=group.name, provisioning="thin" if group.pool else "thick")
        if self._script.exports:
            text = text.replace('["iscsi", "fc"]', '["iscsi", "fc", "nbd"]')
            text += "".join(f"\n[[nbd]]\nuri = {json.dumps(each.uri)}\n" for each in self._script.exports)
        (directory / "50-sim.toml").write_text(text)
