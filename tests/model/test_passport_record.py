"""Records of machines as text: what is read, what is refused, and where it says the mistake is."""

import json
import textwrap
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.codec import from_dict, to_dict, to_json
from p2vd.model.passport import (
    FORMAT,
    ClockOffset,
    Cpu,
    Dmi,
    GuestSystem,
    IpRoute,
    Nic,
    NicKind,
    Passport,
    PassportDisk,
)
from p2vd.model.passport_record import PassportInvalid, parse_passport, passport_toml
from p2vd.model.plan import Firmware
from tests.bus.values import PASSPORT

BY_HAND = """
name = "erp1"
memory_bytes = "64 GiB"
firmware = "uefi"
clock = "local"

[cpu]
sockets = 2
cores = 8

[[disks]]
name = "C"
size_bytes = "500 GiB"
wwid = "36001405d2f5c1d3e4a64b8c9aaaabbbb"
boots = true

[[nics]]
name = "team"
kind = "bond"
mac = "3C:FD:FE:00:00:01"
addresses = ["10.1.2.3/24"]
members = ["a", "b"]

[[nics]]
name = "a"

[[nics]]
name = "b"

[[routes]]
destination = "default"
nic = "team"
gateway = "10.1.2.1"

[system]
id = "windows"
version = "2019"
"""


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(PassportInvalid) as caught:
        parse_passport(text)
    return caught.value.mistakes


def with_changes(**changes: Any) -> str:
    """The usual record as JSON, with some keys written otherwise."""
    return json.dumps({**to_dict(PASSPORT), **changes})


def test_a_record_by_hand() -> None:
    record = parse_passport(BY_HAND)
    assert record.written_by_hand
    assert (record.memory_bytes, record.cpu.count, record.firmware) == (64 << 30, 16, Firmware.UEFI)
    assert record.clock is ClockOffset.LOCAL
    assert record.disks == (PassportDisk("C", 500 << 30, "36001405d2f5c1d3e4a64b8c9aaaabbbb", boots=True),)
    assert record.nics[0] == Nic(
        "team", NicKind.BOND, "3c:fd:fe:00:00:01", addresses=("10.1.2.3/24",), members=("a", "b")
    )


def test_a_record_that_says_nothing_of_its_clock_leaves_it_unknown() -> None:
    assert parse_passport('name = "x"').clock is None
    assert parse_passport(with_changes(clock=None)).clock is None
    assert "clock" not in passport_toml(parse_passport('name = "x"'))


def test_what_an_older_p2vd_kept_is_read_as_it_was_said() -> None:
    kept = to_dict(PASSPORT)
    del kept["system"]["boot_drivers_known"]
    assert kept["clock"] == "utc"
    assert from_dict(Passport, kept) == PASSPORT
    assert parse_passport(json.dumps(kept)) == PASSPORT


def test_a_collected_record_comes_back_as_it_is() -> None:
    assert parse_passport(to_json(PASSPORT)) == PASSPORT
    assert parse_passport(to_json(PASSPORT).encode()) == PASSPORT
    assert parse_passport(to_json(PASSPORT), "web1") == replace(PASSPORT, name="web1")


def test_what_is_printed_as_toml_can_be_read_again() -> None:
    text = passport_toml(PASSPORT, ("a note", "another"))
    assert text.startswith("# a note\n# another\n")
    assert parse_passport(text) == PASSPORT
    assert parse_passport(passport_toml(parse_passport(BY_HAND))) == parse_passport(BY_HAND)


