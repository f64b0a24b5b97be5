"""The manuals: man(1) shows them, and p2vctl(1) says of each command what its parser says."""

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from p2vd.cli.main import build_parser
from tests.test_setup import packaging as packaging  # a fixture

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["p2vctl.1", "p2vd-copy.1", "p2vd-machine.5", "p2vd-policy.5", "p2vd.toml.5", "p2vd.8"]

needs_lowdown = pytest.mark.skipif(shutil.which("lowdown") is None, reason="lowdown is not installed")
needs_man = pytest.mark.skipif(shutil.which("man") is None, reason="man-db is not installed")


@needs_lowdown
def test_each_manual_becomes_a_page(packaging: ModuleType) -> None:
    pages = packaging.man_pages()
    assert sorted(path.name for path in pages) == sorted(PAGES)
    assert {str(path.parent) for path in pages} == {f"usr/share/man/man{section}" for section in (1, 5, 8)}
    assert set(pages) <= set(packaging.host_files())


def shown(page: Path, *options: str) -> str:
    argv = ["man", *options, "--local-file", str(page)]
    environment = {"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    serious = [line for line in done.stderr.splitlines() if "cannot adjust line" not in line]
    assert serious == []
    return done.stdout


@needs_lowdown
@needs_man
@pytest.mark.parametrize("name", PAGES)
def test_man_renders_it(packaging: ModuleType, tmp_path: Path, name: str) -> None:
    page = tmp_path / name
    stem, _, section = name.rpartition(".")
    page.write_bytes(packaging.man_page(stem, section, (ROOT / source_of(name)).read_text()))
    text = shown(page, "--warnings")
    assert text.startswith(f"{stem.upper()}({section})")
    # What whatis(1) and apropos(1) read.
    assert re.search(rf"^NAME\n +{re.escape(stem)} +- +\w", text, re.MULTILINE)
    assert "**" not in text
    assert "\N{EN DASH}" not in text  # an option's two dashes, made pretty
    assert "|---" not in text


def source_of(name: str) -> str:
    return next(f"{room}/{name}.md" for room in ("units", "conf") if (ROOT / room / f"{name}.md").exists())


@needs_lowdown
def test_a_package_is_not_built_without_its_manuals(
    packaging: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert packaging.man_pages() == {}
    install = packaging.InstallHost(packaging.Command.__init__.__globals__["Distribution"]())
    install.root = str(tmp_path)
    with pytest.raises(SystemExit, match="apt-get install lowdown"):
        install.run()
    assert list(tmp_path.iterdir()) == []


# -- p2vctl(1) and the parser -----------------------------------------------------------------


def commands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command of the parser, `machine show` too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from commands(inner, f"{path} {name}".strip())
            return
    yield path, parser


def entries() -> dict[str, str]:
    """What p2vctl(1) says of each command: the synopsis before the text. `audit verify` is one of its own."""
    manual = (ROOT / "units/p2vctl.1.md").read_text()
    section = manual.partition("## Commands\n")[2].partition("\n## ")[0]
    found = {}
    for entry in re.findall(r"^(\*\*.*?)\n: ", section, re.MULTILINE | re.DOTALL):
        for name, rest in re.findall(r"\*\*([a-z -]+)\*\*((?:(?!\*\*)[\s\S])*)", entry):
            found[name] = rest
    return found


COMMANDS = dict(commands(build_parser()))


def test_every_command_is_in_the_manual_and_no_other() -> None:
    assert set(entries()) - {"audit verify"} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_names_exactly_the_options_of_the_parser(name: str) -> None:
    options = {
        option
        for action in COMMANDS[name]._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    told = entries()[name] + (entries()["audit verify"] if name == "audit" else "")
    assert set(re.findall(r"--[a-z-]+", told)) == options


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_names_what_the_command_takes(name: str) -> None:
    told = entries()[name]
    for action in COMMANDS[name]._actions:
        if not action.option_strings and action.choices is None and action.metavar:
            assert str(action.metavar) in told


def test_the_manual_names_who_may_do_each_command() -> None:
    section = (ROOT / "units/p2vctl.1.md").read_text().partition("## Rights\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"\*\*([a-z -]+)\*\*", section)) == set(COMMANDS)


def test_options_for_all_commands_are_in_the_manual() -> None:
    section = (ROOT / "units/p2vctl.1.md").read_text().partition("## Options\n")[2]
    for action in build_parser()._actions:
        for option in action.option_strings:
            if option not in ("-h", "--help", "--version"):
                assert f"**{option} " in section


# -- p2vd(8) and the unit ---------------------------------------------------------------------


def test_p2vd_8_tells_the_sandbox_that_the_unit_has() -> None:
    unit = (ROOT / "units/p2vd.service").read_text()
    told: dict[str, list[str]] = {
        key: [] for key in ("ReadWritePaths", "RestrictAddressFamilies", "StateDirectory", "RuntimeDirectory")
    }
    for key, value in re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE):
        told.get(key, []).extend(value.split())
    writable = {path.removeprefix("-") for path in told["ReadWritePaths"]}
    writable |= {f"/var/lib/{name}" for name in told["StateDirectory"]}
    writable |= {f"/run/{name}" for name in told["RuntimeDirectory"]}
    page = (ROOT / "units/p2vd.8.md").read_text().partition("The unit is sandboxed. ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(/[^`]+)`", page)) == writable | {"/tmp", "/var/tmp"}
    assert re.findall(r"`(AF_\w+)`", page) == told["RestrictAddressFamilies"]
