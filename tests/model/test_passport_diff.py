"""What differs between two records: facts of the machine, by what names its parts."""

from dataclasses import replace

from p2vd.model.passport import ClockOffset, IpRoute, Nic, NicKind
from p2vd.model.passport_diff import PassportDifference, differences
from p2vd.model.plan import Firmware
from tests.bus.values import PASSPORT, WWID


def test_equal_machines_do_not_differ_by_when_they_were_asked() -> None:
    later = replace(PASSPORT, name="erp2", collected_us=1, written_by_hand=True)
    assert differences(PASSPORT, later) == ()


def test_a_fact_has_its_place_and_both_values() -> None:
    after = replace(
        PASSPORT,
        memory_bytes=512 << 30,
        firmware=None,
        secure_boot=True,
        clock=ClockOffset.LOCAL,
        cpu=replace(PASSPORT.cpu, cores=20, flags=("avx512f", "vmx")),
    )
    assert differences(PASSPORT, after) == (
        PassportDifference("cpu.cores", "16", "20"),
        PassportDifference("cpu.flags[avx2]", "there", ""),
        PassportDifference("cpu.flags[avx512f]", "", "there"),
        PassportDifference("memory_bytes", "256 GiB", "512 GiB"),
        PassportDifference("firmware", "uefi", ""),
        PassportDifference("secure_boot", "no", "yes"),
        PassportDifference("clock", "utc", "local"),
    )
    assert differences(replace(PASSPORT, firmware=None), PASSPORT)[0].after == Firmware.UEFI.value
    (clock,) = differences(replace(PASSPORT, clock=None), PASSPORT)
    assert clock == PassportDifference("clock", "", "utc")


def test_disks_are_told_by_their_wwid_not_by_their_name() -> None:
    first, second = PASSPORT.disks
    after = replace(PASSPORT, disks=(replace(second, name="sda"), replace(first, name="sdb", boots=False)))
    assert differences(PASSPORT, after) == (
        PassportDifference(f"disks[{WWID}].name", "mpatha", "sdb"),
        PassportDifference(f"disks[{WWID}].boots", "yes", "no"),
        PassportDifference("disks[35000c500a1b2c3d4].name", "sdc", "sda"),
        PassportDifference("disks in order", f"{WWID}, 35000c500a1b2c3d4", f"35000c500a1b2c3d4, {WWID}"),
    )


def test_a_part_that_is_new_or_gone_is_one_difference() -> None:
    vlan = Nic(
        "ens1f0.7", NicKind.VLAN, "3c:fd:fe:00:00:01", addresses=("10.7.0.2/24",), parent="ens1f0", vlan_id=7
    )
    after = replace(
        PASSPORT,
        disks=PASSPORT.disks[:1],
        nics=(*PASSPORT.nics, vlan),
        routes=(IpRoute("default", "ens1f0", "10.1.2.254"),),
    )
    assert differences(PASSPORT, after) == (
        PassportDifference("disks[35000c500a1b2c3d4]", "sdc, 1.95 TiB", ""),
        PassportDifference("nics[ens1f0.7]", "", "vlan, 3c:fd:fe:00:00:01, 10.7.0.2/24"),
        PassportDifference("routes[default via 10.1.2.1 ens1f0]", "there", ""),
        PassportDifference("routes[default via 10.1.2.254 ens1f0]", "", "there"),
    )