@given(st.text().map(lambda text: f"x{text}x"))
def test_any_text_survives_toml(text: str) -> None:
    record = parse_passport(json.dumps({"name": "x", "dmi": {"vendor": text}}))
    assert parse_passport(passport_toml(record)) == record
    assert record.dmi.vendor.isprintable()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name = 1", "name: must be a string in quotes, not 1."),
        ("", "name: is missing."),
        ('name = "a b"', "name: 'a b' cannot name a machine"),
        ('name = "x"\nmemory = "4 GiB"', "memory: there is no such key; allowed here: name, format,"),
        ('name = "x"\nmemory_bytes = "4 GB of it"', "memory_bytes: '4 GB of it' is not a size"),
        (
            'name = "x"\nmemory_bytes = -1',
            'memory_bytes: must be a whole number or a size in quotes as "10 GiB"',
        ),
        ('name = "x"\nmemory_bytes = 1e30', "memory_bytes: must be a whole number"),
        ('name = "x"\nmemory_bytes = 99999999999999999999', "memory_bytes: must be a whole number"),
        ('name = "x"\nmemory_bytes = 1979-05-27', "memory_bytes: must be a whole number"),
        ('name = "x"\nfirmware = "efi"', 'firmware: must be "bios" or "uefi", not \'efi\'.'),
        ('name = "x"\nfirmware = []', 'firmware: must be "bios" or "uefi", not [].'),
        ('name = "x"\nsecure_boot = 1', "secure_boot: must be true or false, not 1."),
        ('name = "x"\ncpu = 4', "cpu: must be a table, not 4."),
        ('name = "x"\n[cpu]\nsockets = true', "cpu.sockets: must be a whole number from 0, not true."),
        ('name = "x"\n[cpu]\nsockets = 0', "cpu.sockets: must be 1 or more."),
        ('name = "x"\n[cpu]\nsockets = 9000', "cpu: 9000 processors are more than Linux knows"),
        ('name = "x"\ndns = "10.1.1.1"', "dns: must be a list, not '10.1.1.1'."),
        ('name = "x"\ndns = ["ns1"]', "dns[0]: must be an address, not 'ns1'."),
        ('name = "x"\n[disks]\nname = "sda"', "disks: must be a list"),
        ('name = "x"\n[[disks]]\nname = "sda"', "disks[0].size_bytes: is missing."),
        ('name = "x"\n[[disks]]\nname = "sda"\nsize_bytes = 0', "disks[0].size_bytes: must be more than 0."),
        (
            'name = "x"\n[[disks]]\nname = "sda"\nsize_bytes = 9\nsector_size = 520',
            "disks[0].sector_size: must be one",
        ),
        ('name = "x"\n[[disks]]\nnam = "sda"\nsize_bytes = 9', "disks[0].nam: there is no such key"),
        ('name = "x"\n[[nics]]\nname = "a"\n[[nics]]\nname = "a"', "nics[1].name: 'a' is there twice."),
        (
            'name = "x"\n[[nics]]\nname = "a"\nmac = "3cfdfe000001"',
            "nics[0].mac: must be as 52:54:00:12:34:56",
        ),
        ('name = "x"\n[[nics]]\nname = "a"\nmtu = 0', "nics[0].mtu: must be from 1 to"),
        (
            'name = "x"\n[[nics]]\nname = "a"\naddresses = ["10.1.1.1"]',
            "nics[0].addresses[0]: must have its prefix",
        ),
        ('name = "x"\n[[nics]]\nname = "a"\naddresses = ["10.1.1/8"]', "nics[0].addresses[0]: must be as"),
        (
            'name = "x"\n[[nics]]\nname = "a"\nkind = "bond"\nmembers = ["b"]',
            "nics[0].members[0]: there is no other NIC",
        ),
        (
            'name = "x"\n[[nics]]\nname = "a"\nkind = "vlan"\nparent = "b"',
            "nics[0].parent: there is no NIC 'b'",
        ),
        ('name = "x"\n[[nics]]\nname = "a"\nkind = "vlan"', "nics[0].vlan_id: must be from 1 to 4094."),
        ('name = "x"\n[[routes]]\ndestination = "default"\nnic = "a"', "routes[0].nic: there is no NIC 'a'"),
        ("name = 'x'\n[[", "It is neither JSON nor TOML:"),
        ('{"name": "x", "name": "y"}', "It is neither JSON nor TOML: the key 'name' is there twice"),
        ("{" * 100_000, "It is neither JSON nor TOML:"),
        ('{"name": ' + "[" * 100_000, "It is neither JSON nor TOML:"),
        ("a = " + "[" * 100_000, "It is neither JSON nor TOML:"),
    ],
    ids=lambda text: text[:40],
)
def test_a_mistake_has_its_place(text: str, place: str) -> None:
    mistakes = refused(text)
    assert any(mistake.startswith(place) for mistake in mistakes), mistakes


def test_all_mistakes_are_named_at_once() -> None:
    assert len(refused('nam = "x"\n[cpu]\ncore = 3\n[[disks]]\nname = "a"\n')) == 4


@pytest.mark.parametrize("wwid", ["36001405aaaa", ""])
def test_a_wwid_names_one_disk(wwid: str) -> None:
    disks = [to_dict(PassportDisk(name, 1 << 30, wwid)) for name in ("sda", "sdb")]
    text = with_changes(disks=disks)
    if wwid:
        assert refused(text) == ("disks[1].wwid: '36001405aaaa' is there twice.",)
    else:
        assert len(parse_passport(text).disks) == 2


def test_a_newer_format_is_refused_by_its_number_alone() -> None:
    (mistake,) = refused(with_changes(format=FORMAT + 1, numa=[1], cpu="other"))
    assert f"format {FORMAT + 1}" in mistake
    assert "Update p2vd" in mistake


def manual() -> str:
    return (Path(__file__).parents[2] / "conf/p2vd-machine.5.md").read_text()


def test_the_manuals_example_is_a_record() -> None:
    example = manual().partition("## EXAMPLE")[2].partition("## KEYS")[0]
    record = parse_passport(textwrap.dedent(example))
    assert (record.name, record.memory_bytes, record.cpu.count) == ("erp1", 64 << 30, 32)
    assert [nic.kind.value for nic in record.nics] == ["physical", "physical", "bond", "vlan"]


@pytest.mark.parametrize("table", [Passport, Cpu, Dmi, PassportDisk, Nic, IpRoute, GuestSystem])
def test_the_manual_has_every_key(table: type[Any]) -> None:
    keys = manual().partition("## KEYS")[2]
    missing = {
        field.name
        for field in fields(table)
        if f"`{field.name}`" not in keys and f"[{field.name}]" not in keys
    }
    assert not missing


def test_every_key_of_the_model_can_be_written() -> None:
    everything = replace(
        PASSPORT, secure_boot=True, written_by_hand=True, dmi=replace(PASSPORT.dmi, vendor="Dell Inc.")
    )
    assert parse_passport(to_json(everything)) == everything
    assert Passport("x").nics == ()


@pytest.mark.parametrize("text", ['{"name": "erp1"}', 'name = "erp1"'])
def test_a_byte_order_mark_is_no_mistake(text: str) -> None:
    assert parse_passport(text.encode("utf-8-sig")).name == "erp1"
