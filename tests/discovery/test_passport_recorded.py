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


def test_bios_with_lvm_on_a_mirror_of_two_sata_disks(tmp_path: Path) -> None:
    found, _ = collected(recorded("bios-md-lvm", tmp_path))
    assert of(found["disks"][:3], "name", "transport", "partition_table", "boots") == [
        ("sda", "sata", "mbr", True),
        ("sdb", "sata", "mbr", True),
        ("vda", "virtio", "", False),
    ]
    assert found["disks"][0]["wwid"] == "1ATA_WDC_WD2003FYYS-02W0B0_WD-WMC0X0"
    assert (found["firmware"], found["memory_bytes"]) == ("bios", 2 << 30)
    assert (found["dmi"]["vendor"], found["dmi"]["product"]) == ("Supermicro", "X9SCL")
    assert of(found["nics"], "name", "mac", "driver", "speed_mbps") == [
        ("eth0", "52:54:00:12:34:56", "virtio_net", 0),
        ("eth1", "00:25:90:aa:bb:01", "e1000e", 1000),
        ("eth2", "00:25:90:aa:bb:02", "e1000e", 1000),
    ]
    assert "10.20.0.5/24" in found["nics"][1]["addresses"]
    assert ("192.168.0.0/16", "eth1", "10.20.0.1") in of(found["routes"], "destination", "nic", "gateway")


def test_a_rescue_system_tells_neither_the_machines_system_nor_its_clock(tmp_path: Path) -> None:
    """It is the only way to ask a machine with Windows, which keeps its clock otherwise than Linux."""
    machine = recorded("bios-md-lvm", tmp_path)
    mountinfo = next(path for path in tmp_path.glob("proc/*/mountinfo"))
    mountinfo.write_text("22 1 0:20 / / rw - overlay overlay rw\n")
    found, problems = collected(machine)
    assert (found["clock"], found["system"]) == (None, {})
    assert "its clock are not recorded" in problems[0]
    assert parse_passport(json.dumps(found)).clock is None


def test_a_multipathed_iscsi_disk_and_a_bridge_on_a_vlan_on_a_bond(tmp_path: Path) -> None:
    found, _ = collected(recorded("iscsi-bond", tmp_path))
    (lun,) = [disk for disk in found["disks"] if disk["transport"] == "iscsi"]
    assert (lun["name"], lun["wwid"], lun["serial"], lun["boots"]) == (
        "mpatha",
        "360014052d30a6508937515eb84cfdeac",
        "2d30a6508937515eb84cfdeac",
        True,
    )
    assert (found["cpu"]["sockets"], found["cpu"]["cores"]) == (2, 1)
    nics = {nic["name"]: nic for nic in found["nics"]}
    assert [nics[name]["kind"] for name in ("eth1", "bond0", "bond0.42", "br42")] == [
        "physical",
        "bond",
        "vlan",
        "bridge",
    ]
    # The bond gave both cards a MAC of its own.
    assert [nics[name]["mac"] for name in ("eth1", "eth2")] == ["52:54:00:00:00:01", "52:54:00:00:00:02"]
    assert (nics["bond0"]["bond_mode"], nics["bond0"]["members"]) == ("802.3ad", ["eth1", "eth2"])
    assert (nics["bond0.42"]["parent"], nics["bond0.42"]["vlan_id"]) == ("bond0", 42)
    assert (nics["br42"]["members"], nics["br42"]["addresses"]) == (["bond0.42"], ["10.42.0.9/24"])
    assert of(found["routes"], "destination", "gateway")[:3] == [
        ("default", "10.42.0.1"),
        ("172.16.0.0/12", "10.42.0.2"),
        ("172.16.0.0/12", "10.42.0.3"),
    ]
