"""Who uses a LUN: before its session may be ended or its map flushed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from p2vd.jobs.host_maps import IN_USE, target_maps
from p2vd.model.disk import ScsiPath, Source
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.job import Job, Stage
from p2vd.model.plan import LvTarget
from p2vd.policy.model import PolicySet

_NAMED = 5
_PARTITION = re.compile(r"(p|-part)?\d+")
_ENDED = frozenset({Stage.PROVEN, Stage.CANCELLED})


@dataclass(eq=False)
class PortalInUse(P2vdError):
    """A portal's LUNs are in use, so its sessions stay."""

    portal: str
    users: tuple[str, ...]
    template: ClassVar[str] = ""

    def __str__(self) -> str:
        more = f" And {len(self.users) - _NAMED} more." if len(self.users) > _NAMED else ""
        return (
            f"The portal {self.portal} stays, its disks are in use: {' '.join(self.users[:_NAMED])}{more} "
            "End that use, then remove the portal again."
        )


@dataclass(frozen=True)
class LunUse:
    """What is known of use at one moment. `open_counts`: of device-mapper devices, by name."""

    inventory: Inventory
    policies: PolicySet
    jobs: Sequence[Job]
    open_counts: Mapping[str, int]
    claims: Mapping[str, str] = field(default_factory=dict)

    def of(self, source: Source) -> tuple[str, ...]:
        """Return who uses a disk, each a sentence; none where nobody does."""
        users = [reason.text for reason in source.reasons if reason.code in IN_USE]
        users += [
            f"Job {job.uuid} copies {source.id} and is {job.stage.value}."
            for job in self.jobs
            if job.plan.source.id == source.id and job.stage not in _ENDED
        ]
        devices = (source.devnode, f"/dev/mapper/{source.name}")
        if job_uuid := self.claims.get(source.id):
            users.append(f"{source.id} is the target of job {job_uuid}.")
        for vg in self.inventory.volume_groups:
            if not any(_is_on(pv.device, device) for pv in vg.pvs for device in devices):
                continue
            users += [
                f"Job {job.uuid} writes to the volume group {vg.name} on {source.id}."
                for job in self.jobs
                if isinstance(job.plan.target, LvTarget)
                and job.plan.target.vg_uuid == vg.uuid
                and job.stage not in _ENDED
            ]
            if vg.system_id and vg.system_id == self.inventory.system_id:
                users.append(f"{source.id} is a physical volume of this host's volume group {vg.name}.")
        if source.dm_uuid and source.dm_uuid in target_maps(self.inventory, self.policies):
            users.append(f"A policy names the volume group on {source.id} as a target.")
        # Plain opens, such as a virtual machine's, show nowhere else.
        if not users and source.dm_uuid and self.open_counts.get(source.name, 0):
            users.append(f"{source.id} ({source.name}) is open {self.open_counts[source.name]} times.")
        return tuple(dict.fromkeys(users))


def paths_by(source: Source, hosts: frozenset[str]) -> tuple[str, ...]:
    """Return the devices of a disk's paths by one of the SCSI hosts (`host6`)."""
    return tuple(path.device for path in source.paths if path.host in hosts)


def carrying(source: Source) -> tuple[ScsiPath, ...]:
    """Return the paths that I/O goes by: of a map those that multipathd says are in it.

    None where it gave no answer: then no path can be relied on.
    """
    return tuple(path for path in source.paths if path.group or not source.dm_uuid)


def _is_on(device: str, disk: str) -> bool:
    """Whether `device` is the disk or a partition of it."""
    return device.startswith(disk) and (device == disk or bool(_PARTITION.fullmatch(device[len(disk) :])))
