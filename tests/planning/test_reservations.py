"""What jobs still need is nobody else's: no order of events places two beyond what there is."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2vd.model.errors import Reason, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Stage
from p2vd.model.lvm import Lv, Vg
from p2vd.model.plan import LvTarget, PoolExtension
from p2vd.model.size import GIB, MIB
from p2vd.planning.admission import Shortage
from p2vd.planning.extension import PoolGrowth, growth
from p2vd.planning.plan import PlanRequest, make_plan
from p2vd.planning.reservations import reservations, with_reservations
from tests.planning.builders import POOL, THICK, THIN, VG, make_policies, make_source

OVER_COMMIT = 1.5
POLICIES = make_policies(
    THIN.replace('wwid = "*"', 'vendor = "THIN"') + f"[rule.pool]\nover_commit = {OVER_COMMIT}\n",
    THICK.replace('name = "thick"', 'name = "whole"').replace('wwid = "*"', 'vendor = "THICK"'),
)
EMPTY = replace(
    VG, lvs=(), free_bytes=40 * GIB, thin_pools=(replace(POOL, size_bytes=40 * GIB, virtual_size_bytes=0),)
)
SIZES = st.integers(1, 12).map(lambda count: count * GIB + MIB)


def volume(job: Job) -> LvTarget:
    target = job.plan.target
    assert isinstance(target, LvTarget)
    return target


class Placement(RuleBasedStateMachine):
    """Jobs come in any order beside the other users of one volume group, whose pool is extended or not."""

    def __init__(self) -> None:
        super().__init__()
        self.vg = EMPTY
        self.jobs: list[Job] = []
        self.count = 0
        self.codes: set[str] = set()

    def inventory(self) -> Inventory:
        sources = tuple(
            make_source(wwid=f"3600{n:028x}", vendor=vendor, name=f"mpath{n}")
            for n, vendor in ((self.count, "THIN"), (self.count + 500, "THICK"))
        )
        return Inventory(sources, (self.vg,))

    @rule(size=SIZES, thin=st.booleans())
    def place(self, size: int, thin: bool) -> None:
        inventory = self.inventory()
        source = replace(inventory.sources[0 if thin else 1], size_bytes=size)
        inventory = replace(inventory, sources=(source,))
        seen = with_reservations(inventory, reservations(self.jobs))
        request = PlanRequest((source.id,), source_offline=True)
        self.count += 1
        try:
            plan = make_plan(request, seen, POLICIES)
        except Refused as refused:
            self.codes |= {reason.code for reason in refused.reasons}
            return
        assert make_plan(request, seen, POLICIES) == plan
        (disk,) = plan.disks
        self.jobs.append(Job(f"job-{self.count}", "machine", disk))
        self.expect_room(thin=thin)

    def expect_room(self, *, thin: bool) -> None:
        waiting = list(self.unmade())
        if thin:
            (pool,) = self.vg.thin_pools
            planned = sum(volume(job).size_bytes for job in waiting if volume(job).pool_uuid)
            assert pool.virtual_size_bytes + planned <= pool.size_bytes * OVER_COMMIT
        else:
            planned = sum(volume(job).size_bytes for job in waiting if not volume(job).pool_uuid)
            assert planned <= self.vg.free_bytes

    def unmade(self) -> Iterator[Job]:
        made = {tag for lv in self.vg.lvs for tag in lv.tags}
        return (
            job
            for job in self.jobs
            if f"p2vd.job={job.uuid}" not in made and job.stage is not Stage.CANCELLED
        )

    @precondition(lambda self: any(True for _ in self.unmade()))
    @rule(data=st.data())
    def make(self, data: st.DataObject) -> None:
        """lvcreate, of any job that has not made its volume yet, in whatever order."""
        job = data.draw(st.sampled_from(list(self.unmade())))
        target = volume(job)
        tags = frozenset({f"p2vd.job={job.uuid}"})
        self.vg = replace(
            self.vg,
            lvs=(
                *self.vg.lvs,
                Lv(f"lv-{job.uuid}", target.lv_name, target.size_bytes, tags, target.pool_name),
            ),
        )
        self.take(target.size_bytes, thin=bool(target.pool_uuid))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), stage=st.sampled_from([Stage.PROVEN, Stage.FAILED, Stage.CANCELLED]))
    def end(self, data: st.DataObject, stage: Stage) -> None:
        """A job ends; a cancelled one takes its volume along."""
        index = data.draw(st.integers(0, len(self.jobs) - 1))
        job = self.jobs[index]
        tag = f"p2vd.job={job.uuid}"
        if stage is Stage.PROVEN and not any(tag in lv.tags for lv in self.vg.lvs):
            return  # what has no volume is not proven
        if job.stage in (Stage.PROVEN, Stage.CANCELLED):
            return
        self.jobs[index] = replace(job, stage=stage)
        gone = [lv for lv in self.vg.lvs if tag in lv.tags]
        if stage is Stage.CANCELLED and gone:
            self.vg = replace(self.vg, lvs=tuple(lv for lv in self.vg.lvs if tag not in lv.tags))
            self.take(-gone[0].size_bytes, thin=bool(volume(job).pool_uuid))

    @rule(size=SIZES, thin=st.booleans())
    def foreign(self, size: int, thin: bool) -> None:
        """Another administrator makes a volume, where LVM lets him."""
        if thin or size <= self.vg.free_bytes:
            self.take(size, thin=thin)

    @rule(more=SIZES)
    def extend(self, more: int) -> None:
        """The pool is extended by p2vd's policy, which never takes what it must leave free."""
        (pool,) = self.vg.thin_pools
        policy = PoolExtension(step_bytes=more, max_bytes=60 * GIB, vg_free_bytes=10 * GIB)
        wanted = growth(policy, self.vg, pool, Shortage.DATA)
        if isinstance(wanted, Reason):
            assert wanted.code in ("pool-at-bound", "vg-too-small-for-pool")
            return
        assert isinstance(wanted, PoolGrowth)
        assert pool.size_bytes < wanted.size_bytes <= policy.max_bytes
        taken = wanted.size_bytes - pool.size_bytes
        assert self.vg.free_bytes - taken >= policy.vg_free_bytes
        self.vg = replace(
            self.vg,
            free_bytes=self.vg.free_bytes - taken,
            thin_pools=(replace(pool, size_bytes=wanted.size_bytes),),
        )

    def take(self, size: int, *, thin: bool) -> None:
        if not thin:
            self.vg = replace(self.vg, free_bytes=self.vg.free_bytes - size)
            return
        (pool,) = self.vg.thin_pools
        grown = replace(pool, virtual_size_bytes=pool.virtual_size_bytes + size)
        self.vg = replace(self.vg, thin_pools=(grown,))

    @invariant()
    def only_the_lack_of_room_refuses(self) -> None:
        assert self.codes <= {"pool-over-commit", "vg-too-small"}

    @invariant()
    def a_job_is_counted_once(self) -> None:
        """With all volumes made or still planned, the pool promises the same."""
        seen: Vg = with_reservations(Inventory((), (self.vg,)), reservations(self.jobs)).volume_groups[0]
        unmade = [job for job in self.unmade() if job.stage is not Stage.PROVEN]
        planned = sum(volume(job).size_bytes for job in unmade if volume(job).pool_uuid)
        (pool,), (before,) = seen.thin_pools, self.vg.thin_pools
        assert pool.virtual_size_bytes == before.virtual_size_bytes + planned


TestPlacement = Placement.TestCase
TestPlacement.settings = settings(max_examples=60, stateful_step_count=25)
