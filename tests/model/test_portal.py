"""How portals are written, and which credentials are none."""

import pytest

from p2vd.model.codec import from_json, to_json
from p2vd.model.disk import Portal
from p2vd.model.errors import InvalidArgument
from p2vd.model.portal import Chap, Node, PortalRecord, Secret, make_chap, parse_portal, parse_secret


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("10.1.1.1", "10.1.1.1:3260"),
        (" 10.1.1.1:860 ", "10.1.1.1:860"),
        ("10.1.1.1@ens4f0.12", "10.1.1.1:3260@ens4f0.12"),
        ("10.1.1.1@default", "10.1.1.1:3260"),
        ("fd98:0:0::1", "[fd98::1]:3260"),
        ("[FD98::1]", "[fd98::1]:3260"),
        ("[fd98::1]:860@ens4", "[fd98::1]:860@ens4"),
    ],
)
def test_a_portal_has_one_name_however_it_is_written(text: str, name: str) -> None:
    assert str(parse_portal(text)) == name
    assert parse_portal(name) == parse_portal(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("storage.example", "no IPv4 or IPv6 address.*Names are not looked up"),
        ("", "no IPv4 or IPv6 address"),
        ("10.1.1.1:", "'' is no port"),
        ("10.1.1.1:70000", "'70000' is no port"),
        ("10.1.1.1:0", "'0' is no port"),
        ("[fd98::1]x", "'x' is no port"),
        ("fe80::1%eth0", "link-local"),
        ("0.0.0.0", "no address of a single host"),
        ("ff02::1", "no address of a single host"),
        ("10.1.1.1@", "no name of an interface"),
        ("10.1.1.1@../../x", "no name of an interface"),
        ("10.1.1.1@-o", "no name of an interface"),
    ],
)
def test_what_is_no_portal_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        parse_portal(text)


def test_a_secret_shows_itself_to_nobody_who_does_not_ask() -> None:
    chap = Chap("user", Secret("hush-hush-hush"), "theirs", Secret("hush-too-hush"))
    for text in (repr(chap), str(chap), f"{chap}", f"{chap.secret!r} {chap.secret}"):
        assert "hush" not in text
    assert chap.secret.reveal() == "hush-hush-hush"


@pytest.mark.parametrize("raw", [b's3cret #="x\n', b's3cret #="x\r\n', b's3cret #="x'])
def test_a_secret_is_one_line(raw: bytes) -> None:
    assert parse_secret(raw, "chap-secret").reveal() == 's3cret #="x'


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b" leading", b"trailing ", b"a\tb", "schlüssel".encode(), b"x" * 256]
)
def test_what_open_iscsi_cannot_keep_is_refused_without_being_shown(raw: bytes) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_secret(raw, "chap-secret")
    text = raw.decode(errors="replace").strip()
    assert not text or text not in str(raised.value)


def test_credentials_are_whole_or_none() -> None:
    secret, other = Secret("a" * 12), Secret("b" * 12)
    assert make_chap("", None, "", None, discovery=False) is None
    assert make_chap("u", secret, "v", other, discovery=True) == Chap("u", secret, "v", other, True)
    for user, given, user_in, given_in, says in (
        ("u", None, "", None, "both a user"),
        ("", secret, "", None, "both a user"),
        ("", None, "", None, "both a user"),
        ("u", secret, "v", None, "target's user"),
        ("u", secret, "", other, "target's user"),
        ("u", secret, "v", secret, "must differ"),
        ("u ", secret, "", None, "chap-user: only printable"),
        ("u", secret, "v\n", other, "chap-user-in: only printable"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            make_chap(user, given, user_in, given_in, discovery=True)


def test_a_record_is_kept_as_json_and_knows_its_name() -> None:
    node = Node("iqn.x", "FD98::1", 3260, 1, record_made=True)
    record = PortalRecord(Portal("fd98::1", 3260), "ens4", ("iqn.x",), True, True, True, (node,))
    assert from_json(PortalRecord, to_json(record)) == record
    assert record.id == "[fd98::1]:3260@ens4"
    assert node.key == ("iqn.x", record.portal)
