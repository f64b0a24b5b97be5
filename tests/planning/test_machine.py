"""Plans of machines with many disks: which disks, where they go together, and what that comes to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.disk import Source
from p2vd.model.errors import PlanOutdated, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Lv, Vg
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.plan import Cutover, Plan
from p2vd.model.size import GIB, MIB
from p2vd.planning.place import Place
from p2vd.planning.plan import PlanRequest, make_plan, recheck, recheck_disk
from p2vd.planning.targets import LvChoice, choose_lv
from tests.planning.builders import THICK, THIN, VG, lv_target, make_policies, make_source, with_pool

SECOND = replace(VG, uuid="vg2-uuid", name="vg_more", thin_pools=())
BOTH_THICK = THICK.replace('"vg_san"', '["vg_san", "vg_more"]')


def disk(number: int, size_bytes: int = 10 * GIB) -> Source:
    return make_source(wwid=f"3600140500000000{number:016x}", name=f"mpath{number}", size_bytes=size_bytes)


def wwids(*numbers: int) -> tuple[str, ...]:
    return tuple(disk(number).id for number in numbers)


def make(sources: tuple[Source, ...], policy: str = THIN, *groups: Vg, name: str = "erp1") -> Plan:
    request = PlanRequest(tuple(source.id for source in sources), name, source_offline=True)
    return make_plan(request, Inventory(sources, groups or (VG,)), make_policies(policy))


def refusal(sources: tuple[Source, ...], policy: str = THIN, *groups: Vg) -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        make(sources, policy, *groups)
    assert caught.value.subject == "Machine erp1"
    return {reason.code: reason.text for reason in caught.value.reasons}


def test_disks_keep_the_order_in_which_they_are_named_and_get_volumes_of_their_own() -> None:
    plan = make((disk(3), disk(1), disk(2)))
    assert [one.source.id for one in plan.disks] == list(wwids(3, 1, 2))
    assert [lv_target(one).lv_name for one in plan.disks] == ["erp1-1", "erp1-2", "erp1-3"]
    assert [(one.number, one.of, one.id) for one in plan.disks] == [(n, 3, plan.id) for n in (1, 2, 3)]
    assert len(plan.steps) == 3 * 4 + 1
    assert "its 3 disks on sata" in plan.steps[-1]
    assert make((disk(1), disk(3), disk(2))).id != plan.id


def test_a_machine_of_one_disk_has_no_number_in_its_volumes_name() -> None:
    assert lv_target(make((disk(1),)).disks[0]).lv_name == "erp1"


def test_two_disks_that_would_get_one_name_are_refused_with_the_remedy() -> None:
    reasons = refusal((disk(1), disk(2)), THIN + 'name = "{machine}"\n')
    assert set(reasons) == {"lv-name-twice"}
    assert "{disk}" in reasons["lv-name-twice"]


def test_a_name_may_have_the_disks_number() -> None:
    plan = make((disk(1), disk(2)), THIN + 'name = "{machine}_d{disk}"\n')
    assert [lv_target(one).lv_name for one in plan.disks] == ["erp1_d1", "erp1_d2"]


def test_disks_that_fit_one_by_one_and_not_together_are_refused() -> None:
    group = replace(VG, free_bytes=15 * GIB)
    assert make((disk(1),), THICK, group)
    assert make((disk(2),), THICK, group)
    reasons = refusal((disk(1), disk(2)), THICK, group)
    assert set(reasons) == {"vg-too-small"}
    assert "has 5 GiB free beside 10 GiB for other disks of the machine" in reasons["vg-too-small"]


def test_the_disk_that_no_longer_fits_goes_into_the_next_volume_group() -> None:
    plan = make((disk(1), disk(2), disk(3, 4 * GIB)), BOTH_THICK, replace(VG, free_bytes=15 * GIB), SECOND)
    assert [lv_target(one).vg_name for one in plan.disks] == ["vg_san", "vg_more", "vg_san"]


def test_thin_volumes_add_up_against_the_over_commit_of_their_pool() -> None:
    # 100 GiB, 30 of them promised: seven disks more, and not eight.
    disks = tuple(disk(number) for number in range(8))
    assert len(make(disks[:7]).disks) == 7
    assert set(refusal(disks)) == {"pool-over-commit"}


def test_what_all_copies_may_take_of_the_pool_is_warned_of() -> None:
    policy = THIN + "[rule.pool]\nover_commit = 2.0\n"
    nearly_full = with_pool(data_percent=80.0)  # 15 GiB above the reserve
    assert not any("reserve" in text for text in make((disk(1),), policy, nearly_full).warnings)
    plan = make((disk(1), disk(2)), policy, nearly_full)
    (warning,) = [text for text in plan.warnings if "reserve" in text]
    assert "which has 5 GiB free beyond the reserve" in warning
    assert warning in plan.disks[1].warnings


def test_every_reason_of_every_disk_is_said_once() -> None:
    small, used = disk(1, MIB // 2), make_source(wwid="3600140500000000b", name="b", sector_size=520)
    reasons = refusal((small, used), THIN, replace(VG, exported=True))
    assert {"source-too-small", "sector-size", "vg-exported"} <= set(reasons)
    with pytest.raises(Refused) as caught:
        make((small, used), THIN, replace(VG, exported=True))
    texts = [reason.text for reason in caught.value.reasons]
    assert len(texts) == len(set(texts))


def test_a_disk_that_is_named_twice_is_refused() -> None:
    request = PlanRequest((disk(1).id, "mpath1"), "erp1", source_offline=True)
    with pytest.raises(Refused, match="named twice"):
        make_plan(request, Inventory((disk(1),), (VG,)), make_policies(THIN))


# ---- the record of a machine -------------------------------------------------------------------


def record(*disks: PassportDisk) -> Passport:
    return Passport("erp1", disks=disks)


def recorded(number: int, **changes: object) -> PassportDisk:
    return replace(PassportDisk(f"sd{number}", 10 * GIB, disk(number).wwid), **changes)  # type: ignore[arg-type]


def plan_of(passport: Passport, *listed: str, seen: tuple[int, ...] = (1, 2, 3)) -> Plan:
    request = PlanRequest(listed, source_offline=True, passport=passport)
    sources = tuple(disk(number) for number in seen)
    return make_plan(request, Inventory(sources, (VG,)), make_policies(THIN))


def test_the_records_disks_name_the_sources_in_its_order_and_the_machine() -> None:
    plan = plan_of(record(recorded(2), recorded(1)))
    assert (plan.machine_name, plan.passport, plan.warnings) == ("erp1", "erp1", ())
    assert [one.source.id for one in plan.disks] == list(wwids(2, 1))


def test_a_disk_of_the_record_that_is_not_attached_is_a_reason() -> None:
    with pytest.raises(Refused) as caught:
        plan_of(record(recorded(1), recorded(2), recorded(3)), seen=(1,))
    assert [reason.code for reason in caught.value.reasons] == ["disk-not-seen", "disk-not-seen"]
    assert disk(2).wwid in str(caught.value)


def test_a_listed_disk_that_the_record_does_not_know_comes_last_with_a_warning() -> None:
    plan = plan_of(record(recorded(2)), *wwids(1, 2))
    assert [one.source.id for one in plan.disks] == list(wwids(2, 1))
    assert plan.warnings == (f"The record of erp1 does not know {disk(1)}; it comes behind its disks.",)


def test_a_disk_without_wwid_is_left_out_and_another_size_is_said() -> None:
    plan = plan_of(record(recorded(1, size_bytes=9 * GIB), recorded(2, wwid="")))
    assert [one.source.id for one in plan.disks] == list(wwids(1))
    assert "says 9 GiB of its sd1" in plan.warnings[0]
    assert "sd2 of erp1 (10 GiB) has no WWID" in plan.warnings[1]


def test_a_record_without_any_wwid_is_no_plan() -> None:
    with pytest.raises(Refused, match="Name the sources"):
        plan_of(record(recorded(1, wwid="")))


# ---- of the machine as a whole -----------------------------------------------------------------

TWO_RULES = (
    THIN.replace('wwid = "*"', f'wwid = "{disk(1).wwid}"')
    + THIN.replace('name = "thin"', 'name = "data"\ncutover = "manual"')
    + '[rule.domain]\nmemory = "8 GiB"\n'
)


def test_the_first_disks_policy_says_what_the_machine_is_and_others_are_told() -> None:
    plan = make((disk(1), disk(2)), TWO_RULES)
    assert plan.domain.memory_bytes == 2 * GIB
    assert 'The machine is as the policy "thin" of its first disk says, not "data".' in plan.warnings


def test_one_disk_whose_policy_wants_a_manual_cutover_suffices() -> None:
    plan = make((disk(1), disk(2)), TWO_RULES)
    assert plan.cutover is Cutover.MANUAL
    assert plan.steps[-1].startswith("When told to (p2vctl cutover erp1), define the virtual machine")
    assert make((disk(1),), TWO_RULES).cutover is Cutover.AUTO


def test_a_volume_that_a_rollback_kept_is_a_reason_that_names_its_job() -> None:
    kept = replace(VG, lvs=(Lv("lv", "erp1-2", 10 * GIB, frozenset({"p2vd.job=123", "other"})),))
    reasons = refusal((disk(1), disk(2)), THIN, kept)
    assert set(reasons) == {"lv-name-taken"}
    assert "what the job 123 copied, and may be a virtual machine's disk" in reasons["lv-name-taken"]
    assert "rolled back (p2vctl show 123)" in reasons["lv-name-taken"]
    assert "lvremove vg_san/erp1-2" in reasons["lv-name-taken"]


def test_a_volume_that_is_being_copied_is_not_said_to_be_removable() -> None:
    """Its copy would be lost with it."""
    tags = frozenset({"p2vd.job=123", "p2vd.incomplete"})
    copied = replace(VG, lvs=(Lv("lv", "erp1-2", 10 * GIB, tags),))
    reason = refusal((disk(1), disk(2)), THIN, copied)["lv-name-taken"]
    assert "the job 123 did not come to its end with it" in reason
    assert "Only where that job is cancelled may the volume be removed: lvremove vg_san/erp1-2" in reason


# ---- just before it runs -----------------------------------------------------------------------


def test_a_recheck_names_the_disk_that_is_another() -> None:
    sources = (disk(1), disk(2))
    plan = make(sources)
    assert recheck(plan, Inventory(sources, (VG,)), make_policies(THIN)) == plan
    grown = Inventory((disk(1), disk(2, 11 * GIB)), (VG,))
    with pytest.raises(PlanOutdated, match="the source's size of disk 2 is now '11811160064'"):
        recheck(plan, grown, make_policies(THIN))
    with pytest.raises(PlanOutdated, match=f"{disk(2).id} is no longer attached"):
        recheck(plan, Inventory((disk(1),), (VG,)), make_policies(THIN))
    with pytest.raises(PlanOutdated, match="the text of the policy 'thin' has changed"):
        recheck(plan, Inventory(sources, (VG,)), make_policies(THIN + "autoactivate = false\n"))


def test_a_disk_is_rechecked_in_the_volume_group_that_it_has_whatever_became_of_the_others() -> None:
    """The first disk's volume may be there already, or not yet: then the first group still has room."""
    sources, groups = (disk(1), disk(2)), (replace(VG, free_bytes=15 * GIB), SECOND)
    second = make(sources, BOTH_THICK, *groups).disks[1]
    assert lv_target(second).vg_name == "vg_more"
    policies = make_policies(BOTH_THICK)
    recheck_disk(second, Inventory(sources, groups), policies)
    made = replace(VG, free_bytes=5 * GIB, lvs=(*VG.lvs, Lv("lv1", "erp1-1", 10 * GIB)))
    recheck_disk(second, Inventory(sources, (made, SECOND)), policies)
    with pytest.raises(PlanOutdated, match="has 1 GiB free"):
        recheck_disk(second, Inventory(sources, (VG, replace(SECOND, free_bytes=GIB))), policies)
    with pytest.raises(PlanOutdated, match="None of the rule's volume groups"):
        recheck_disk(second, Inventory(sources, (VG,)), policies)
    with pytest.raises(PlanOutdated, match="no longer attached"):
        recheck_disk(second, Inventory((), groups), policies)
    with pytest.raises(PlanOutdated, match="source's size is now"):
        recheck_disk(second, Inventory((disk(2, 9 * GIB),), groups), policies)


