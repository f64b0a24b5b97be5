"""Which of a machine's disks comes first: its firmware starts no other."""

from dataclasses import replace

import pytest

from p2vd.model.contents import BootStyle, Contents, Examination, Table
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.plan import Firmware, Plan
from p2vd.model.size import GIB
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import THIN, VG, make_policies, make_source

DATA, SYSTEM = BootStyle.NONE, BootStyle.UEFI


def disk(number: int, boot: BootStyle | None = DATA) -> Source:
    """A disk that was looked at; of None nothing is known."""
    source = make_source(wwid=f"3600140500000000{number:016x}", name=f"mpath{number}", size_bytes=GIB)
    if boot is None:
        return source
    table = Table.NONE if boot is BootStyle.NONE else Table.GPT
    return replace(source, examination=Examination.DONE, contents=Contents(table, boot, 512))


def record(*disks: PassportDisk) -> Passport:
    return Passport("erp1", disks=disks)


def recorded(number: int, *, boots: bool = False) -> PassportDisk:
    return PassportDisk(f"sd{number}", GIB, disk(number).wwid, boots=boots)


def make(*sources: Source, by_name: Passport | None = None) -> Plan:
    """The plan of the machine erp1 with these disks; a record of its name may be there."""
    ids = tuple(source.id for source in sources)
    records = {"erp1": by_name} if by_name else {}
    request = PlanRequest(ids, "erp1", source_offline=True)
    inventory, policies = Inventory(sources, (VG,)), make_policies(THIN)
    plan = make_plan(request, inventory, policies, records)
    assert recheck(plan, inventory, policies, records).id == plan.id
    return plan


def make_from(passport: Passport, *sources: Source) -> Plan:
    """The plan of all disks that a record names."""
    request = PlanRequest((), source_offline=True, passport=passport)
    return make_plan(request, Inventory(sources, (VG,)), make_policies(THIN))


def order(plan: Plan) -> list[int]:
    """The numbers of the disks, in the order of the volumes and of the virtual machine, which are one."""
    ids = [int(one.source.wwid[-4:], 16) for one in plan.disks]
    shown = next(choice for choice in plan.domain_choices if choice.key == "disk-order")
    assert shown.value.split(", ") == [one.target.path for one in plan.disks]
    return ids


def told(plan: Plan) -> list[str]:
    return [warning for warning in plan.warnings if "boot" in warning]


def test_the_disk_that_is_made_to_boot_from_comes_first_and_says_how() -> None:
    plan = make(disk(1), disk(2, SYSTEM), disk(3))
    assert order(plan) == [2, 1, 3]
    assert plan.domain.firmware is Firmware.UEFI
    assert told(plan) == [
        f"{disk(2)} comes first, for it is made to boot from (uefi), and nothing on {disk(1)} is. If the "
        "machine boots from another disk, say so in its record: p2vd-machine(5), boots."
    ]


@pytest.mark.parametrize("first", [SYSTEM, None])
def test_otherwise_the_order_is_the_callers(first: BootStyle | None) -> None:
    """The first one boots, or may: nobody has looked at it."""
    plan = make(disk(1, first), disk(2, SYSTEM))
    assert order(plan) == [1, 2]
    assert not told(plan)


def test_a_table_that_cannot_be_read_may_be_one_to_boot_from() -> None:
    odd = disk(1)
    assert odd.contents is not None
    odd = replace(odd, contents=replace(odd.contents, table=Table.GPT_DAMAGED))
    assert order(make(odd, disk(2, SYSTEM))) == [1, 2]


def test_where_none_is_made_to_boot_from_the_first_is_named() -> None:
    plan = make(disk(1), disk(2))
    assert order(plan) == [1, 2]
    (warning,) = told(plan)
    assert warning.startswith(f"Nothing on {disk(1)} is made to boot from")


def test_what_the_record_says_of_booting_counts_more() -> None:
    """Also where p2vd finds nothing to boot from on that disk: then a warning says so."""
    told_so = record(recorded(1), recorded(2), recorded(3, boots=True))
    for plan in (
        make_from(told_so, disk(1), disk(2, SYSTEM), disk(3)),
        make(disk(1), disk(2, SYSTEM), disk(3), by_name=told_so),
    ):
        assert order(plan) == [3, 1, 2]
        (warning,) = told(plan)
        assert warning.startswith(f"Nothing on {disk(3)} is made to boot from")


def test_the_firmware_is_that_of_the_disk_that_boots_by_the_record() -> None:
    plan = make_from(record(recorded(1), recorded(2, boots=True)), disk(1), disk(2, SYSTEM))
    assert order(plan) == [2, 1]
    assert plan.domain.firmware is Firmware.UEFI
    assert not told(plan)


def test_a_record_that_does_not_know_what_boots_leaves_it_to_the_disks() -> None:
    silent = record(recorded(1), recorded(2), recorded(3))
    for plan in (
        make_from(silent, disk(1), disk(2, SYSTEM), disk(3)),
        make(disk(1), disk(3), disk(2, SYSTEM), by_name=silent),
    ):
        assert order(plan) == [2, 1, 3]
        assert plan.domain.firmware is Firmware.UEFI
