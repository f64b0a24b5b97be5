"""Passports of recorded machines; and of the same with what they say garbled."""

import json
from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.passport import network
from p2vd.discovery.passport.collect import record
from p2vd.discovery.passport.network import Tables
from p2vd.model.codec import to_dict
from p2vd.model.passport_record import PassportInvalid, parse_passport
from tests.discovery.machine_tree import FIXTURES, Machine, recorded, recording

NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
NOW_US = 1_790_000_000_000_000


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without pyroute2: else this host's own network is read."""

    def missing(_: object) -> Tables:
        raise ImportError("No module named 'pyroute2'")

    monkeypatch.setattr(network, "_by_pyroute2", missing)


def collected(machine: Machine) -> tuple[dict[str, Any], list[str]]:
    host = machine.host()
    return record(host, "here", NOW_US), host.problems


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_gives_a_whole_record(name: str, tmp_path: Path) -> None:
    found, problems = collected(recorded(name, tmp_path))
    assert found == {**recording(name)["record"], "name": "here"}
    assert problems == recording(name)["problems"]
    assert to_dict(parse_passport(json.dumps(found))) == found


def of(found: list[dict[str, Any]], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(one[key] for key in keys) for one in found]


GARBAGE = (
    b"",
    b"\n",
    b"\xff\xfe\0garbage\0",
    b"-1",
    b"9" * 4000,
    b"a b c - d\n" * 20,
    b"{]" * 99,
    bytes(range(256)),
)


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda raw: repr(raw[:12]))
@pytest.mark.parametrize("name", NAMES)
def test_what_is_garbled_ends_nothing(name: str, garbage: bytes, tmp_path: Path) -> None:
    """All of it at once, and then each kind of file alone."""
    machine = recorded(name, tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink())
    kinds: dict[str, list[Path]] = {}
    for path in files:
        kinds.setdefault(path.name, []).append(path)
    before = {path: path.read_bytes() for path in files}
    for paths in [files, *list(kinds.values())[:: max(1, len(kinds) // 25)]]:
        for path in paths:
            path.write_bytes(garbage)
        found, problems = collected(machine)
        assert json.loads(json.dumps(found)).keys() == recording(name)["record"].keys()
        assert paths is not files or problems
        try:
            parse_passport(json.dumps(found))
        except PassportInvalid as invalid:
            assert all(": " in mistake for mistake in invalid.mistakes)  # noqa: PT017  (either is well)
        for path in paths:
            path.write_bytes(before[path])