# ---- whatever the sizes ------------------------------------------------------------------------

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=8)


def attempt(sources: tuple[Source, ...], policy: str, *groups: Vg) -> Plan | set[str]:
    """The plan, or the codes of the reasons against it."""
    try:
        return make(sources, policy, *groups)
    except Refused as refused:
        return {reason.code for reason in refused.reasons}


@given(SIZES, st.integers(0, 120), st.integers(0, 120))
def test_no_volume_group_gets_more_than_it_has(gib: list[int], first: int, second: int) -> None:
    sources = tuple(disk(number, size * GIB) for number, size in enumerate(gib))
    groups = (replace(VG, free_bytes=first * GIB), replace(SECOND, free_bytes=second * GIB))
    plan = attempt(sources, BOTH_THICK, *groups)
    if not isinstance(plan, Plan):
        assert plan == {"vg-too-small"}
        assert sum(gib) > min(first, second)
        return
    for group in groups:
        taken = sum(one.target.size_bytes for one in plan.disks if lv_target(one).vg_uuid == group.uuid)
        assert taken <= group.free_bytes
    assert len({(lv_target(one).vg_uuid, lv_target(one).lv_name) for one in plan.disks}) == len(gib)
    if sum(gib) <= first:
        assert {lv_target(one).vg_uuid for one in plan.disks} == {VG.uuid}


@given(SIZES, st.integers(0, 100), st.sampled_from([1.0, 1.5, 3.0]))
def test_no_pool_promises_more_than_the_policy_allows(gib: list[int], promised: int, factor: float) -> None:
    sources = tuple(disk(number, size * GIB) for number, size in enumerate(gib))
    group = with_pool(virtual_size_bytes=promised * GIB)
    allowed = 100 * GIB * factor
    fits = promised + sum(gib) <= 100 * factor
    plan = attempt(sources, THIN + f"[rule.pool]\nover_commit = {factor}\n", group)
    if not isinstance(plan, Plan):
        assert plan == {"pool-over-commit"}
        assert not fits
        return
    assert fits
    assert promised * GIB + sum(one.target.size_bytes for one in plan.disks) <= allowed


def test_a_choice_in_one_volume_group_asks_no_other() -> None:
    (rule,) = make_policies(BOTH_THICK).rules
    chosen = choose_lv(rule, disk(1), Place("erp1"), Inventory((disk(1),), (VG, SECOND)), SECOND.uuid)
    assert isinstance(chosen, LvChoice)
    assert chosen.vg.uuid == SECOND.uuid
