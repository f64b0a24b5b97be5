"""Lines of keys, and the types of values."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.policy.toml import Document, FileError, place_text

TEXT = '''\
# a comment with a = 1 in it
top = """
inner = 2
[[rule]]
"""
list = [
  "x",  # [rule]
  "y]",
]

[[rule]]
name = "one"
match = { wwid = "*", size = { min = "1" } }

[[rule]]
name = 'two'
target.provisioning = "thin"
[rule.domain]
"vcpus" = 4
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 0),
        (("nothing",), 0),
        (("top",), 2),
        (("list",), 6),
        (("list", 1), 6),
        (("rule",), 11),
        (("rule", 0), 11),
        (("rule", 0, "name"), 12),
        (("rule", 0, "match", "size", "min"), 13),
        (("rule", 1), 15),
        (("rule", 1, "name"), 16),
        (("rule", 1, "target", "provisioning"), 17),
        (("rule", 1, "domain"), 18),
        (("rule", 1, "domain", "vcpus"), 19),
        (("rule", 1, "domain", "memory"), 18),
        (("rule", 2), 11),
        (("top", "inner"), 2),
        (("top", 0), 2),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["unix", "windows"])
def test_line_is_where_the_statement_begins(place: tuple[str | int, ...], line: int, newline: str) -> None:
    assert Document("f", TEXT.replace("\n", newline)).line_of(place) == line


def test_line_separators_of_unicode_do_not_count() -> None:
    assert Document("f", 'a = "x\u2028y\x85z"\nb = 1\n').line_of(("b",)) == 2


@given(st.lists(st.sampled_from(['k{} = """\n\n"""', "k{} = 1", "# k{} = 1\nk{} = [\n\n1\n]", "[t{}]\n\n"])))
def test_each_key_is_found_where_it_was_written(statements: list[str]) -> None:
    lines: list[str] = []
    places: dict[tuple[str | int, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, statement in enumerate(statements):
        written = statement.format(number, number).split("\n")
        key = f"{written[0][1] if written[0].startswith('[') else 'k'}{number}"
        if key.startswith("t"):
            table = (key,)
            places[table] = len(lines) + 1
        else:
            places[(*table, key)] = len(lines) + 1 + written[0].startswith("#")
        lines += written
    document = Document("f", "\n".join(lines))
    assert {place: document.line_of(place) for place in places} == places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = \n", FileError("f", 2, "", "not TOML: Invalid value")),
        ("a = 1\n[b", FileError("f", 2, "", "not TOML: Expected ']' at the end of a table declaration")),
        ("a = 1\na = 2\n", FileError("f", 2, "", "not TOML: Cannot overwrite a value")),
    ],
)
def test_what_is_not_toml_has_its_line(text: str, expected: FileError) -> None:
    assert Document("f", text).errors == [expected]


def test_errors_read_as_compilers_write_them() -> None:
    assert (
        str(FileError("/etc/x.toml", 3, "rule.name", "is missing")) == "/etc/x.toml:3: rule.name: is missing"
    )
    assert str(FileError("/etc/x.toml", 0, "", "cannot be read")) == "/etc/x.toml: cannot be read"
    assert place_text(("rule", 0, "match", "wwid")) == "rule.match.wwid"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_values_of_the_right_type_pass() -> None:
    document = Document(
        "f",
        't="a"\none="a"\nmany=["a","b"]\nyes=true\ni=3\nn=2\nx=1.5\ns="1 KiB"\nc="blue"\n'
        "[sub]\nk=1\n[[l]]\n[[l]]\n",
    )
    root = document.root()
    assert (root.text("t"), root.texts("one"), root.texts("many")) == ("a", ("a",), ("a", "b"))
    assert (root.flag("yes"), root.integer("i", 0, 1, 3), root.size("s")) == (True, 3, 1024)
    assert (root.number("n", 0, 1, 2), root.number("x", 0, 1, 2)) == (2.0, 1.5)
    assert root.choice("c", Colour.RED) is Colour.BLUE
    assert root.table("sub").integer("k", 0, 0, 1) == 1
    assert [table.line for table in root.tables("l")] == [12, 13]
    root.finish()
    assert document.errors == []


def test_absent_keys_have_their_defaults() -> None:
    document = Document("f", "")
    root = document.root()
    assert (root.text("a", "d"), root.texts("b", ("d",)), root.flag("c", True)) == ("d", ("d",), True)
    assert (root.integer("d", 7, 0, 9), root.number("e", 0.5, 0, 1), root.size("f", 9)) == (7, 0.5, 9)
    assert root.choice("g", Colour.RED) is Colour.RED
    assert root.table("h").data == {}
    assert list(root.tables("i")) == []
    assert "a" not in root
    root.later("a")
    root.finish()
    assert document.errors == []


@pytest.mark.parametrize(
    ("value", "kind", "problem"),
    [
        ("1", "text", "must be a string in quotes, not 1"),
        ("true", "texts", "must be a string or a list of strings, none of them empty, not true"),
        ("[]", "texts", "must be a string or a list of strings, none of them empty, not []"),
        ('["a", ""]', "texts", "must be a string or a list of strings, none of them empty, not ['a', '']"),
        ("[1]", "texts", "must be a string or a list of strings, none of them empty, not [1]"),
        ('"true"', "flag", "must be true or false, not 'true'"),
        ("10", "integer", "must be a whole number from 1 to 9, not 10"),
        ("true", "integer", "must be a whole number from 1 to 9, not true"),
        ("1.0", "integer", "must be a whole number from 1 to 9, not 1.0"),
        ("nan", "number", "must be a number from 1 to 9, not nan"),
        ("false", "number", "must be a number from 1 to 9, not false"),
        ('"1"', "number", "must be a number from 1 to 9, not '1'"),
        ("4096", "size", 'must be a size in quotes, as "10 GiB", not 4096'),
        ('"10 potatoes"', "size", "'10 potatoes' is not a size; write it as 10 GiB, 512 MiB or 4096"),
        ('"green"', "choice", 'must be "red" or "blue", not \'green\''),
        ("1", "choice", 'must be "red" or "blue", not 1'),
        ("1", "table", "must be a table: [k], not 1"),
        ("{}", "tables", "must be a list of tables: [[k]], not {}"),
        ("[1]", "tables", "must be a list of tables: [[k]], not [1]"),
        ("1", "unknown", "there is no such key; allowed here: other"),
        ("true", "later", "this version of p2vd cannot do that yet; remove the key"),
        ("false", "later", None),
    ],
)
def test_wrong_values_are_named_and_the_default_is_used(value: str, kind: str, problem: str | None) -> None:
    document = Document("f", f"\nk = {value}\n")
    root = document.root()
    match kind:
        case "text":
            assert root.text("k", "d") == "d"
        case "texts":
            assert root.texts("k", ("d",)) == ("d",)
        case "flag":
            assert root.flag("k") is False
        case "integer":
            assert root.integer("k", 5, 1, 9) == 5
        case "number":
            assert root.number("k", 5, 1, 9) == 5
        case "size":
            assert root.size("k", 5) == 5
        case "choice":
            assert root.choice("k", Colour.RED) is Colour.RED
        case "table":
            assert root.table("k").data == {}
        case "tables":
            assert list(root.tables("k")) == []
        case "unknown":
            root.text("other")
        case "later":
            root.later("k")
    root.finish()
    expected = [] if problem is None else [FileError("f", 2, "k", problem)]
    assert document.errors == expected
