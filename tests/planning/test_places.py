"""Whole LUNs and files as places for a disk: which one is taken, and every reason why none is."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.model.contents import BootStyle, Contents, Examination, Reservation, Signature, Table
from p2vd.model.directory import TargetDirectory
from p2vd.model.disk import Source
from p2vd.model.errors import PlanOutdated, Reason, Refused
from p2vd.model.forms import TargetFormat
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Pv
from p2vd.model.plan import FileTarget, LunTarget, Plan
from p2vd.model.size import GIB, KIB, MIB
from p2vd.planning.admission import Demand
from p2vd.planning.directory_admission import Space, admit_files
from p2vd.planning.files import worst_case_bytes
from p2vd.planning.plan import PlanRequest, make_plan, recheck, recheck_disk
from tests.planning.builders import SOURCE, VG, make_policies, make_source

EMPTY = Contents(Table.NONE, BootStyle.NONE, 512, blank=True)
LUNS = """
[[rule]]
name = "luns"
match.model = "i0"
target.lun.model = "empty"
"""
FILES = """
[[rule]]
name = "files"
match.model = "i0"
target.directory = "/srv/images"
target.require_mount = "/srv"
"""
DIRECTORY = TargetDirectory("/srv/images", "/srv", "ext4", "8:1", 100 * GIB, 50 * GIB)
REQUEST = PlanRequest((SOURCE.id,), "erp1", source_offline=True)


def lun(number: int, size_bytes: int = 10 * GIB, **changes: Any) -> Source:
    wwid = f"36001405ffff00000000000000000{number:03}"
    usual = make_source(
        wwid=wwid,
        model="empty",
        size_bytes=size_bytes,
        name=f"mpath{number}",
        device=f"dm-{number}",
        dm_uuid=f"mpath-{wwid}",
        examination=Examination.DONE,
        contents=EMPTY,
    )
    return replace(usual, **changes)


def planned(*luns: Source, policy: str = LUNS, **changes: Any) -> Plan:
    inventory = replace(Inventory((SOURCE, *luns), directories=(DIRECTORY,)), **changes)
    return make_plan(REQUEST, inventory, make_policies(policy))


def codes(*luns: Source, policy: str = LUNS, **changes: Any) -> set[str]:
    with pytest.raises(Refused) as refused:
        planned(*luns, policy=policy, **changes)
    return {reason.code for reason in refused.value.reasons}


def test_a_larger_lun_leaves_the_second_copy_of_a_gpt_behind() -> None:
    contents = Contents(Table.GPT, BootStyle.UEFI, 512)
    source = replace(SOURCE, examination=Examination.DONE, contents=contents)
    plan = make_plan(REQUEST, Inventory((source, lun(1, 12 * GIB))), make_policies(LUNS))
    (said,) = [warning for warning in plan.warnings if "sgdisk -e" in warning]
    assert "2 GiB before the end of the new one" in said


def test_the_smallest_lun_that_holds_the_disk_is_taken() -> None:
    plan = planned(lun(1, 30 * GIB), lun(2, 12 * GIB), lun(3, 9 * GIB))
    (disk,) = plan.disks
    assert isinstance(disk.target, LunTarget)
    assert disk.target.path == f"/dev/disk/by-id/dm-uuid-mpath-{lun(2).wwid}"
    assert (disk.target.size_bytes, disk.worst_case_bytes) == (12 * GIB, 12 * GIB)
    assert "the 2 GiB beyond the source become zero" in disk.steps[1]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"contents": replace(EMPTY, table=Table.GPT)}, "lun-not-empty"),
        ({"contents": replace(EMPTY, blank=False)}, "lun-not-empty"),
        ({"contents": replace(EMPTY, signature=Signature("xfs"))}, "lun-not-empty"),
        ({"contents": replace(EMPTY, reservation=Reservation("0xabc", "x"))}, "lun-not-empty"),
        ({"contents": replace(EMPTY, registered_keys=1)}, "lun-not-empty"),
        ({"examination": Examination.UNDER_WAY, "contents": None}, "under-examination"),
        ({"reasons": (Reason("mounted", "It is mounted."),)}, "mounted"),
        ({"sector_size": 4096}, "sector-sizes-differ"),
        ({"size_bytes": 10 * GIB - 512}, "lun-too-small"),
        ({"model": "other"}, "lun-not-found"),
        ({"wwid": "", "id": "virtio-1"}, "lun-not-found"),
    ],
)
def test_a_lun_that_is_not_fit_is_refused_with_the_reason(changes: dict[str, Any], code: str) -> None:
    assert codes(lun(1, **changes)) == {code}
    assert planned(lun(1, **changes), lun(2)).disks[0].target.size_bytes == 10 * GIB


def test_a_physical_volume_is_not_empty() -> None:
    group = replace(VG, pvs=(Pv("pv", "/dev/mapper/mpath1", GIB, GIB),))
    assert codes(lun(1), volume_groups=(group,)) == {"lun-not-empty"}


def test_a_lun_of_a_job_is_neither_target_nor_source() -> None:
    assert codes(lun(1), claims={lun(1).id: "job"}) == {"lun-claimed"}
    assert codes(lun(1), origins={lun(1).id: "job"}) == {"lun-is-source"}
    request = replace(REQUEST, source_ids=(lun(1).id,))
    everything = make_policies(LUNS.replace('match.model = "i0"', 'match.wwid = "*"'))
    inventory = Inventory((SOURCE, lun(1), lun(2)))
    for claims, code in (({lun(1).id: "job"}, "is-target"), ({}, "may-become-target")):
        with pytest.raises(Refused) as refused:
            make_plan(request, replace(inventory, claims=claims), everything)
        assert code in {reason.code for reason in refused.value.reasons}


def test_two_disks_of_a_machine_get_two_luns() -> None:
    second = make_source(wwid=SOURCE.wwid[:-1] + "c", device="dm-50", name="mpathb", dm_uuid="mpath-second")
    request = replace(REQUEST, source_ids=(SOURCE.id, second.id))
    plan = make_plan(request, Inventory((SOURCE, second, lun(1), lun(2))), make_policies(LUNS))
    assert {disk.target.path for disk in plan.disks} == {
        f"/dev/disk/by-id/dm-uuid-mpath-{lun(number).wwid}" for number in (1, 2)
    }
    with pytest.raises(Refused):
        make_plan(request, Inventory((SOURCE, second, lun(1))), make_policies(LUNS))


def test_a_job_asks_for_its_own_lun_only() -> None:
    plan = planned(lun(1), lun(2))
    (disk,) = plan.disks
    policies = make_policies(LUNS)
    recheck_disk(disk, Inventory((SOURCE, lun(1), lun(2, 9 * GIB))), policies)
    with pytest.raises(PlanOutdated, match="not attached any more"):
        recheck_disk(disk, Inventory((SOURCE, lun(2))), policies)
    with pytest.raises(PlanOutdated, match="target's LUN"):
        recheck(plan, Inventory((SOURCE, lun(2))), policies)


def test_a_file_is_named_after_machine_and_format() -> None:
    (disk,) = planned(policy=FILES).disks
    assert isinstance(disk.target, FileTarget)
    assert (disk.target.path, disk.target.size_bytes) == ("/srv/images/erp1.raw", SOURCE.size_bytes)
    assert disk.target.mount == "/srv"
    (disk,) = planned(policy=FILES + 'target.format = "qcow2"\ntarget.compression = "zstd"\n').disks
    assert disk.target.path == "/srv/images/erp1.qcow2"
    assert disk.worst_case_bytes > disk.target.size_bytes


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"problem": "It is gone."}, "directory-unusable"),
        ({"mount_point": "/"}, "not-mounted"),
        ({"names": frozenset({"erp1.raw"})}, "file-name-taken"),
        ({"path": "/srv/other"}, "directory-unknown"),
    ],
)
def test_a_directory_that_is_not_fit_is_refused_with_the_reason(changes: dict[str, Any], code: str) -> None:
    assert codes(policy=FILES, directories=(replace(DIRECTORY, **changes),)) == {code}


def test_a_file_shows_sectors_of_512_bytes_unless_the_policy_says_otherwise() -> None:
    source = replace(SOURCE, sector_size=4096)
    inventory = Inventory((source,), directories=(DIRECTORY,))
    with pytest.raises(Refused, match="sector_size_remedy"):
        make_plan(REQUEST, inventory, make_policies(FILES))
    plan = make_plan(REQUEST, inventory, make_policies(FILES + 'target.sector_size_remedy = "domain"\n'))
    assert plan.domain.logical_block_size == 4096


def test_a_copy_that_may_not_fit_is_told_before_it_runs() -> None:
    plan = planned(policy=FILES, directories=(replace(DIRECTORY, free_bytes=8 * GIB),))
    assert any("which has 3 GiB free beyond the reserve of 5 %" in each for each in plan.warnings)
    unmounted = FILES.replace('target.require_mount = "/srv"\n', "")
    plan = planned(policy=unmounted, directories=(replace(DIRECTORY, mount_point="/"),))
    assert any("root filesystem" in each for each in plan.warnings)


@pytest.mark.parametrize("form", TargetFormat)
@pytest.mark.parametrize("size", [MIB, GIB + 512, 10 * GIB])
def test_the_worst_case_holds_all_of_the_disk(form: TargetFormat, size: int) -> None:
    assert size <= worst_case_bytes(form, size, 64 * KIB) <= size * 1.01 + 2 * MIB


def test_nobody_gets_a_machine_where_the_policy_says_so() -> None:
    policy = FILES + 'target.format = "raw.zst"\ndomain.hypervisor = "none"\n'
    plan = planned(policy=policy)
    assert (
        plan.steps[-1] == 'Give erp1 to nobody (domain.hypervisor = "none"): /srv/images/erp1.raw.zst stay.'
    )


def test_copies_share_what_a_filesystem_has_beyond_its_reserve() -> None:
    space = Space("fs", 1000 * MIB, 150 * MIB)
    demands = [Demand("a", GIB), Demand("b", GIB, used_bytes=10 * MIB)]
    admission = admit_files(space, "/srv/images", demands)
    assert admission.free_bytes == 100 * MIB
    assert [credit.total_bytes for credit in admission.credits] == [50 * MIB, 60 * MIB]
    assert admission.reason is not None
    assert "/srv/images lets copies take 100 MiB more" in admission.reason.text
    assert admit_files(Space("fs", GIB, 40 * MIB), "/d", demands).credits[0].total_bytes == 0
