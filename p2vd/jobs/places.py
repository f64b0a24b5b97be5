"""What a plan has to know of the places where disks go, and discovery does not see."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from p2vd.jobs.board import Board
from p2vd.jobs.services import Services
from p2vd.model.directory import TargetDirectory
from p2vd.model.errors import NotFound, Refused
from p2vd.model.inventory import Inventory
from p2vd.model.job import MachineState, Stage
from p2vd.model.plan import FileTarget, LunTarget
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
    """Return the inventory with the directories to which these sources may go, and the disks that jobs have.

    `besides`: a job whose own claim does not count. `wait_s`: how long a call may wait for a directory; one
    that takes longer has as its problem that it is being looked at. None: as long as it takes.
    """
    wanted = _directories(services.policies(), inventory, source_ids, machine_name)
    return replace(
        inventory,
        directories=tuple(
            _with_names(services.board, _look(services, path, wait_s), besides) for path in wanted
        ),
        claims=claims(services.board, besides),
        origins=_origins(services.board),
    )


def _look(services: Services, path: str, wait_s: float | None) -> TargetDirectory:
    if wait_s is None:
        return services.image_files.look_at(path)
    return services.directory_looks.look(path, services.image_files.look_at, wait_s)


def claims(board: Board, besides: str = "") -> Mapping[str, str]:
    """Return the LUNs that jobs fill or have filled, by id, each with the job.

    Until it is cancelled, or its machine rolled back: then nobody needs what is there, and a plan takes it
    once it is empty.
    """
    return {
        job.plan.target.id: job.uuid
        for job in board.jobs()
        if isinstance(job.plan.target, LunTarget)
        and job.stage is not Stage.CANCELLED
        and job.uuid != besides
        and board.machine(job.machine_uuid).state is not MachineState.ROLLED_BACK
    }


def _origins(board: Board) -> Mapping[str, str]:
    """Return the disks that jobs copy from or have copied from, by id, each with the job.

    Until it is cancelled, or its machine accepted: before, and after a rollback, they are what there is.
    """
    return {
        job.plan.source.id: job.uuid
        for job in board.jobs()
        if job.stage is not Stage.CANCELLED
        and board.machine(job.machine_uuid).state is not MachineState.ACCEPTED
    }


def _with_names(board: Board, seen: TargetDirectory, besides: str) -> TargetDirectory:
    """Return a directory with the names that files get there when their disks are proven."""
    jobs = [job for job in board.jobs() if job.uuid != besides and not job.finished]
    targets = [job.plan.target for job in jobs if job.stage is not Stage.CANCELLED]
    names = {one.name for one in targets if isinstance(one, FileTarget) and one.directory == seen.path}
    return replace(seen, names=seen.names | names) if names else seen


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
