"""p2vd-collect, the one file that is carried to the physical machine: it stands alone, on old Pythons too."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from p2vd.discovery.passport import collect
from p2vd.discovery.passport.reading import Host
from p2vd.model.codec import to_dict
from p2vd.model.passport import FORMAT
from p2vd.model.passport_record import parse_passport
from tests.test_setup import packaging

__all__ = ["packaging"]

OLDEST = (3, 6)


def interpreters() -> list[str]:
    """The Pythons of this machine that run, ours first."""
    found = [shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 12)]
    works = [
        path
        for path in found
        if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
    ]
    return [sys.executable, *works]


@pytest.fixture(scope="module")
def text(packaging: ModuleType) -> str:
    collector: bytes = packaging.collector()
    return collector.decode()


def test_its_grammar_is_that_of_the_oldest_python(text: str) -> None:
    ast.parse(text, feature_version=OLDEST)
    with pytest.raises(SyntaxError):
        ast.parse("if (a := 1): pass", feature_version=OLDEST)


def test_it_needs_the_standard_library_alone(text: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    # Which is used where it is there.
    assert imported - {"pyroute2"} <= sys.stdlib_module_names
    assert "p2vd" not in imported


def test_no_name_is_given_twice(text: str) -> None:
    """It is several modules in one: what one calls by a name must not be another's."""
    names: Counter[str] = Counter()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    assert not [name for name, count in names.items() if count > 1]
    assert names["record"] == 1


@pytest.mark.parametrize("python", interpreters())
@pytest.mark.parametrize("way", ["a file", "standard input"])
def test_it_runs_where_nothing_else_is(text: str, tmp_path: Path, python: str, way: str) -> None:
    """Without site-packages: no pyroute2; in an empty directory: no p2vd."""
    (tmp_path / "p2vd-collect").write_text(text)
    command = [python, "-I", "-S", "p2vd-collect" if way == "a file" else "-"]
    done = subprocess.run(
        [*command, "--name", "here"],
        cwd=tmp_path,
        input="" if way == "a file" else text,
        capture_output=True,
        text=True,
        check=True,
    )
    collected = json.loads(done.stdout)
    assert to_dict(parse_passport(done.stdout)) == collected
    assert (
        collected["cpu"]["sockets"] * collected["cpu"]["cores"] * collected["cpu"]["threads"]
        == os.cpu_count()
    )
    assert all(line.startswith("p2vd-collect: ") for line in done.stderr.splitlines())


def test_its_record_has_the_format_of_the_model() -> None:
    assert collect.FORMAT == FORMAT


def test_a_file_is_written_whole_or_the_reason_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collect.collect(str(tmp_path / "here.json"), "here", "") == 0
    assert parse_passport((tmp_path / "here.json").read_bytes()).name == "here"
    assert collect.collect(str(tmp_path / "no/here.json"), "here", "") == 1
    assert capsys.readouterr().err.endswith("here.json: No such file or directory.\n")


def test_a_root_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert collect.collect(None, "", str(tmp_path)) == 1
    assert "has no /etc" in capsys.readouterr().err


def test_it_is_installed_to_be_run(packaging: ModuleType, tmp_path: Path) -> None:
    list(packaging.Tree(tmp_path).install(packaging.host_files()))
    installed = tmp_path / "usr/share/p2vd/p2vd-collect"
    assert os.access(installed, os.X_OK)
    assert installed.read_text().startswith("#!/usr/bin/env python3\n")


def test_with_a_root_it_says_what_is_the_rescue_systems() -> None:
    rescue, own = Host("/", "/usr"), Host("/", "/")
    for one in (rescue, own):
        collect.record(one, "here", 1)
    said = "Names of NICs, addresses and routes are those of this rescue system, not the machine's."
    assert said in rescue.problems
    assert said not in own.problems
