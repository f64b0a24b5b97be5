"""What an entry of the audit is found by: from an id in a call to the disks and the machine it concerns."""

from p2vd.jobs.store import Store
from p2vd.model.audit import About, Subject
from p2vd.model.errors import NotFound
from p2vd.model.job import Job, Machine
from p2vd.model.plan import DiskPlan


def about(store: Store, subject: Subject) -> About:
    """Return all that the store knows of `subject`; of what it does not know, what was said."""
    try:
        if subject.job:
            return about_job(store, store.job(subject.job))
        if subject.machine:
            return about_machine(store, store.machine(subject.machine))
        if subject.plan:
            plan = store.plan(subject.plan)
            return About(wwids=tuple(map(_disk, plan.disks)), machine_name=plan.machine_name, plan=plan.id)
    except NotFound:
        pass  # an id that is none is what was asked for
    jobs = (subject.job,) if subject.job else ()
    return About(jobs, subject.sources, subject.machine, plan=subject.plan)


def about_job(store: Store, job: Job) -> About:
    """Of a job: its disk and its machine."""
    plan = job.plan
    try:
        name = store.machine(job.machine_uuid).name
    except NotFound:
        name = plan.machine_name
    return About((job.uuid,), (_disk(plan),), job.machine_uuid, name, plan.id)


def about_machine(store: Store, machine: Machine) -> About:
    """Of a machine: all its jobs and disks."""
    jobs = [store.job(uuid) for uuid in machine.jobs]
    wwids = tuple(_disk(job.plan) for job in jobs)
    return About(machine.jobs, wwids, machine.uuid, machine.name, machine.plan_id)


def _disk(plan: DiskPlan) -> str:
    return plan.source.wwid or plan.source.id
