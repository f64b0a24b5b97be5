"""Which sources a filter lets through, and how a list of many reads."""

import argparse
from typing import Any

import pytest

from p2vd.bus.names import SOURCE
from p2vd.cli import render
from p2vd.cli.client import Object
from p2vd.cli.filters import parse_filter

WWID = "3600a098038314352462b4f6b6c753231"


def source(**properties: Any) -> Object:
    own = {
        "Id": WWID,
        "Name": "mpatha",
        "Device": "/dev/dm-3",
        "Size": 10 << 30,
        "SectorSize": 512,
        "Transport": "fc",
        "Vendor": "NETAPP",
        "Model": "LUN C-Mode",
        "Serial": "81CRF+kOluS21",
        "PathsTotal": 4,
        "PathsReady": 4,
        "MatchedPolicy": "",
        "Usable": True,
        "Reasons": [],
        "Warnings": ["A disk of 4096-byte sectors."],
    }
    return Object("/org/p2vd1/source/x", SOURCE, {**own, **properties})


@pytest.mark.parametrize(
    "text",
    [
        "transport=fc",
        "vendor=netapp",
        "model=LUN*",
        "usable=yes",
        "policy=none",
        "size=10 GiB",
        "sector=512",
        f"id={WWID[:8]}*",
        "warning=4096-byte",
        "6C753231",
        "c-mode",
        "dm-3",
    ],
)
def test_passes(text: str) -> None:
    assert parse_filter(text).matches(source())


@pytest.mark.parametrize(
    "text",
    ["transport=f", "vendor=", "usable=no", "policy=erp", "size=10", "reason=mounted", "id=6c753231", "yes"],
)
def test_does_not_pass(text: str) -> None:
    assert not parse_filter(text).matches(source())


@pytest.mark.parametrize(("text", "says"), [("", "what to look for"), ("colour=x", "no 'colour'.*transport")])
def test_what_is_no_filter_is_refused(text: str, says: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        parse_filter(text)


def test_a_reason_that_many_share_is_said_once() -> None:
    many = [
        source(Id=f"{WWID}{number}", Name=f"mpath{number:03}", Usable=False, Reasons=["No policy matches."])
        for number in range(200)
    ]
    alone = source(Id="other", Name="sda", Usable=False, Reasons=["It is mounted on /."])
    lines = render.sources([*many, alone]).splitlines()
    assert lines[0].split()[:2] == ["ID", "NAME"]
    below = lines[lines.index("") + 1 :]
    assert below[0] == "200 sources: No policy matches."
    assert below[1].startswith("  mpath000, mpath001, ")
    assert below[-1] == "other: It is mounted on /."
    assert max(len(line) for line in below) <= 100
    assert " ".join(below).count("mpath") == 200
