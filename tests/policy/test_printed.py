"""The policies that README and manuals print are put into files as they stand: p2vd has to take them."""

import re
import textwrap
from pathlib import Path

import pytest

from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("conf/*.md")), *sorted(ROOT.glob("units/*.md")))
_RULE = """\
[[rule]]
name = "printed"
match.wwid = "*"
target.volume_groups = "vg_san"
target.provisioning = "thin"
"""
"""What a table of a rule that is printed by itself stands below."""


def policies(page: str) -> list[str]:
    """Return the indented blocks with tables of a policy. What is typed besides is a comment of TOML."""
    found = []
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE):
        text = textwrap.dedent(block).strip("\n") + "\n"
        if re.search(r"^\[\[(rule|nbd)\]\]", text, re.MULTILINE):
            found.append(text)
        elif re.search(r"^\[\[?rule\.", text, re.MULTILINE):
            found.append(_RULE + text)
    return found


PRINTED = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(policies(page.read_text()), 1)
]


def test_they_are_found() -> None:
    names = {str(printed.id).rpartition("-")[0] for printed in PRINTED}
    assert names == {"README.md", "p2vd-policy.5.md", "week.md"}
    every = "".join(page.read_text() for page in PAGES)
    tables = re.findall(r"^ +\[\[?(?:rule|nbd)\b", every, re.MULTILINE)
    assert len(tables) == sum(
        len(re.findall(r"^\[\[?(?:rule|nbd)\b", str(printed.values[0]).removeprefix(_RULE), re.MULTILINE))
        for printed in PRINTED
    )


@pytest.mark.parametrize("text", PRINTED)
def test_p2vd_takes_it(text: str) -> None:
    policy = load([PolicyText("printed.toml", text)])
    assert [str(error) for error in policy.errors] == []
    assert policy.rules or policy.exports


def test_a_page_that_lacks_a_key_is_noticed() -> None:
    (text,) = policies(
        'As here:\n\n    # cat 1.toml\n    [[rule]]\n    name = "a"\n    match.wwid = "*"\n\nSo.\n'
    )
    (first, _) = load([PolicyText("printed.toml", text)]).errors
    assert "rule.target.provisioning: is missing" in str(first)
