"""LVM's reports: real ones, and ones that cannot be used."""

import json
from dataclasses import replace

import pytest

from p2vd.discovery.lvm import LvmDevice, ReportFailed, device_arguments, read_volume_groups
from p2vd.model.lvm import Vg
from p2vd.system.command import CommandFailed
from tests.discovery.host import recorded_commands
from tests.fakes import FakeCommands

# The numbers of the recordings' maps.
DEVICES = {
    "253:0": LvmDevice("/dev/mapper/mpatha", 512),
    "253:1": LvmDevice("/dev/mapper/mpathb", 4096),
}


def san(name: str = "base") -> Vg:
    report = read_volume_groups(recorded_commands(name), DEVICES)
    return next(vg for vg in report.volume_groups if vg.name == "vg_san")


def test_a_volume_group_with_its_parts() -> None:
    vg = san()
    assert (vg.size_bytes, vg.free_bytes, vg.extent_size_bytes) == (2139095040, 1396703232, 4 << 20)
    assert (vg.tags, vg.lock_type, vg.system_id, vg.missing_pv_count) == (frozenset({"san"}), "", "", 0)
    assert not vg.exported
    assert not vg.clustered
    assert [(pv.device, pv.missing, pv.duplicate) for pv in vg.pvs] == [("/dev/mapper/mpathb", False, False)]


def test_the_sector_size_is_that_of_its_physical_volumes() -> None:
    assert san().sector_size == 4096


def test_logical_volumes() -> None:
    lvs = {lv.name: lv for lv in san().lvs}
    thin = lvs["thin1"]
    assert thin.tags == {"p2vd.incomplete", "p2vd.job=11111111-2222-3333-4444-555555555555"}
    assert (thin.size_bytes, thin.pool, thin.active, thin.autoactivation) == (300 << 20, "pool", True, False)
    assert (lvs["thick1"].active, lvs["thick1"].autoactivation, lvs["thick1"].pool) == (False, True, "")


def test_a_pools_name_is_taken_too() -> None:
    assert "pool" in {lv.name for lv in san().lvs}


def test_a_thin_pool() -> None:
    (pool,) = san().thin_pools
    assert (pool.name, pool.size_bytes, pool.chunk_size_bytes) == ("pool", 600 << 20, 64 << 10)
    assert (pool.zeroes, pool.virtual_size_bytes, pool.health) == (True, 300 << 20, "")
    assert (pool.data_percent, pool.metadata_percent) == (0.0, 10.94)


def test_a_full_pool_says_so() -> None:
    full = san("pool-full").pool("small")
    assert full is not None
    assert (full.health, full.data_percent) == ("out_of_data", 100.0)


def test_the_names_of_devices_are_ours_and_not_lvms() -> None:
    commands = recorded_commands("base")
    whole = commands.query(["lvm", "fullreport"])
    commands.replace(
        "lvm fullreport",
        replace(whole, stdout=whole.stdout.replace("/dev/mapper/mpathb", "/dev/disk/by-id/x")),
    )
    report = read_volume_groups(commands, DEVICES)
    assert "/dev/mapper/mpathb" in {pv.device for vg in report.volume_groups for pv in vg.pvs}


def test_without_devices_lvm_is_not_asked() -> None:
    assert read_volume_groups(FakeCommands(), {}).volume_groups == ()


@pytest.mark.parametrize(
    ("stdout", "problem"),
    [
        ("", "not whole JSON"),
        ('{"report": [', "not whole JSON"),
        ("[]", "not whole JSON"),
        ('{"report": [{"vg": [{"vg_uuid": "x"}], "pv": [], "lv": [], "seg": []}]}', "vg_name"),
        ('{"report": [{"vg": [{}], "pv": []}]}', "missing"),
    ],
)
def test_a_report_that_is_not_whole_raises(stdout: str, problem: str) -> None:
    with pytest.raises(ReportFailed, match=problem):
        read_volume_groups(FakeCommands().on("lvm fullreport", stdout), DEVICES)


def test_a_failed_report_raises_with_what_lvm_said() -> None:
    commands = FakeCommands().on("lvm", CommandFailed(("lvm",), 3, "Unrecognised field: x"))
    with pytest.raises(ReportFailed, match="Unrecognised field"):
        read_volume_groups(commands, DEVICES)


def test_orphan_physical_volumes_are_no_group() -> None:
    orphans = {"report": [{"vg": [], "pv": [{"pv_uuid": "x"}]}, {"pv": []}]}
    commands = FakeCommands().on("lvm fullreport", json.dumps(orphans))
    assert read_volume_groups(commands, DEVICES).volume_groups == ()


def test_a_long_device_list_is_split_below_the_kernels_limit_of_an_argument() -> None:
    words = device_arguments([f"/dev/mapper/3{number:032x}" for number in range(3000)])
    assert max(map(len, words)) < 128 << 10
    assert sum(word.count("/dev/") for word in words) == 3000
