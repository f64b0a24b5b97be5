"""What device-mapper says, from real answers; modes that were not captured follow the kernel's text."""

import pytest

from p2vd.discovery.dm import DmUnclear, dm_info, lv_dm_name, open_counts, pool_status, split_dm_name
from p2vd.system.command import CommandFailed
from tests.discovery.host import recorded_commands
from tests.fakes import FakeCommands
from tests.iscsi_host import captured

TABLE = "0 32768 thin-pool 253:16 253:17 128 0 0 \n"


def pool_commands(status: str) -> FakeCommands:
    return FakeCommands().on("dmsetup status", status).on("dmsetup table", TABLE)


def test_a_thin_volume() -> None:
    info = dm_info(recorded_commands("base"), "vg_san-thin1")
    assert info.uuid.startswith("LVM-OByFyAGicJXixRzvwUkpzEnyzrO9BAhQPLdRBs")
    assert (info.name, info.open_count, info.suspended, info.read_only) == ("vg_san-thin1", 0, False, False)
    assert info.table == "0 614400 thin 253:5 1"


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="does not exist"):
        dm_info(recorded_commands("base"), "nothere")


def test_a_suspended_read_only_device_with_an_odd_name() -> None:
    commands = FakeCommands().on("dmsetup info", "LVM-x:3:Suspended:Read-only:a:b\n").on("dmsetup table", "")
    info = dm_info(commands, "a:b")
    assert (info.name, info.open_count, info.suspended, info.read_only) == ("a:b", 3, True, True)


def test_an_answer_nobody_understands() -> None:
    with pytest.raises(DmUnclear, match="does not understand"):
        dm_info(FakeCommands().on("dmsetup info", "what?\n"), "x")


def test_a_pool() -> None:
    status = pool_status(recorded_commands("base"), "vg_san-pool-tpool")
    assert (status.used_data_bytes, status.total_data_bytes) == (0, 600 << 20)
    assert (status.used_metadata_blocks, status.total_metadata_blocks) == (112, 1024)
    assert (status.mode, status.needs_check) == ("rw", False)


def test_a_full_pool() -> None:
    status = pool_status(recorded_commands("pool-full"), "vg_san-small-tpool")
    assert (status.used_data_bytes, status.total_data_bytes) == (16 << 20, 16 << 20)
    assert (status.mode, status.needs_check) == ("out_of_data_space", False)


def test_a_pool_that_needs_repair() -> None:
    line = "0 32768 thin-pool 1 114/1024 20/256 - ro discard_passdown queue_if_no_space needs_check 256"
    status = pool_status(pool_commands(line), "p")
    assert (status.mode, status.needs_check) == ("ro", True)


def test_a_held_metadata_root_moves_nothing() -> None:
    line = "0 32768 thin-pool 1 114/1024 20/256 77 rw discard_passdown error_if_no_space - 256"
    assert pool_status(pool_commands(line), "p").mode == "rw"


@pytest.mark.parametrize("line", ["0 32768 thin-pool Fail", "0 32768 thin-pool Error"])
def test_a_failed_pool(line: str) -> None:
    assert pool_status(pool_commands(line), "p").mode == "fail"


@pytest.mark.parametrize(
    "line", ["", "0 1 linear 8:0 0", "0 1 thin-pool 1 x 0/1 - rw", "0 1 thin-pool 1 1/2 3/4"]
)
def test_a_status_nobody_understands(line: str) -> None:
    with pytest.raises(DmUnclear):
        pool_status(pool_commands(line), "p")


@pytest.mark.parametrize(
    ("vg", "lv", "name"), [("vg", "lv", "vg-lv"), ("a-b", "c-d", "a--b-c--d"), ("a-", "b", "a---b")]
)
def test_names_of_volumes(vg: str, lv: str, name: str) -> None:
    assert lv_dm_name(vg, lv) == name
    assert split_dm_name(name) == (vg, lv)


def test_the_name_of_a_pools_layer() -> None:
    assert lv_dm_name("vg_san", "pool", "tpool") == "vg_san-pool-tpool"


def test_how_often_devices_are_open() -> None:
    counts = open_counts(FakeCommands().on("dmsetup info", captured("open-counts")))
    assert counts["vg_san-pool0_tdata"] == 1
    assert counts["vg_san-pool0"] == 0
    assert open_counts(FakeCommands().on("dmsetup info", "No devices found\n")) == {}
    assert open_counts(FakeCommands().on("dmsetup info", "2:a:b\n")) == {"a:b": 2}


@pytest.mark.parametrize("answer", ["x:mpatha\n", "mpatha\n"])
def test_an_unclear_count_is_named(answer: str) -> None:
    with pytest.raises(DmUnclear):
        open_counts(FakeCommands().on("dmsetup info", answer))
