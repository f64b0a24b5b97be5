"""What is handed on has no secrets in it."""

import pytest

from p2vd.cli.redaction import LEFT_OUT, redact, secrets_in

SECRET = "Xk7.pl+aned/12="

RECORD = f"""node.name = iqn.2026-01.org.example.lab:t1
node.session.auth.username = p2vhost
node.session.auth.password = {SECRET}
node.session.auth.password_in = {SECRET}2
node.conn[0].address = 10.1.1.10
"""


@pytest.mark.parametrize(
    "text",
    [
        RECORD,
        f"#discovery.sendtargets.auth.password = {SECRET}",
        f'"chap-secret": "{SECRET}"',
        f"<graphics type='vnc' passwd='{SECRET}'/>",
        f"login with chap_secret={SECRET} failed",
        f'password="{SECRET}"',
        f"api_token: {SECRET}",
    ],
)
def test_a_value_under_a_secrets_name_goes(text: str) -> None:
    assert SECRET in set(secrets_in(text))
    assert SECRET not in redact(text)
    assert LEFT_OUT in redact(text)


@pytest.mark.parametrize("secret", ['"Xk3!longsecret', "'ab'cdefghijkl", 'ab"cd"efgh', "with blanks inside"])
def test_a_secret_of_a_record_may_have_quotes(secret: str) -> None:
    """A value of open-iscsi goes to the end of its line."""
    text = f"node.session.auth.password = {secret}\nnode.conn[0].port = 3260\n"
    assert secret in set(secrets_in(text))
    assert secret not in redact(text)
    assert redact(text).splitlines()[0] == f"node.session.auth.password = {LEFT_OUT}"


def test_what_is_no_secret_stays() -> None:
    told = redact(RECORD)
    assert "node.session.auth.username = p2vhost" in told
    assert "node.conn[0].address = 10.1.1.10" in told
    assert len(told.splitlines()) == len(RECORD.splitlines())


def test_a_known_secret_goes_wherever_it_stands() -> None:
    known = set(secrets_in(RECORD))
    assert known == {SECRET, f"{SECRET}2"}
    assert redact(f"iscsid: tried {SECRET}2, then {SECRET}.", known) == (
        f"iscsid: tried {LEFT_OUT}, then {LEFT_OUT}."
    )


def test_what_was_left_out_is_no_secret() -> None:
    assert list(secrets_in(redact(RECORD))) == []


def test_an_empty_secret_is_none() -> None:
    text = "node.session.auth.password = \nnode.conn[0].port = 3260\n"
    assert list(secrets_in(text)) == []
    assert redact(text) == text
