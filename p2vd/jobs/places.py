"""What a plan has to know of the places where disks go, and discovery does not see."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from p2vd.jobs.services import Services
from p2vd.model.directory import TargetDirectory
from p2vd.model.errors import NotFound, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Stage
from p2vd.model.plan import LunTarget
from p2vd.policy.match import first_match
from p2vd.policy.model import PolicySet
from p2vd.policy.names import default_machine_name

CALL_S = 0.1
"""How long a call waits for a directory: it is answered within a second, and waits for disks too."""


def with_places(
    services: Services,
    inventory: Inventory,
    source_ids: Iterable[str],
    machine_name: str,
    *,
    besides: str = "",
    wait_s: float | None = None,
) -> Inventory:
    """Return the inventory with the directories to which these sources may go, and the LUNs that jobs have.

    `besides`: a job whose own claim does not count. `wait_s`: how long a call may wait for a directory; one
    that takes longer has as its problem that it is being looked at. None: as long as it takes.
    """
    wanted = _directories(services.policies(), inventory, source_ids, machine_name)
    return replace(
        inventory,
        directories=tuple(_look(services, path, wait_s) for path in wanted),
        claims=claims(services.board.jobs(), besides),
    )


def _look(services: Services, path: str, wait_s: float | None) -> TargetDirectory:
    if wait_s is None:
        return services.image_files.look_at(path)
    return services.directory_looks.look(path, services.image_files.look_at, wait_s)


def claims(jobs: Iterable[Job], besides: str = "") -> Mapping[str, str]:
    """Return the LUNs that jobs fill or have filled, by id, each with the job: until it is cancelled."""
    return {
        job.plan.target.id: job.uuid
        for job in jobs
        if isinstance(job.plan.target, LunTarget) and job.stage is not Stage.CANCELLED and job.uuid != besides
    }


def _directories(
    policies: PolicySet, inventory: Inventory, source_ids: Iterable[str], machine_name: str
) -> tuple[str, ...]:
    found = {}
    for source_id in source_ids:
        try:
            source = inventory.source(source_id)
        except (NotFound, Refused):
            continue  # the plan says why
        rule = first_match(policies, source, machine_name or default_machine_name(source))
        if rule is not None and rule.target.files is not None:
            found[rule.target.files.directory] = True
    return tuple(found)
