"""The iscsid.conf that iscsiadm makes records from."""

import re

import pytest

from p2vd.discovery.iscsid_conf import private_conf
from p2vd.model.portal import Chap, Secret

HOST = """# comment
node.startup = manual
node.session.timeo.replacement_timeout = 120
node.session.auth.authmethod = CHAP
node.session.auth.username = of-the-host
node.session.auth.password = secret-of-host
 node.session.auth.username_in=theirs
node.session.auth.chap_algs = SHA256,MD5
discovery.sendtargets.auth.password = other
node.session.queue_depth = 64
"""


def settings(text: str) -> dict[str, str]:
    """Read it as usr/idbm.c does: the last line of a name counts, and a value is stripped."""
    found = (line.partition("=") for line in text.splitlines() if not line.strip().startswith("#"))
    return {name.strip(): value.strip() for name, separator, value in found if separator and value.strip()}


def test_without_credentials_the_hosts_own_stay() -> None:
    said = settings(private_conf(HOST, None))
    assert said["node.session.auth.password"] == "secret-of-host"
    assert said["discovery.sendtargets.auth.password"] == "other"
    assert said["node.startup"] == "automatic"
    assert said["node.session.queue_depth"] == "64"


def test_credentials_replace_all_of_the_hosts_but_its_algorithms() -> None:
    said = settings(private_conf(HOST, Chap("me", Secret("my-secret # = x"))))
    auth = {name: value for name, value in said.items() if ".auth." in name}
    assert auth == {
        "node.session.auth.authmethod": "CHAP",
        "node.session.auth.username": "me",
        "node.session.auth.password": "my-secret # = x",
        "node.session.auth.chap_algs": "SHA256,MD5",
    }


def test_mutual_chap_and_discovery() -> None:
    chap = Chap("me", Secret("mine"), "they", Secret("theirs"), discovery=True)
    said = settings(private_conf(HOST, chap))
    for prefix in ("node.session.auth.", "discovery.sendtargets.auth."):
        assert said[f"{prefix}username"] == "me"
        assert said[f"{prefix}password"] == "mine"
        assert said[f"{prefix}username_in"] == "they"
        assert said[f"{prefix}password_in"] == "theirs"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # README of open-iscsi 2.1.8, 8.1.4: "a shorter value like 5 to 15 seconds"
        ("node.session.timeo.replacement_timeout", "15"),
        ("node.conn[0].timeo.noop_out_interval", "5"),
        ("node.conn[0].timeo.noop_out_timeout", "5"),
        ("node.session.reopen_max", "0"),
        ("node.session.scan", "auto"),
    ],
)
def test_timeouts_are_for_multipath_and_said_once(name: str, value: str) -> None:
    text = private_conf(HOST, None)
    assert settings(text)[name] == value
    assert len(re.findall(rf"(?m)^\s*{re.escape(name)}\s*=", text)) == 1
