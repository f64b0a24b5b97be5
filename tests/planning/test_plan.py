"""Plans, and every reason why there is none."""

from dataclasses import replace

import pytest

from p2vd.model.codec import from_json, to_json
from p2vd.model.copying import Verify
from p2vd.model.disk import PathState, Transport
from p2vd.model.errors import NotFound, PlanOutdated, Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Lv, Pv, Vg
from p2vd.model.plan import LvTarget, Plan, Provisioning
from p2vd.model.size import GIB, MIB
from p2vd.planning.disk import Overrides
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load
from tests.planning.builders import (
    PATHS,
    POOL,
    SOURCE,
    THICK,
    THIN,
    VG,
    WWID,
    lv_target,
    make_inventory,
    make_policies,
    make_source,
    thin_with,
    with_pool,
)

REQUEST = PlanRequest((WWID,), source_offline=True)


def refusal(
    inventory: Inventory, policies: PolicySet | str = THIN, request: PlanRequest = REQUEST
) -> dict[str, str]:
    """Reasons of the refusal by code."""
    policies = make_policies(policies) if isinstance(policies, str) else policies
    with pytest.raises(Refused) as caught:
        make_plan(request, inventory, policies)
    assert caught.value.subject == f"Source {inventory.sources[0]}"
    return {reason.code: reason.text for reason in caught.value.reasons}


def test_thin_plan() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(THIN))
    (disk,) = plan.disks
    assert disk.target == LvTarget(
        "vg-uuid", "vg_san", "p2v-b8c9aaaabbbb", Provisioning.THIN, 10 * GIB, 512, "pool-uuid", "pool0"
    )
    assert (disk.source.id, disk.source.wwid, disk.source.size_bytes) == (WWID, WWID, 10 * GIB)
    assert (disk.source.transport, disk.source.sector_size) == (Transport.ISCSI, 512)
    assert (plan.machine_name, disk.policy, disk.policy_file) == (
        "p2v-b8c9aaaabbbb",
        "thin",
        "/etc/p2vd/policy.d/0.toml",
    )
    assert disk.worst_case_bytes == 10 * GIB
    assert plan.warnings == ()
    assert plan.steps == (
        f"Set the source {WWID} (mpatha) read-only and open it exclusively: iscsi, 2 of 2 paths ready, "
        "10 GiB, sectors of 512 bytes.",
        "Create the thin volume vg_san/p2v-b8c9aaaabbbb of 10 GiB in the pool pool0.",
        "Copy 10 GiB, 8 requests at a time, with a checkpoint of what is durable.",
        "Read the whole target again and compare it with the digests of what was copied; read the first and "
        "last MiB and 1024 random MiB of the source again.",
        "Define the virtual machine p2v-b8c9aaaabbbb at qemu:///system: 2 GiB of memory, 2 CPUs, bios, "
        "its disk on sata, no network.",
    )
    assert len(plan.id) == 16
    assert from_json(Plan, to_json(plan)) == plan


def test_thick_plan_of_an_odd_size_says_how_it_is_rounded() -> None:
    source = make_source(size_bytes=10 * GIB - 3 * MIB, paths=(), transport=Transport.VIRTIO)
    policies = make_policies(THICK + '[rule.copy]\nbandwidth = "100 MiB"\n[rule.domain]\nnetwork = "lan"\n')
    plan = make_plan(replace(REQUEST, machine_name="web1"), make_inventory(source), policies)
    assert (plan.disks[0].target.size_bytes, plan.disks[0].worst_case_bytes) == (10 * GIB, 10 * GIB)
    assert (lv_target(plan.disks[0]).pool_uuid, lv_target(plan.disks[0]).pool_name) == ("", "")
    assert plan.steps[0].endswith("exclusively: virtio, 10 GiB, sectors of 512 bytes.")
    assert plan.steps[1] == (
        "Create the thick volume vg_san/web1 of 10 GiB (3 MiB more than the source, to whole extents of "
        "4 MiB; the rest is zero)."
    )
    assert "at most 100 MiB a second" in plan.steps[2]
    assert plan.steps[4].endswith("a NIC on the network lan.")


