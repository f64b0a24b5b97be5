"""The tables [[nbd]]: which exports are sources."""

import pytest

from p2vd.model.nbd import NbdExport
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load


def read(*texts: str) -> PolicySet:
    return load([PolicyText(f"/etc/p2vd/policy.d/{number}.toml", text) for number, text in enumerate(texts)])


def only(text: str) -> NbdExport:
    policies = read(f"[[nbd]]\n{text}")
    assert policies.errors == ()
    (export,) = policies.exports
    return export


def test_an_export_with_all_that_can_be_said_of_it() -> None:
    export = only('uri = "nbds://rescue/sda"\ntls_certificates = "/etc/p2vd/tls"\nsector_size = 4096\n')
    assert export == NbdExport("nbds://rescue/sda", "/etc/p2vd/tls", "", 4096)
    assert (export.id, export.name) == ("nbd://rescue:10809/sda", "rescue/sda")


@pytest.mark.parametrize(
    ("uri", "identity", "name", "privileged"),
    [
        ("nbd://10.0.0.7/", "nbd://10.0.0.7:10809/", "10.0.0.7", False),
        ("nbd://[fe80::1]:4000/a%20b", "nbd://[fe80::1]:4000/a%20b", "fe80::1/a b", False),
        ("nbds://h", "nbd://h:10809/", "h", True),
        ("nbd+unix:///?socket=/run/nbd.sock", "nbd+unix:///?socket=/run/nbd.sock", "nbd.sock", True),
    ],
)
def test_what_names_it_is_its_place(uri: str, identity: str, name: str, privileged: bool) -> None:
    export = only(f'uri = "{uri}"\n')
    assert (export.id, export.name, export.needs_privileges) == (identity, name, privileged)
    assert NbdExport(export.id).id == identity


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("", 1, "nbd.uri", "every export needs one"),
        ('uri = "http://h/"', 2, "nbd.uri", "http:// is no scheme of NBD"),
        ('uri = "nbds://me:secret@h/"', 2, "nbd.uri", "keys belong in a PSK file"),
        ('uri = "nbd://h/"\ntls_psk_file = "/etc/p2vd/psk"', 2, "nbd.uri", "write nbds://"),
        ('uri = "nbds+unix:///?socket=/s"', 2, "nbd.uri", "use a PSK file"),
        (
            'uri = "nbds://h/"\ntls_psk_file = "/p"\ntls_certificates = "/c"',
            *(2, "nbd.uri", "use one of them"),
        ),
        ('uri = "nbds://h/"\ntls_psk_file = "psk"', 3, "nbd.tls_psk_file", "must begin with /"),
        ('uri = "nbd://h/"\nsector_size = 1024', 3, "nbd.sector_size", "must be 512 or 4096"),
        ('uri = "nbd://h/"\nurl = "x"', 3, "nbd.url", "there is no such key"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: int, key: str, problem: str) -> None:
    (error,) = read(f"[[nbd]]\n{text}\n").errors
    assert (error.line, error.key) == (line, key)
    assert problem in error.problem


def test_an_export_is_named_once_with_tls_or_without() -> None:
    policies = read('[[nbd]]\nuri = "nbd://h/a"\n', '[[nbd]]\nuri = "nbds://h:10809/a"\n')
    assert [error.path for error in policies.errors] == ["/etc/p2vd/policy.d/1.toml"]
    assert policies.exports == ()
