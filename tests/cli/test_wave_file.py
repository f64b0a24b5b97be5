"""The list of a wave: read, and every mistake told by file, line and column or key."""

import pytest

from p2vd.cli.wave_file import WaveFileInvalid, read_wave
from p2vd.model.wave import WaveEntry

CSV = """\
machine,sources,name,source_offline,priority
# the old hall
erp1,,,yes,
,3600a 3600b;3600c,web,no,-5

erp2,,erp-new,,7
"""
TOML = """\
[[entry]]
machine = "erp1"
source_offline = true

[[entry]]
sources = ["3600a"]
name = "web"
priority = 3
"""


def test_the_mark_that_some_editors_begin_a_file_with_is_none_of_its_text() -> None:
    assert read_wave("w.toml", "\ufeff" + TOML) == read_wave("w.toml", TOML)


def mistakes(path: str, text: str) -> list[str]:
    with pytest.raises(WaveFileInvalid) as caught:
        read_wave(path, text)
    return str(caught.value).splitlines()


def test_a_list_in_csv_is_read() -> None:
    assert read_wave("w.csv", CSV) == (
        WaveEntry("erp1", source_offline=True, place="w.csv:3"),
        WaveEntry("", ("3600a", "3600b", "3600c"), "web", priority=-5, place="w.csv:4"),
        WaveEntry("erp2", (), "erp-new", priority=7, place="w.csv:6"),
    )


def test_columns_may_be_in_any_order_and_left_out_and_windows_wrote_it() -> None:
    assert read_wave("w.csv", "\ufeffsource_offline,machine\r\nYES,erp1\r\n") == (
        WaveEntry("erp1", source_offline=True, place="w.csv:2"),
    )


def test_a_list_in_toml_is_read() -> None:
    assert read_wave("w.toml", TOML) == (
        WaveEntry("erp1", source_offline=True, place="w.toml:1"),
        WaveEntry("", ("3600a",), "web", priority=3, place="w.toml:5"),
    )


def test_all_mistakes_of_a_csv_are_told_with_their_places() -> None:
    text = "machine,sources,priority,source_offline\n,,1,\nerp1,,high,maybe\nerp2,,2000,\nerp3,,1,,x\n"
    assert mistakes("w.csv", text) == [
        "w.csv:2: machine: name the machine's record, or its sources.",
        "w.csv:3: source_offline: 'maybe' is neither yes nor no.",
        "w.csv:3: priority: 'high' is no number.",
        "w.csv:4: priority: it is from -1000 to 1000.",
        "w.csv:5: it has 5 columns, the header 4.",
    ]


def test_all_mistakes_of_a_toml_are_told_with_their_places() -> None:
    text = '[[entry]]\nmachine = 7\n[[entry]]\ndisk = "a"\n[[entry]]\nname = "x"\n[other]\n'
    found = mistakes("w.toml", text)
    assert found[0].startswith("w.toml: other: there is no such key")
    assert found[1] == "w.toml:1: machine: it wants a text."
    assert found[2].startswith("w.toml:3: disk: there is no such key; known are machine, sources")
    assert found[3] == "w.toml:5: machine: name the machine's record, or its sources."


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("w.csv", "", "w.csv: it names no machine."),
        ("w.csv", "machine\n", "w.csv: it names no machine."),
        ("w.toml", "", "w.toml: it names no machine."),
        ("w.csv", "host\nerp1\n", "w.csv:1: host: there is no such column; known are"),
        ("w.csv", "machine,machine\na,b\n", "w.csv:1: machine: it is there twice."),
        ("w.csv", 'machine\n"erp1\n', "w.csv:2: unexpected end of data."),
        ("w.toml", "entry = 1\n", "w.toml: entry: write a table [[entry]] for each machine."),
        ("w.toml", "[[entry]]\nmachine = \n", "w.toml: Invalid value (at line 2, column 11)"),
        ("w.toml", '[[entry]]\nmachine = "a"\npriority = true\n', "w.toml:1: priority: it wants a number."),
    ],
)
def test_a_list_that_is_none_is_told(path: str, text: str, told: str) -> None:
    assert mistakes(path, text)[0].startswith(told)
