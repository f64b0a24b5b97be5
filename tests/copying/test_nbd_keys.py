"""The keys of an NBD export: the tool, the worker and a policy file are told the same of them."""

from pathlib import Path

import pytest

from p2vd.copying.errors import SourceRefused
from p2vd.copying.nbd_keys import require_usable
from p2vd.copying.terms import NbdServer
from p2vd.model.nbd import parse_uri
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load

KEYS = [
    ("nbd://h/", "/c", "", ["write nbds://"]),
    ("nbd+unix:///?socket=/s", "", "/p", ["write nbds://"]),
    ("nbd://h/", "/c", "/p", ["write nbds://", "use one of them"]),
    ("nbds://h/", "/c", "/p", ["use one of them"]),
    ("nbds+unix:///?socket=/s", "/c", "", ["use a PSK file"]),
    ("nbds+unix:///?socket=/s", "", "", ["use a PSK file"]),
    ("nbds+unix:///?socket=/s", "/c", "/p", ["use one of them"]),
]


def refused(server: NbdServer) -> str:
    """What the tool and the worker say of it."""
    with pytest.raises(SourceRefused) as refusal:
        require_usable(server, parse_uri(server.uri))
    return str(refusal.value)


@pytest.mark.parametrize(("uri", "certificates", "psk_file", "remedies"), KEYS)
def test_what_contradicts_itself_is_told_in_the_same_words_everywhere(
    uri: str, certificates: str, psk_file: str, remedies: list[str]
) -> None:
    keys = {"tls_certificates": certificates, "tls_psk_file": psk_file}
    lines = [f'{key} = "{path}"\n' for key, path in keys.items() if path]
    errors = load([PolicyText("/p.toml", f'[[nbd]]\nuri = "{uri}"\n{"".join(lines)}')]).errors
    problems = [error.problem for error in errors]
    assert len(problems) == len(remedies)
    assert all(remedy in problem for problem, remedy in zip(problems, remedies, strict=True))
    assert f"{'; '.join(problems)}." in refused(NbdServer(uri, certificates, psk_file))


def test_files_that_are_not_there_are_told_by_who_would_read_them(tmp_path: Path) -> None:
    place = str(tmp_path / "x")
    assert f"there is no ca-cert.pem in {place}" in refused(NbdServer("nbds://h/", certificates=place))
    assert f"there is no PSK file {place}" in refused(NbdServer("nbds://h/", psk_file=place))
    assert load([PolicyText("/p.toml", f'[[nbd]]\nuri = "nbds://h/"\ntls_psk_file = "{place}"')]).errors == ()
    (tmp_path / "x").touch()
    require_usable(NbdServer("nbds://h/", psk_file=place), parse_uri("nbds://h/"))
    # By the authorities of the host.
    require_usable(NbdServer("nbds://h/"), parse_uri("nbds://h/"))
