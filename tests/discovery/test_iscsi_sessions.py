"""Sessions from sysfs, as the kernel of Debian 12 shows them."""

import re
from pathlib import Path

from p2vd.discovery.iscsi import list_sessions
from p2vd.model.disk import Portal
from tests.iscsi_host import CAPTURED, IQN


def real_sysfs(root: Path) -> Path:
    """Rebuild the captured part of sysfs."""
    links = re.findall(r"(\S+) -> (\S+)", CAPTURED["sysfs"]["stdout"])
    for name, target in links:
        kind = "iscsi_connection" if name.startswith("connection") else "iscsi_session"
        link = root / "class" / kind / name
        link.parent.mkdir(parents=True, exist_ok=True)
        (root / Path(target.removeprefix("../../"))).mkdir(parents=True)
        link.symlink_to(target)
    for line in CAPTURED["sysfs"]["stdout"].splitlines():
        found = re.fullmatch(r"(class/iscsi_(?:session|connection)/\w+(?::\d+)?/\w+)=(.*)", line)
        if found:
            (root / found[1]).write_text(found[2] + "\n")
    return root


def test_the_sessions_of_a_real_host(tmp_path: Path) -> None:
    sessions = [session for session in list_sessions(real_sysfs(tmp_path)) if session.target_iqn == IQN]
    assert {(session.portal, session.state, session.interface) for session in sessions} == {
        (Portal("10.98.3.1", 3260), "LOGGED_IN", ""),
        (Portal("fd98:5::1", 3260), "LOGGED_IN", ""),
    }
    assert all(re.fullmatch(r"host\d+", session.host) for session in sessions)
    assert {str(session.name) for session in sessions} == {"10.98.3.1:3260", "[fd98:5::1]:3260"}


def test_a_host_without_iscsi_has_no_sessions(tmp_path: Path) -> None:
    assert list_sessions(tmp_path) == ()
