"""A host with open-iscsi, and arrays: iscsiadm's commands do to a directory what the real ones do to a host.

Exit statuses and words are those of the captured ones (fixtures/iscsi/debian12.json).
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from p2vd.discovery.iscsi import list_sessions
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.model.disk import Portal
from p2vd.model.portal import same_writing
from p2vd.system.command import CommandFailed, Result, log_late
from tests.fakes import FakeCommands

CAPTURED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fixtures/iscsi/debian12.json").read_text()
)
"""What the real tools said (fixtures/iscsi/capture.py): command, returncode, stdout, stderr by name."""

IQN = "iqn.2026-01.org.example.lab:second"
HOST_CONF = "# the host's own\nnode.startup = manual\nnode.session.timeo.replacement_timeout = 120\n"


def captured(name: str) -> Result:
    """What a real command said."""
    said = CAPTURED[name]
    return Result((), said["returncode"], said["stdout"], said["stderr"])


@dataclass
class Target:
    """A target: its portals as it announces them, and what it wants to hear ("": no CHAP)."""

    iqn: str
    portals: list[str]
    user: str = ""
    secret: str = ""
    failure: str = ""  # the name of a captured login that every login meets
    also_asked_at: str = ""  # a portal that answers a discovery and does not announce itself


@dataclass
class IscsiHost(FakeCommands):
    """Commands of a host whose /etc/iscsi, /run/p2vd and /sys are below `root`."""

    root: Path = field(default_factory=Path)
    targets: dict[str, Target] = field(default_factory=dict)
    unreachable: set[str] = field(default_factory=set)
    discovery_failure: str = ""
    on_login: Callable[[], None] = lambda: None
    _number: int = 0

    def __post_init__(self) -> None:
        for path in ("etc/nodes", "etc/ifaces", "run", "sys/class/iscsi_session", "sys/class/net/ens4"):
            (self.root / path).mkdir(parents=True)
        (self.root / "sys/class/iscsi_connection").mkdir()
        (self.root / "etc/iscsid.conf").write_text(HOST_CONF)

    @property
    def iscsiadm(self) -> Iscsiadm:
        return Iscsiadm(self, self.root / "etc", self.root / "run", self.root / "sys")

    def sessions(self) -> Any:
        return list_sessions(self.root / "sys")

    def target(self, iqn: str, *portals: str, **how: str) -> Target:
        self.targets[iqn] = Target(iqn, list(portals), **how)
        return self.targets[iqn]

    def records(self) -> dict[str, str]:
        """The records of open-iscsi: path below nodes -> text."""
        nodes = self.root / "etc/nodes"
        return {str(p.relative_to(nodes)): p.read_text() for p in nodes.rglob("*") if p.is_file()}

    def verbs(self) -> list[str]:
        """What iscsiadm was asked for, in order: discover, record, login, ..."""
        return [call.unit.split("-")[1] for call in self.calls if call.unit.startswith("iscsi-")]

    def words(self) -> str:
        """Every word that any user of the host could have seen of the commands."""
        return " ".join(" ".join((*call.argv, call.unit, *call.properties)) for call in self.calls)

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        if argv[0] != "iscsiadm":
            return super().change(
                argv,
                unit=unit,
                deadline_s=deadline_s,
                on_late=on_late,
                ok=ok,
                properties=properties,
                must_exit=must_exit,
            )
        super().change(["true"], unit=unit, properties=properties)
        self.calls[-1] = type(self.calls[-1])("change", tuple(argv), unit, tuple(properties))
        result = self._iscsiadm(list(argv), self._conf(properties))
        if result.returncode not in ok:
            raise CommandFailed(tuple(argv), result.returncode, result.stderr)
        return result

    def _conf(self, properties: Sequence[str]) -> str:
        for value in properties:
            source, _, place = value.removeprefix("BindReadOnlyPaths=").partition(":")
            assert place == str(self.root / "etc/iscsid.conf")
            assert Path(source).stat().st_mode & 0o777 == 0o600
            return Path(source).read_text()
        return (self.root / "etc/iscsid.conf").read_text()

    # ---- iscsiadm ----------------------------------------------------------------------------

    def _iscsiadm(self, argv: list[str], conf: str) -> Result:
        option = dict(pairwise(argv))
        match option["-m"]:
            case "discovery":
                return self._discover(option["-p"])
            case "iface":
                return self._iface(option)
            case "session":
                return self._session(argv, int(option["-r"]))
        if "--login" in argv:
            return self._log_in(option)
        file = self._record(option)
        if option["-o"] == "new":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(conf)
            return captured("record")
        if not file.exists():
            return captured("delete-no-record")
        if self._find(option) is not None:
            return captured("delete-with-session")
        file.unlink()
        return captured("delete")

    def _discover(self, portal: str) -> Result:
        if portal in self.unreachable:
            return captured("discover-closed-port")
        if self.discovery_failure:
            return captured(self.discovery_failure)
        lines = [
            f"{announced},1 {target.iqn}\n"
            for target in self.targets.values()
            if portal in (*target.portals, target.also_asked_at)
            for announced in target.portals
        ]
        return Result((), 0, "".join(lines), "")

    def _iface(self, option: dict[str, str]) -> Result:
        file = self.root / "etc/ifaces" / option["-I"]
        if option["-o"] == "delete":
            file.unlink()
        elif option["-o"] == "new":
            file.write_text(f"iface.iscsi_ifacename = {option['-I']}\n")
        else:
            file.write_text(file.read_text() + f"{option['-n']} = {option['-v']}\n")
        return Result((), 0, "", "")

    def _record(self, option: dict[str, str]) -> Path:
        where = re.fullmatch(r"\[?(.+?)\]?:(\d+),(-?\d+)", option["-p"])
        assert where is not None
        return self.root / "etc/nodes" / option["-T"] / ",".join(where.groups()) / option["-I"]

    def _log_in(self, option: dict[str, str]) -> Result:
        file = self._record(option)
        if not file.exists():
            return captured("login-no-record")
        if self._find(option) is not None:
            return captured("login-again")
        self.on_login()
        target = self.targets[option["-T"]]
        portal = option["-p"].rpartition(",")[0]
        if portal in self.unreachable:
            return captured("login-closed-port")
        if target.failure:
            return captured(target.failure)
        said = dict(re.findall(r"(?m)^node\.session\.auth\.(\w+) = (.*)$", file.read_text()))
        if target.user and (said.get("username"), said.get("password")) != (target.user, target.secret):
            return captured("login-wrong-secret")
        self.session(target.iqn, portal, option["-I"])
        return captured("login")

    def session(self, iqn: str, portal: str, interface: str = "default", state: str = "LOGGED_IN") -> int:
        """Make a session appear; its number."""
        self._number += 1
        number = self._number
        address, port = re.fullmatch(r"\[?(.+?)\]?:(\d+)", portal).groups()  # type: ignore[union-attr]  # ours
        for kind, name, inside, files in (
            (
                "iscsi_session",
                f"session{number}",
                "",
                {"targetname": iqn, "ifacename": interface, "state": state},
            ),
            (
                "iscsi_connection",
                f"connection{number}:0",
                f"connection{number}:0/",
                {"persistent_address": address, "persistent_port": port},
            ),
        ):
            place = f"devices/platform/host{number + 5}/session{number}/{inside}{kind}/{name}"
            real = self.root / "sys" / place
            real.mkdir(parents=True)
            for attribute, value in files.items():
                (real / attribute).write_text(f"{value}\n")
            (self.root / "sys/class" / kind / name).symlink_to(f"../../{place}")
        return number

    def end_session(self, number: int) -> None:
        (self.root / f"sys/class/iscsi_session/session{number}").unlink()
        (self.root / f"sys/class/iscsi_connection/connection{number}:0").unlink()

    def _find(self, option: dict[str, str]) -> Any:
        where = re.fullmatch(r"\[?(.+?)\]?:(\d+),.*", option["-p"])
        assert where is not None
        portal = same_writing(Portal(where[1], int(where[2])))
        interface = "" if option["-I"] == "default" else option["-I"]
        for one in self.sessions():
            if (one.target_iqn, one.portal, one.interface) == (option["-T"], portal, interface):
                return one
        return None

    def _session(self, argv: list[str], number: int) -> Result:
        if not any(session.number == number for session in self.sessions()):
            return captured("logout-no-session")
        if "--logout" in argv:
            self.end_session(number)
            return captured("logout")
        return captured("rescan")


def make_host(root: Path) -> IscsiHost:
    """Return a host without targets; commands other than iscsiadm are to be answered by the test."""
    host = IscsiHost(root=root)
    host.on("true")
    return host
