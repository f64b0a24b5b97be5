"""Many machines as one plan: what fits together, in which order, what waits, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace

from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Vg
from p2vd.model.plan import Plan
from p2vd.model.size import GIB
from p2vd.model.wave import Fate, WaveEntry, WaveItem
from p2vd.planning.wave import plan_wave, wave_id
from tests.planning.builders import THICK, THIN, VG, make_policies, make_source, with_pool

SECOND = replace(VG, uuid="vg2-uuid", name="vg_more", free_bytes=20 * GIB, thin_pools=())


def disk(number: int, size_bytes: int = 10 * GIB) -> Source:
    return make_source(wwid=f"3600140500000000{number:016x}", name=f"mpath{number}", size_bytes=size_bytes)


def entry(number: int, *more: int, priority: int | None = None, **changes: object) -> WaveEntry:
    sources = tuple(disk(each).id for each in (number, *more))
    plain = WaveEntry(sources=sources, name=f"erp{number}", source_offline=True, priority=priority)
    return replace(plain, place=f"wave.csv:{number + 1}", **changes)  # type: ignore[arg-type]


def planned(
    entries: Sequence[WaveEntry],
    policy: str = THIN,
    *groups: Vg,
    count: int = 10,
    busy: dict[str, Reason] | None = None,
) -> tuple[tuple[WaveItem, ...], tuple[Plan, ...]]:
    inventory = Inventory(tuple(disk(number) for number in range(1, count + 1)), groups or (VG,))
    return plan_wave(entries, inventory, make_policies(policy), {}, busy or {})


def fates(items: Sequence[WaveItem]) -> dict[str, str]:
    return {item.name: item.fate.value for item in items}


def codes(item: WaveItem) -> list[str]:
    return [reason.code for reason in item.reasons]


def test_machines_take_from_each_other_and_the_later_one_waits() -> None:
    items, plans = planned([entry(1), entry(2), entry(3)], THICK, replace(VG, free_bytes=25 * GIB))
    assert fates(items) == {"erp1": "ready", "erp2": "ready", "erp3": "waits"}
    assert codes(items[2]) == ["vg-too-small"]
    assert [plan.machine_name for plan in plans] == ["erp1", "erp2", "erp3"]


def test_what_is_too_big_for_what_there_is_is_refused_and_takes_nothing() -> None:
    group = replace(VG, free_bytes=15 * GIB)
    items, plans = planned([entry(1, 2), entry(3)], THICK, group)
    assert fates(items) == {"erp1": "refused", "erp3": "ready"}
    assert [plan.machine_name for plan in plans] == ["erp3"]


def test_a_pool_is_promised_once() -> None:
    group = with_pool(size_bytes=25 * GIB, virtual_size_bytes=0)
    items, _ = planned([entry(1), entry(2), entry(3)], THIN + "[rule.pool]\nover_commit = 1.0\n", group)
    assert list(fates(items).values()) == ["ready", "ready", "waits"]
    assert codes(items[2]) == ["pool-over-commit"]


def test_the_order_is_that_of_the_list_within_a_priority_and_decides_who_fits() -> None:
    group = replace(VG, free_bytes=25 * GIB)
    items, _ = planned([entry(1), entry(2), entry(3, priority=5), entry(4, priority=5)], THICK, group)
    assert [item.name for item in items] == ["erp3", "erp4", "erp1", "erp2"]
    assert list(fates(items).values()) == ["ready", "ready", "waits", "waits"]


def test_a_second_volume_group_is_used_when_the_first_is_promised() -> None:
    policy = THICK.replace('"vg_san"', '["vg_san", "vg_more"]')
    items, _ = planned([entry(1), entry(2), entry(3)], policy, replace(VG, free_bytes=15 * GIB), SECOND)
    assert [item.targets for item in items] == [("vg_san/erp1",), ("vg_more/erp2",), ("vg_more/erp3",)]


def test_all_reasons_of_each_machine_are_told_and_stop_no_other() -> None:
    busy = {disk(3).id: Reason("job-exists", "Job 7 has it already.")}
    entries = [
        entry(1, source_offline=False),
        entry(2, machine="unknown"),
        entry(3),
        entry(4, sources=("nothing",)),
        entry(5),
        entry(6, name="erp5"),
        entry(7, 5),
    ]
    items, _ = planned(entries, busy=busy)
    assert [codes(item) for item in items] == [
        ["not-offline"],
        ["record-not-found"],
        ["job-exists"],
        ["source-not-found"],
        [],
        ["name-twice"],
        ["source-twice"],
    ]
    assert "wave.csv:6" in items[5].reasons[0].text
    assert [item.fate for item in items].count(Fate.REFUSED) == 6


def test_the_id_is_that_of_the_plans_and_their_order() -> None:
    entries = [entry(1), entry(2)]
    items, _ = planned(entries)
    assert wave_id(items) == wave_id(planned(entries)[0])
    assert wave_id(items) != wave_id(planned(entries[::-1])[0])
    assert wave_id(items) != wave_id(planned([entry(1), entry(2, priority=-1)])[0])
    assert wave_id(items) != wave_id(planned(entries, THIN + 'name = "{machine}-x"\n')[0])


def test_two_hundred_machines_are_planned_right() -> None:
    """Each in its own place, as many as there is room for, the others wait."""
    count, room = 200, 150
    group = replace(VG, free_bytes=room * 10 * GIB)
    entries = [entry(number) for number in range(1, count + 1)]
    items, plans = planned(entries, THICK, group, count=count)
    assert [item.name for item in items] == [f"erp{number}" for number in range(1, count + 1)]
    assert [item.fate for item in items] == [Fate.READY] * room + [Fate.WAITS] * (count - room)
    assert len({plan.id for plan in plans}) == count