def test_worst_case_of_thin_is_in_whole_chunks() -> None:
    vg = with_pool(chunk_size_bytes=3 * MIB)
    plan = make_plan(REQUEST, make_inventory(SOURCE, vg), make_policies(THIN))
    assert plan.disks[0].worst_case_bytes % (3 * MIB) == 0
    assert plan.disks[0].worst_case_bytes >= plan.disks[0].target.size_bytes == 10 * GIB


def test_the_only_pool_needs_no_name() -> None:
    policies = make_policies(THIN.replace('thin_pool = "pool0"', ""))
    assert lv_target(make_plan(REQUEST, make_inventory(), policies).disks[0]).pool_uuid == "pool-uuid"


def test_overrides_replace_what_the_policy_says() -> None:
    request = replace(REQUEST, overrides=(Overrides(Verify.BOTH, 5 * MIB),))
    plan = make_plan(request, make_inventory(), make_policies(THIN))
    assert (plan.disks[0].copy.verify, plan.disks[0].copy.bandwidth_bytes_per_s) == (Verify.BOTH, 5 * MIB)
    assert plan.id != make_plan(REQUEST, make_inventory(), make_policies(THIN)).id


def test_offline_by_policy() -> None:
    plan = make_plan(
        PlanRequest((WWID,)), make_inventory(), make_policies(thin_with("[rule.source]\noffline=true"))
    )
    assert plan.disks[0].source_offline


# -- refusals ------------------------------------------------------------------------------------


def test_unknown_source() -> None:
    with pytest.raises(NotFound):
        make_plan(PlanRequest(("nobody",)), make_inventory(), make_policies(THIN))


def test_all_reasons_are_told_not_the_first() -> None:
    source = make_source(size_bytes=4096, reasons=(Reason("mounted", "It is mounted."),))
    inventory = make_inventory(
        source, replace(VG, exported=True), exposures=(Reason("kpartx", "kpartx would map it."),)
    )
    reasons = refusal(inventory, THIN, PlanRequest((WWID,), machine_name="a b"))
    assert list(reasons) == [
        *("mounted", "kpartx", "machine-name", "source-too-small"),
        *("vg-exported", "not-offline"),
    ]


def test_no_policy() -> None:
    reasons = refusal(make_inventory(), THIN.replace('"*"', '"x"'), PlanRequest((WWID,)))
    assert list(reasons) == ["no-policy", "not-offline"]
    assert "Write a rule for it" in reasons["no-policy"]
    assert reasons["not-offline"].endswith("write source.offline = true in its policy.")


def test_policies_with_errors() -> None:
    reasons = refusal(make_inventory(), load([PolicyText("/p.toml", "x = 1")]))
    assert list(reasons) == ["policies-unread"]  # all else depends on the rule
    assert "/p.toml:1: x: there is no such key" in reasons["policies-unread"]


def test_not_offline_names_the_policy() -> None:
    reasons = refusal(make_inventory(), THIN, PlanRequest((WWID,)))
    assert list(reasons) == ["not-offline"]
    assert "--source-offline" in reasons["not-offline"]
    assert reasons["not-offline"].endswith('source.offline = true in the policy "thin".')


