"""How text fits a terminal: what is folded, where, and what never is."""

import io
import sys
from collections.abc import Iterator

import pytest

from p2vd.cli import layout
from p2vd.cli.terminal import fitting

WWID = "360014052d30a6508937515eb84cfdeac"
HEAD = ("ID", "NAME", "POLICY", "TAGS")
ROWS = [(WWID, "mpathd", "erp-array", "-"), (WWID[::-1], "mpathe", "none", "a, b")]


@pytest.fixture(autouse=True)
def no_terminal() -> Iterator[None]:
    yield
    layout.set_columns(None)


class Terminal(io.StringIO):
    """Standard output that says it is one."""

    def isatty(self) -> bool:
        return True


def test_into_a_pipe_a_row_is_a_line() -> None:
    assert len(layout.table(HEAD, ROWS).splitlines()) == 3
    assert layout.fold("x " * 500) == ["x " * 500]


def test_columns_that_find_no_place_go_below_their_row() -> None:
    layout.set_columns(52)
    assert layout.table(HEAD, ROWS).splitlines() == [
        "ID                                 NAME    POLICY",
        "    TAGS",
        f"{WWID}  mpathd  erp-array",
        f"{WWID[::-1]}  mpathe  none",
        "    a, b",
    ]


def test_a_table_that_fits_is_not_folded() -> None:
    layout.set_columns(60)
    assert len(layout.table(HEAD, ROWS).splitlines()) == 3


def test_the_last_column_may_be_folded_where_there_is_room() -> None:
    layout.set_columns(60)
    text = "one two three four five six seven eight nine ten eleven"
    assert layout.table(("A", "B"), [("1", text)]).splitlines() == [
        "A  B",
        "1  one two three four five six seven eight nine ten eleven",
    ]
    assert layout.table(("A", "B"), [("1", f"{text} twelve")]).splitlines()[1:] == [
        "1  one two three four five six seven eight nine ten eleven",
        "   twelve",
    ]


def test_a_note_stands_below_its_row() -> None:
    layout.set_columns(40)
    assert layout.table(("A",), [("1",), ("2",)], notes=["", "said of it " * 5]).splitlines() == [
        "A",
        "1",
        "2",
        "    said of it said of it said of it",
        "      said of it said of it",
    ]


def test_a_fact_is_folded_below_its_beginning() -> None:
    layout.set_columns(40)
    assert layout.facts([("A", "1"), ("Long", "two " * 12)], indent=2).splitlines() == [
        "  A     1",
        "  Long  two two two two two two two two",
        "        two two two two",
    ]


@pytest.mark.parametrize("width", [20, 33, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    layout.set_columns(width)
    rows = [(WWID, "x" * 70, f"{WWID}," * 5, "some words " * 20)]
    shown = [
        *layout.table(HEAD, rows, indent=2, notes=["y" * 300]).splitlines(),
        *layout.facts([("Name", "z " * 300), ("Other", WWID * 9)]).splitlines(),
        *layout.prose("word " * 99, first="  ", rest="    ").splitlines(),
    ]
    assert [line for line in shown if len(line) > width] == []


def test_what_a_command_did_not_fold_is_folded_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "30")
    with fitting(verbatim=False):
        print("a question? ", end="", flush=True)
        assert terminal.getvalue() == "a question? "
        print("yes")
        print("  indented words that go beyond the end")
        print("\x1b[1mbold, and steered by somebody else\x1b[0m")
    assert terminal.getvalue().splitlines() == [
        "a question? yes",
        "  indented words that go",
        "    beyond the end",
        "\x1b[1mbold, and steered by somebody else\x1b[0m",
    ]
    assert sys.stdout is terminal


def test_what_is_for_programs_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    with fitting(verbatim=True):
        assert layout.columns() is None
        assert isinstance(sys.stdout, Terminal)
