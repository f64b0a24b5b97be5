"""open-iscsi's tool: discovery, records, sessions. It runs outside of p2vd's sandbox and is not killed.

A record is open-iscsi's file of one target behind one portal by one interface (iscsiadm(8) calls it
a node). p2vd reads which there are, and lets iscsiadm write them. No argument is ever a secret.
"""

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2vd.discovery import iscsi_errors as errors
from p2vd.discovery.iscsid_conf import private_conf
from p2vd.model.disk import Portal
from p2vd.model.portal import DEFAULT_INTERFACE, Chap, Node, PortalName, same_writing
from p2vd.system import durable
from p2vd.system.command import CommandFailed, CommandNotStarted, Commands, Result

ETC = Path("/etc/iscsi")
RUN = Path("/run/p2vd")

# 10.98.1.1:3260,1 iqn.2026-01.org.example:t1 - or [fd98::1]:3260,1 ...
_OFFER = re.compile(r"(?:\[([^]]+)\]|([^:\s]+)):(\d+),(-?\d+) (\S+)")
_RECORD = re.compile(r"(.+),(\d+),(-?\d+)")
_NOT_IN_A_UNIT = re.compile(r"[^A-Za-z0-9_.-]+")
_UNIT_CHARACTERS = 150
_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Iscsiadm:
    """Runs iscsiadm. Thread-safe. Methods raise IscsiError; ChangeUnknown where systemd-run was killed."""

    commands: Commands
    etc: Path = ETC
    run: Path = RUN
    sysfs: Path = Path("/sys")

    def discover(self, name: PortalName, chap: Chap | None) -> tuple[Node, ...]:
        """Ask a portal by sendtargets what it offers; records nothing.

        nonpersistent: without it iscsiadm also deletes and overwrites records, others' too
        (usr/iscsiadm.c: do_software_sendtargets).
        """
        interface = name.interface or DEFAULT_INTERFACE
        argv = ["iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", str(name.portal)]
        argv += ["-o", "nonpersistent", "-I", interface]
        with self._conf(chap) as properties:
            try:
                said = self._run(argv, "discover", str(name), properties=properties).stdout
            except errors.LoginRefused as error:
                if chap is not None and chap.discovery:
                    raise
                problem = f"{error.problem}; it wants CHAP for the discovery already (discovery-chap)"
                raise errors.LoginRefused(error.portal, problem) from error
        offers = []
        for line in said.splitlines():
            match = _OFFER.fullmatch(line.strip())
            if match is None:
                raise errors.IscsiadmUnclear(str(name), line[:200])
            offers.append(
                Node(match[5], address=match[1] or match[2], port=int(match[3]), tpgt=int(match[4]))
            )
        if not offers:
            raise errors.NoTargets(str(name), "it sent an empty list")
        return tuple(dict.fromkeys(offers))

    # ---- records -----------------------------------------------------------------------------

    def record(self, node: Node, interface: str) -> Path | None:
        """Return the file of open-iscsi's record, None where there is none."""
        directory = self.etc / "nodes" / node.target_iqn
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in sorted(directory.iterdir()):
                match = _RECORD.fullmatch(entry.name)
                if match is None or same_writing(Portal(match[1], int(match[2]))) != node.portal:
                    continue
                file = entry / (interface or DEFAULT_INTERFACE)
                if file.exists():
                    return file
        return None

    def make_record(self, node: Node, interface: str, chap: Chap | None) -> None:
        """Make open-iscsi's record of a target, durably. There must be none yet: it would be overwritten."""
        with self._conf(chap) as properties:
            self._run([*_node(node, interface), "-o", "new"], "record", _told(node), properties=properties)
        file = self.record(node, interface)
        if file is None:
            raise errors.IscsiadmUnclear(_told(node), "a new record, and there is none")
        # iscsiadm does not flush: after a power cut the record was seen empty, and the secret gone.
        for path in (file, *file.parents):
            durable.sync(path)
            if path == self.etc:
                break

    def delete_record(self, node: Node, interface: str) -> None:
        """Delete a record; nothing happens where there is none."""
        ok = (0, errors.NO_OBJECTS_FOUND)
        self._run([*_node(node, interface), "-o", "delete"], "delete", _told(node), ok=ok)

    # ---- sessions ----------------------------------------------------------------------------

    def log_in(self, node: Node, interface: str) -> bool:
        """Log in by the record; False where the session is there already."""
        ok = (0, errors.SESSION_EXISTS)
        done = self._run([*_node(node, interface), "--login"], "login", _told(node), ok=ok)
        return done.returncode == 0

    def log_out(self, number: int, told: str) -> None:
        """Log a session out by its number; nothing happens where it is gone."""
        ok = (0, *errors.NO_SESSION)
        self._run(["iscsiadm", "-m", "session", "-r", str(number), "--logout"], "logout", told, ok=ok)

    def rescan(self, number: int, told: str) -> None:
        """Read the sizes of a session's LUNs again and look for new ones; no other session is touched."""
        self._run(["iscsiadm", "-m", "session", "-r", str(number), "--rescan"], "rescan", told)

    # ---- interfaces --------------------------------------------------------------------------

    def has_interface(self, name: PortalName) -> bool:
        """Whether open-iscsi has the iface that a portal is reached by; False: it can be made.

        Raises InterfaceMissing.
        """
        if not name.interface or (self.etc / "ifaces" / name.interface).exists():
            return True
        if not (self.sysfs / "class/net" / name.interface).exists():
            raise errors.InterfaceMissing(str(name.portal), name.interface)
        return False

    def make_interface(self, name: PortalName) -> None:
        """Make open-iscsi's iface for the network interface of that name."""
        argv = ["iscsiadm", "-m", "iface", "-I", name.interface]
        self._run([*argv, "-o", "new"], "iface", str(name))
        bind = ["-o", "update", "-n", "iface.net_ifacename", "-v", name.interface]
        self._run([*argv, *bind], "iface", str(name))

    def delete_interface(self, name: PortalName) -> None:
        """Delete open-iscsi's iface, if it is there; the network interface stays."""
        if not (self.etc / "ifaces" / name.interface).exists():
            return
        argv = ["iscsiadm", "-m", "iface", "-I", name.interface, "-o", "delete"]
        self._run(argv, "iface", str(name))

    def nic(self, interface: str) -> str:
        """Return the network interface that an iface is bound to, "" for none or by its address."""
        try:
            text = (self.etc / "ifaces" / interface).read_text() if interface else ""
        except OSError:
            return ""
        found = re.search(r"(?m)^iface\.net_ifacename\s*=\s*(\S+)\s*$", text)
        return "" if found is None or found[1] == "<empty>" else found[1]

    # ---- inside ------------------------------------------------------------------------------

    def _run(
        self,
        argv: Sequence[str],
        verb: str,
        told: str,
        *,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
    ) -> Result:
        # Names of targets are longer than a unit's may be: the digest tells them apart.
        plain = _NOT_IN_A_UNIT.sub("-", told)[:_UNIT_CHARACTERS]
        unit = f"iscsi-{verb}-{plain}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
        try:
            return self.commands.change(argv, unit=unit, deadline_s=_DEADLINE_S, ok=ok, properties=properties)
        except CommandNotStarted as error:
            raise errors.IscsiadmNotStarted(told, str(error)) from error
        except CommandFailed as error:
            if type(error) is not CommandFailed:  # whether it ended is not known
                raise
            raise errors.iscsi_error(error, told) from error

    @contextlib.contextmanager
    def _conf(self, chap: Chap | None) -> Iterator[tuple[str, ...]]:
        """Let a unit see a private iscsid.conf: yields the unit's properties for that.

        The file is root's alone, lies in memory (/run), and is gone with the command.
        """
        conf = self.etc / "iscsid.conf"
        try:
            text = conf.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            problem = f"{conf} cannot be read ({error.strerror}); is open-iscsi installed?"
            raise errors.IscsiadmFailed("any portal", problem) from error
        self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.run, prefix="iscsid-", suffix=".conf") as file:
            file.write(private_conf(text, chap))
            file.flush()
            yield (f"BindReadOnlyPaths={file.name}:{conf}",)


def _node(node: Node, interface: str) -> list[str]:
    where = f"{Portal(node.address, node.port)},{node.tpgt}"
    return [
        *("iscsiadm", "-m", "node", "-T", node.target_iqn, "-p", where),
        *("-I", interface or DEFAULT_INTERFACE),
    ]


def _told(node: Node) -> str:
    return f"{node.portal} ({node.target_iqn})"
