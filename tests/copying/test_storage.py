"""What the tool finds out about a block device: device-mapper tables as captured, sysfs as a tree."""

from pathlib import Path

import pytest

from p2vd.copying.endpoints import Thin
from p2vd.copying.errors import OpenFailed
from p2vd.copying.storage import scsi_disks, thin
from p2vd.model.size import KIB
from tests.fakes import FakeCommands

THIN, LINEAR = "0 614400 thin 253:5 1\n", "0 204800 linear 253:1 1263616\n"
POOL = "0 1228800 thin-pool 253:3 253:4 128 0 0 \n"


@pytest.mark.parametrize(
    ("pool", "found"),
    [
        (POOL, Thin(64 * KIB, True)),
        (POOL.replace("128 0 0", "256 0 1 skip_block_zeroing"), Thin(128 * KIB, False)),
    ],
)
def test_how_a_thin_lv_allocates(pool: str, found: Thin) -> None:
    commands = FakeCommands()
    commands.on("dmsetup table -j 253 -m 7", THIN).on("dmsetup table -j 253 -m 5", pool)
    assert thin("253:7", commands) == found


def test_what_is_not_thin() -> None:
    assert thin("253:6", FakeCommands().on("dmsetup table", LINEAR)) == Thin()


@pytest.mark.parametrize("pool", ["", LINEAR, "0 1228800 thin-pool 253:3 253:4 many 0 0"])
def test_a_pool_that_cannot_be_understood_is_not_guessed(pool: str) -> None:
    commands = FakeCommands()
    commands.on("dmsetup table -j 253 -m 7", THIN).on("dmsetup table -j 253 -m 5", pool)
    with pytest.raises(OpenFailed, match="the thin pool 253:5"):
        thin("253:7", commands)


def test_the_scsi_disks_beneath(tmp_path: Path) -> None:
    for name, number in (
        ("sda", "8:0"),
        ("sdb", "8:16"),
        ("vda", "252:0"),
        ("dm-0", "253:0"),
        ("dm-1", "253:1"),
    ):
        device = tmp_path / "block" / name
        (device / "device").mkdir(parents=True)
        (tmp_path / "dev/block").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev/block" / number).symlink_to(device)
    for name in ("sda", "sdb"):
        (tmp_path / "block" / name / "device/scsi_level").write_text("6\n")
        for upper, uuid in (("dm-0", "mpath-36001405\n"), ("dm-1", "LVM-abc\n")):
            (tmp_path / "block" / upper / "slaves" / name).mkdir(parents=True)
            (tmp_path / "block" / upper / "dm").mkdir(exist_ok=True)
            (tmp_path / "block" / upper / "dm/uuid").write_text(uuid)
    found = {number: scsi_disks(number, tmp_path) for number in ("8:0", "252:0", "253:0", "253:1", "7:0")}
    assert found == {"8:0": ("sda",), "252:0": (), "253:0": ("sda", "sdb"), "253:1": (), "7:0": ()}