@pytest.mark.parametrize(
    ("vg", "code", "words"),
    [
        (replace(VG, exported=True), "vg-exported", "vgimport vg_san"),
        (replace(VG, clustered=True), "vg-clustered", "vgchange --lock-type"),
        (replace(VG, missing_pv_count=2), "vg-missing-pvs", "2 of the PVs"),
        (replace(VG, pvs=(replace(VG.pvs[0], duplicate=True),)), "vg-duplicate-pvs", "/dev/mapper/mpathv"),
        (replace(VG, lock_type=""), "vg-not-guarded", "single_host = true"),
        (replace(VG, lock_type="none"), "vg-not-guarded", "lvmsystemid(7)"),
        (replace(VG, lock_type="", system_id="other"), "vg-foreign", "vgchange --systemid me vg_san"),
        (replace(VG, lvs=(Lv("u", "p2v-b8c9aaaabbbb", 1),)), "lv-name-taken", "is there already"),
        (replace(VG, name="other"), "vg-not-found", "There is no volume group vg_san; seen: other."),
        (replace(VG, sector_size=4096), "sector-sizes-differ", 'target.sector_size_remedy = "domain"'),
        (replace(VG, thin_pools=()), "pool-not-found", "has no thin pool. Make one"),
        (with_pool(name="x"), "pool-not-found", "has no thin pool pool0; it has: x."),
        (with_pool(health="failed"), "pool-unhealthy", "lvconvert --repair vg_san/pool0"),
        (with_pool(health="out_of_data"), "pool-unhealthy", "lvextend -L +SIZE vg_san/pool0"),
        (with_pool(health="metadata_read_only"), "pool-unhealthy", "lvconvert --repair"),
        (with_pool(health="needs_check"), "pool-unhealthy", "Deactivate its volumes"),
        (with_pool(health="strange"), "pool-unhealthy", "See lvs -a vg_san/pool0"),
        (with_pool(virtual_size_bytes=90 * GIB + 1), "pool-over-commit", "allows 1 times its size"),
    ],
)
def test_a_volume_group_that_cannot_take_it(vg: Vg, code: str, words: str) -> None:
    reasons = refusal(make_inventory(SOURCE, vg, system_id="me"))
    assert list(reasons) == [code]
    assert words in reasons[code]


def test_thick_volume_group_that_is_too_small() -> None:
    vg = replace(VG, free_bytes=10 * GIB - 1)
    reasons = refusal(make_inventory(SOURCE, vg), THICK)
    assert reasons["vg-too-small"].startswith(
        f"{SOURCE} needs 10 GiB, the volume group vg_san has 10 GiB free."
    )
    assert make_plan(REQUEST, make_inventory(SOURCE, replace(vg, free_bytes=10 * GIB)), make_policies(THICK))


def test_a_foreign_volume_group_is_refused_whatever_the_policy_says() -> None:
    vg = replace(VG, lock_type="", system_id="other")
    reasons = refusal(make_inventory(SOURCE, vg), thin_with("single_host = true"))
    assert "vgchange --systemid ID vg_san" in reasons["vg-foreign"]


@pytest.mark.parametrize(
    ("vg", "system_id", "single_host"),
    [
        (replace(VG, lock_type="dlm"), "", "false"),
        (replace(VG, lock_type="", system_id="me"), "me", "false"),
        (replace(VG, lock_type=""), "", "true"),
    ],
    ids=["shared by lvmlockd", "this host's system ID", "single_host"],
)
def test_volume_groups_that_are_guarded(vg: Vg, system_id: str, single_host: str) -> None:
    policies = make_policies(thin_with(f"single_host = {single_host}"))
    plan = make_plan(REQUEST, make_inventory(SOURCE, vg, system_id=system_id), policies)
    assert lv_target(plan.disks[0]).single_host is (single_host == "true")
    assert any("single_host" in warning for warning in plan.warnings) is lv_target(plan.disks[0]).single_host


def test_two_pools_and_none_named() -> None:
    vg = replace(VG, thin_pools=(POOL, replace(POOL, uuid="p2", name="pool1")))
    reasons = refusal(make_inventory(SOURCE, vg), THIN.replace('thin_pool = "pool0"', ""))
    assert reasons == {
        "pool-ambiguous": "vg_san has the thin pools pool0, pool1: name one by target.thin_pool."
    }


def test_a_pool_has_the_name() -> None:
    assert "lv-name-taken" in refusal(make_inventory(), THIN, replace(REQUEST, machine_name="pool0"))


def test_a_name_that_lvm_keeps() -> None:
    reasons = refusal(make_inventory(), THIN, replace(REQUEST, machine_name="snapshot1"))
    assert reasons["lv-name"].endswith("Change target.name in the policy, or name the machine otherwise.")


def test_two_volume_groups_of_one_name() -> None:
    reasons = refusal(make_inventory(SOURCE, VG, replace(VG, uuid="second")))
    assert reasons["vg-ambiguous"].startswith("2 volume groups are named vg_san: vg-uuid, second.")


