"""The volumes of a machine, active where it is started: they need not be after a reboot (design: §5)."""

from p2vd.jobs.job_target import JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.jobs.targets import find_target
from p2vd.jobs.waking import keep_awake
from p2vd.model.job import Job, Machine


def take_volumes(services: Services, machine: Machine) -> None:
    """Have the machine's volumes for the machine: nobody looks at them, and nobody puts them to rest.

    Call it off the bus's threads.
    """
    services.free_volumes(machine.uuid)
    for job in services.board.machine_jobs(machine):
        keep_awake(services, job)


def make_startable(services: Services, machine: Machine) -> None:
    """Have the machine's volumes ready for its domain: free of a boot test, and active on this host.

    Call it before the domain is started, off the bus's threads. Raises what `active_targets` raises.
    """
    take_volumes(services, machine)
    active_targets(services, machine)


def active_targets(services: Services, machine: Machine) -> tuple[JobTarget, ...]:
    """Return the volumes of the machine in the order of its disks, each active on this host now.

    With `target.autoactivate = false`, or where a LUN came later than the boot, nobody else has activated
    them. Only an LV with the job's tag and UUID is.
    Raises what `find_target` raises, and VgRefused, LvNotOurs, LvUnchanged, CommandFailed, ChangeUnknown.
    """
    return tuple(_active(services, job) for job in services.board.machine_jobs(machine))


def _active(services: Services, job: Job) -> JobTarget:
    target = find_target(services, job)
    if not isinstance(target, JobLv) or target.lv.active:
        return target
    return JobLv(target.vg, services.volumes.activate(target.lv, target.vg, job.uuid))
