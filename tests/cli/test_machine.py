"""p2vctl machine against the face on a private bus."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.cli.main import main
from p2vd.model.codec import to_dict, to_json
from p2vd.model.passport_record import parse_passport
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run


@pytest.fixture
def record(tmp_path: Path) -> Path:
    file = tmp_path / "erp1.json"
    file.write_text(to_json(values.PASSPORT))
    return file


def test_a_record_is_imported_listed_shown_and_removed(p2vctl: Run, face: Face, record: Path) -> None:
    assert p2vctl("machine", "list")[1].startswith("There are no records of machines.")
    status, out, _ = p2vctl("machine", "import", str(record))
    assert status == 0
    assert out == "erp1 is known: 2 disks, 1 of them seen by p2vd. See: p2vctl machine show erp1\n"
    _, out, _ = p2vctl("machine", "list")
    row = " ".join(out.splitlines()[1].split())
    assert row.startswith("erp1 64 256 GiB uefi 1/2 1 Debian GNU/Linux 12 (bookworm) 2023-11-1")
    assert p2vctl("machine", "remove", "erp1")[1] == "The record of erp1 is removed.\n"
    assert json.loads(p2vctl("machine", "list", "--json")[1]) == []


def test_what_is_shown_as_json_can_be_imported_again(p2vctl: Run, face: Face, record: Path) -> None:
    p2vctl("machine", "import", str(record))
    for name in ("erp1", str(record)):
        status, out, _ = p2vctl("machine", "show", name, "--json")
        assert status == 0
        assert parse_passport(out) == values.PASSPORT
    (entry,) = json.loads(p2vctl("machine", "list", "--json")[1])
    assert (entry["Name"], entry["Memory"]) == ("erp1", 256 << 30)


def test_a_page_has_all_of_a_machine(p2vctl: Run, face: Face, record: Path) -> None:
    p2vctl("machine", "import", str(record))
    _, out, _ = p2vctl("machine", "show", "erp1")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "Processors 64: 2 x 16 cores x 2 threads" in lines
    assert "Firmware uefi" in lines
    assert f"mpatha 10 GiB 512 {values.WWID} d2f5c1d3 LIO-ORG i0 iscsi - yes yes" in lines
    assert "ens1f0 physical 3c:fd:fe:00:00:01 i40e - 1500 10.1.2.3/24 -" in lines
    assert "default 10.1.2.1 ens1f0" in lines
    assert "DNS 10.1.0.53" in lines


def test_a_record_by_hand_comes_by_standard_input(
    p2vctl: Run, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.TextIOWrapper(io.BytesIO(b'name = "web1"\nmemory_bytes = "4 GiB"\n'))
    monkeypatch.setattr(sys, "stdin", text)
    status, out, _ = p2vctl("machine", "import", "-", "--name", "web2")
    assert (status, out.startswith("web2 is known: 0 disks")) == (0, True)
    assert "by hand" in p2vctl("machine", "list")[1]


def test_another_record_wants_replace(p2vctl: Run, face: Face, record: Path) -> None:
    p2vctl("machine", "import", str(record))
    record.write_text(to_json(replace(values.PASSPORT, memory_bytes=1 << 30)))
    status, _, err = p2vctl("machine", "import", str(record))
    assert (status, "--replace" in err) == (1, True)
    status, out, _ = p2vctl("machine", "diff", "erp1", str(record))
    assert status == 6
    assert [line.split() for line in out.splitlines()] == [
        ["WHAT", "erp1", str(record)],
        ["memory_bytes", "256", "GiB", "1", "GiB"],
    ]
    assert p2vctl("machine", "import", str(record), "--replace")[0] == 0
    status, out, _ = p2vctl("machine", "diff", "erp1", str(record))
    assert (status, out) == (0, "They are the same.\n")


def test_a_difference_is_json_too(p2vctl: Run, record: Path, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(to_json(replace(values.PASSPORT, dns=())))
    status, out, _ = p2vctl("machine", "diff", str(record), str(tmp_path / "b.json"), "--json")
    assert status == 6
    assert json.loads(out) == [{"place": "dns[10.1.0.53]", "before": "there", "after": ""}]


def test_files_are_looked_at_without_a_daemon(record: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bus = ["--bus", "unix:path=/nonexistent"]
    assert main([*bus, "machine", "diff", str(record), str(record)]) == 0
    assert main([*bus, "machine", "show", str(record)]) == 0
    assert "2 x 16 cores" in capsys.readouterr().out
    assert main([*bus, "machine", "list"]) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"name": "x", "cpus": 4}', "cpus: there is no such key"),
        ("name = ", "neither JSON nor TOML"),
    ],
)
def test_a_mistake_names_its_file_and_place(
    p2vctl: Run, face: Face, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    for command in (["show", str(file)], ["import", str(file)]):
        status, _, err = p2vctl("machine", *command)
        assert status == 1
        assert says in err
    assert p2vctl("machine", "import", str(tmp_path / "none.json"))[0] == 2
    assert "See: p2vctl machine list" in p2vctl("machine", "show", "x")[2]


def test_a_guess_is_toml_to_go_on_from(p2vctl: Run, face: Face, tmp_path: Path) -> None:
    status, out, _ = p2vctl("machine", "guess", "mpatha", "--name", "erp1")
    assert status == 0
    assert out.startswith("# Guessed from the disks alone.")
    guessed = parse_passport(out)
    assert (guessed.name, guessed.disks[0].wwid, guessed.disks[0].partition_table) == (
        "erp1",
        values.WWID,
        "gpt",
    )
    (tmp_path / "erp1.toml").write_text(out + "\n[cpu]\ncores = 4\n")
    assert p2vctl("machine", "import", str(tmp_path / "erp1.toml"))[0] == 0


def test_a_guess_as_json_says_its_notes_beside(p2vctl: Run, face: Face) -> None:
    status, out, err = p2vctl("machine", "guess", values.WWID, "--json")
    assert status == 0
    assert json.loads(out)["disks"][0]["wwid"] == values.WWID
    assert err.startswith("p2vctl: Guessed from the disks alone.")


def test_this_machine_is_collected_without_a_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "here.json"
    arguments = [
        "--bus",
        "unix:path=/nonexistent",
        "machine",
        "collect",
        "--output",
        str(file),
        "--name",
        "here",
    ]
    assert main(arguments) == 0
    collected: dict[str, Any] = json.loads(file.read_text())
    assert to_dict(parse_passport(file.read_text())) == collected
    assert collected["name"] == "here"
    assert capsys.readouterr().out == ""