def test_no_volume_group_has_the_tag() -> None:
    policies = THIN.replace('"vg_san"', '"@gold"')
    assert "carries the tag gold" in refusal(make_inventory(), policies)["vg-not-found"]


def test_what_discovery_could_not_read_is_told() -> None:
    inventory = Inventory((SOURCE,), (), problems=("vgs failed.",))
    reasons = refusal(inventory)
    assert reasons["vg-not-found"] == "There is no volume group vg_san; seen: none. vgs failed."


def test_volume_groups_in_order_of_preference() -> None:
    policies = make_policies(THICK.replace('"vg_san"', '["vg_none", "vg_full", "@gold", "vg_san"]'))
    full = replace(VG, uuid="full", name="vg_full", free_bytes=0)
    gold2 = replace(VG, uuid="gold2", name="vg_gold2", tags=frozenset({"gold"}))
    gold1 = replace(gold2, uuid="gold1", name="vg_gold1")
    inventory = make_inventory(SOURCE, VG, full, gold2, gold1)
    assert lv_target(make_plan(REQUEST, inventory, policies).disks[0]).vg_uuid == "gold1"
    inventory = make_inventory(SOURCE, VG, full)
    assert lv_target(make_plan(REQUEST, inventory, policies).disks[0]).vg_uuid == "vg-uuid"


def test_every_candidate_says_why_not() -> None:
    policies = THICK.replace('"vg_san"', '["vg_a", "@p2vd", "vg_san"]')
    full = replace(VG, free_bytes=0)
    with pytest.raises(Refused) as caught:
        make_plan(REQUEST, make_inventory(SOURCE, full), make_policies(policies))
    assert [reason.code for reason in caught.value.reasons] == ["vg-not-found", "vg-too-small"]


@pytest.mark.parametrize(
    ("device", "refused"),
    [
        ("/dev/mapper/mpatha", True),
        ("/dev/mapper/mpatha-part2", True),
        ("/dev/mapper/mpatha2", False),
        ("/dev/mapper/mpathab", False),
        ("/dev/dm-3", True),
        ("/dev/dm-31", False),
        ("/dev/dm-3p1", True),
    ],
)
def test_a_source_that_is_a_pv_of_the_volume_group(device: str, refused: bool) -> None:
    vg = replace(VG, pvs=(*VG.pvs, Pv("u", device, GIB, 0)))
    policies = make_policies(THIN.replace('"vg_san"', '["vg_none", "vg_san"]'))
    if refused:
        assert list(refusal(make_inventory(SOURCE, vg), policies)) == ["source-is-pv"]
    else:
        assert make_plan(REQUEST, make_inventory(SOURCE, vg), policies)


def test_a_partition_of_a_kernel_disk_is_a_pv() -> None:
    source = make_source(device="vdb", name="vdb", paths=(), transport=Transport.VIRTIO)
    vg = replace(VG, pvs=(Pv("u", "/dev/vdb1", GIB, 0),))
    assert "/dev/vdb1, a PV of" in refusal(make_inventory(source, vg))["source-is-pv"]


def test_a_volume_that_no_host_activates_at_its_boot_is_said() -> None:
    plan = make_plan(REQUEST, make_inventory(SOURCE), make_policies(thin_with("autoactivate = false\n")))
    (warning,) = plan.warnings
    assert f"run lvchange -ay vg_san/{lv_target(plan.disks[0]).lv_name}." in warning


# -- sectors -------------------------------------------------------------------------------------

REMEDY = 'sector_size_remedy = "domain"\n'


@pytest.mark.parametrize(
    ("source_sector", "vg_sector", "shown"),
    [(512, 512, 0), (4096, 4096, 4096), (512, 4096, 512), (4096, 512, 4096)],
)
def test_the_machine_sees_the_sources_sectors(source_sector: int, vg_sector: int, shown: int) -> None:
    inventory = make_inventory(make_source(sector_size=source_sector), replace(VG, sector_size=vg_sector))
    plan = make_plan(REQUEST, inventory, make_policies(thin_with(REMEDY)))
    assert plan.domain.logical_block_size == shown
    assert any("SeaBIOS" in warning for warning in plan.warnings) is (shown == 4096)
    assert (f"in sectors of {shown} bytes" in plan.steps[4]) is (shown > 0)


