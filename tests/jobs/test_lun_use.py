"""Who uses a LUN."""

from dataclasses import replace

from p2vd.jobs.host_maps import IN_USE
from p2vd.jobs.lun_use import LunUse, PortalInUse
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.job import Stage
from p2vd.model.lvm import Pv, Vg
from p2vd.policy.model import PolicySet
from tests.jobs.values import machine_and_job, source

SOURCE = source()
_, JOB = machine_and_job()
VG = Vg("vg-uuid", "vg_san", 1, 1, 1, 512, pvs=(Pv("pv", "/dev/mapper/mpatha", 1, 1),))


def users(
    inventory: Inventory | None = None, *, jobs: tuple[object, ...] = (), opens: int = 0, reason: str = ""
) -> tuple[str, ...]:
    found = replace(SOURCE, reasons=(Reason(reason, f"it is {reason}"),) if reason else ())
    inventory = replace(inventory or Inventory(), sources=(found,))
    use = LunUse(inventory, PolicySet(), jobs, {"mpatha": opens})  # type: ignore[arg-type]  # jobs
    return use.of(found)


def test_nobody_uses_it() -> None:
    assert users() == ()


def test_what_the_host_does_with_it_counts_and_what_is_wrong_with_it_does_not() -> None:
    for reason in IN_USE:
        assert users(reason=reason) == (f"it is {reason}",)
    for reason in ("no-path-ready", "paths-disagree", "suspended"):
        assert users(reason=reason) == ()


def test_a_job_that_copies_it_counts_until_it_is_over() -> None:
    for stage in Stage:
        over = stage in (Stage.PROVEN, Stage.CANCELLED)
        assert bool(users(jobs=(replace(JOB, stage=stage),))) is not over


def test_a_job_that_writes_to_a_volume_group_on_it_counts() -> None:
    elsewhere = replace(JOB, plan=replace(JOB.plan, source=replace(JOB.plan.source, id="another")))
    (text,) = users(Inventory(volume_groups=(VG,)), jobs=(replace(elsewhere, stage=Stage.COPYING),))
    assert "writes to the volume group vg_san" in text


def test_a_physical_volume_of_this_host_counts_and_a_guests_does_not() -> None:
    own = replace(VG, system_id="host1")
    assert users(Inventory(volume_groups=(own,), system_id="host1"))
    assert users(Inventory(volume_groups=(replace(own, system_id="guest"),), system_id="host1")) == ()
    partition = replace(own, pvs=(Pv("pv", "/dev/mapper/mpatha-part2", 1, 1),))
    assert users(Inventory(volume_groups=(partition,), system_id="host1"))
    other = replace(own, pvs=(Pv("pv", "/dev/mapper/mpathab", 1, 1),))
    assert users(Inventory(volume_groups=(other,), system_id="host1")) == ()


def test_a_plain_open_counts() -> None:
    assert users(opens=1) == (f"{SOURCE.id} (mpatha) is open 1 times.",)


def test_the_error_names_some_and_counts_the_rest() -> None:
    error = PortalInUse("10.1.1.1:3260", tuple(f"User {number}." for number in range(8)))
    assert "User 4." in str(error)
    assert "User 5." not in str(error)
    assert "And 3 more." in str(error)
