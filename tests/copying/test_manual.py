"""The manual of p2vd-copy names all that there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from p2vd.copying import protocol
from p2vd.copying.errors import ExitCode
from p2vd.copying.standalone import parser
from p2vd.model.copying import Progress

MANUAL = (Path(__file__).parents[2] / "units/p2vd-copy.1.md").read_text(encoding="utf-8")
OPTIONS = [word for action in parser()._actions for word in action.option_strings if word.startswith("--")]


@pytest.mark.parametrize("option", sorted({*OPTIONS} - {"--help"}))
def test_every_option(option: str) -> None:
    assert re.search(rf"^\*\*{option}\*\*", MANUAL, re.MULTILINE)


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_status(code: ExitCode) -> None:
    assert re.search(rf"^\| {int(code)} \| ", MANUAL, re.MULTILINE)


@pytest.mark.parametrize("name", [field.name for field in fields(Progress)])
def test_every_field_of_progress(name: str) -> None:
    assert f"`{name}`" in MANUAL


@pytest.mark.parametrize("name", protocol._NAMES)
def test_every_message_and_its_fields(name: str) -> None:
    row = next(line for line in MANUAL.splitlines() if re.match(rf"\| (worker|p2vd) \|.*`{name}`", line))
    if name != "report":
        for field in fields(protocol._NAMES[name]):
            assert f"`{field.name}`" in row
    assert f"version {protocol.VERSION} of the conversation" in MANUAL