def test_sata_has_no_large_sectors() -> None:
    policies = thin_with(REMEDY + '[rule.domain]\nbus = "sata"\n')
    assert list(refusal(make_inventory(make_source(sector_size=4096)), policies)) == ["domain-bus"]
    assert make_plan(REQUEST, make_inventory(), make_policies(policies))


def test_strange_sectors() -> None:
    reasons = refusal(make_inventory(make_source(sector_size=520)), thin_with(REMEDY))
    assert "only 512 and 4096" in reasons["sector-size"]


# -- warnings ------------------------------------------------------------------------------------


def warnings_of(inventory: Inventory, policies: str = THIN) -> str:
    """The one warning of the plan."""
    (warning,) = make_plan(REQUEST, inventory, make_policies(policies)).warnings
    return warning


def test_warns_of_paths() -> None:
    down = replace(PATHS[0], state=PathState.FAULTY)
    assert "one path only" in warnings_of(make_inventory(make_source(paths=PATHS[:1])))
    assert "Only 1 of 2 paths" in warnings_of(make_inventory(make_source(paths=(down, PATHS[1]))))


def test_warns_of_a_volume_group_that_takes_no_new_work() -> None:
    warning = warnings_of(make_inventory(SOURCE, replace(VG, late_change="x-create")))
    assert warning.startswith("The volume group vg_san takes no new work now: the command in p2vd-change-x-c")


def test_warns_of_no_verification() -> None:
    policies = thin_with('[rule.copy]\nverify = "none"\n')
    assert "not read again" in warnings_of(make_inventory(), policies)


@pytest.mark.parametrize(("percent", "free"), [(90, "5 GiB"), (99, "0 B")])
def test_warns_of_a_pool_that_will_fill_up(percent: float, free: str) -> None:
    warning = warnings_of(make_inventory(SOURCE, with_pool(data_percent=percent)))
    assert warning.startswith(
        f"The copy may need 10 GiB of the pool vg_san/pool0, which has {free} free beyond the reserve of 5 %"
    )


def test_nothing_is_planned_from_what_is_out_of_date() -> None:
    stale = make_inventory(stale_since_us=1, stale_cause="LVM said nothing.")
    with pytest.raises(Refused) as refused:
        make_plan(PlanRequest((WWID,), source_offline=True), stale, make_policies(THIN))
    (reason,) = refused.value.reasons
    assert reason.code == "inventory-stale"
    assert "LVM said nothing." in reason.text


def test_an_image_is_bound_to_its_file() -> None:
    image = make_source(
        transport=Transport.IMAGE, wwid="", id="/srv/a.img", device="", paths=(), file_id="1@2"
    )
    policies = make_policies(THIN.replace('wwid = "*"', 'transport = "image"'))
    request = PlanRequest(("/srv/a.img",), "erp1", source_offline=True)
    plan = make_plan(request, make_inventory(image), policies)
    assert plan.disks[0].source.file_id == "1@2"
    with pytest.raises(PlanOutdated, match="source's file is now '3@4', was '1@2'"):
        recheck(plan, make_inventory(replace(image, file_id="3@4")), policies)


@pytest.mark.parametrize(
    ("transport", "says"),
    [
        (Transport.IMAGE, "Open the source {} for reading: image, "),
        (Transport.NBD, "Connect to the source {} for"),
    ],
    ids=["an image", "an NBD export"],
)
def test_what_is_no_device_of_this_host_is_not_set_read_only(transport: Transport, says: str) -> None:
    source = make_source(transport=transport, wwid="", id="/srv/a.img", device="", paths=(), file_id="1@2")
    request = PlanRequest((source.id,), "erp1", source_offline=True)
    plan = make_plan(request, make_inventory(source), make_policies(THICK))
    assert plan.steps[0].startswith(says.format(source))
