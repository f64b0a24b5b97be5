"""Undo points: a snapshot of a job's volume, to which the volume can be taken back (field: §3.7).

A thin volume's shares the pool's space; a thick one's is made as large as the volume with all that a
snapshot needs beside, so that it never overflows. It carries `p2vd.undo=JOB` and not `p2vd.job=JOB`: the
volume itself stays the only one with that. Whoever finds an undo point finds something unfinished.

Seen on LVM 2.03.16: a merge keeps the volume's UUID, tags and autoactivation. A thin one is made at once
while both are inactive. A thick one is made while the volume is active and not open, and lvconvert waits
for its end; of an inactive volume it is put off to the next activation, with exit status 0.
"""

import logging

from p2vd.model.lvm import Lv, Vg
from p2vd.model.size import format_size
from p2vd.model.undo import CHUNK_BYTES, thick_undo_bytes
from p2vd.provisioning.errors import LvAmbiguous, LvUnchanged, VgFull, VgRefused
from p2vd.provisioning.lvm import OnLate, Volumes
from p2vd.system.command import log_late

log = logging.getLogger(__name__)

UNDO_TAG = "p2vd.undo="
NAME_SUFFIX = "_p2vd_undo"


class UndoPoints:
    """The undo points of jobs, over their volumes. Thread-safe: it keeps no state.

    All raise VgRefused, LvNotOurs, CommandFailed, ChangeUnknown, and what the volumes' refresh raises.
    """

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    def find(self, vg: Vg, job_uuid: str) -> Lv | None:
        """Return the job's undo point, perhaps of before a crash. Raises LvAmbiguous."""
        found = [lv for lv in vg.lvs if f"{UNDO_TAG}{job_uuid}" in lv.tags]
        if len(found) > 1:
            raise LvAmbiguous(vg.name, ", ".join(sorted(lv.name for lv in found)), job_uuid)
        return found[0] if found else None

    def create(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> Lv:
        """Make the undo point of the job's volume, whose pool has room for it. Raises VgFull, LvUnchanged."""
        argv = ["lvcreate", *vg.device_arguments(), "--snapshot", *self._size(lv, vg), "--yes"]
        # Not skipped: after a merge it is the volume, and has to be activated at boot.
        argv += ["--setactivationskip", "n", "--addtag", f"{UNDO_TAG}{job_uuid}"]
        argv += ["--name", f"{lv.name}{NAME_SUFFIX}", f"{vg.name}/{lv.name}"]
        fresh = self._volumes.run(argv, lv, vg, job_uuid, "undo-create", on_late)
        undo = self.find(fresh, job_uuid)
        if undo is None:
            raise LvUnchanged(vg.name, lv.name, "what a snapshot was made of")
        log.info("job %s: undo point %s/%s", job_uuid, vg.name, undo.name)
        return undo

    def drop(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> None:
        """Remove the undo point: what was done to the volume stays. Raises LvUnchanged."""
        undo = self.find(vg, job_uuid)
        if undo is None:
            return
        argv = ["lvremove", *vg.device_arguments(), "--yes", "--select", _select(undo, vg, job_uuid), vg.name]
        fresh = self._volumes.run(argv, lv, vg, job_uuid, "undo-drop", on_late)
        if self.find(fresh, job_uuid) is not None:
            raise LvUnchanged(vg.name, undo.name, "removed")

    def merge(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> Lv:
        """Take the volume back to its undo point, and return it, active. Nobody may have it open.

        Raises DeviceInUse, LvUnchanged.
        """
        undo = self.find(vg, job_uuid)
        if undo is None:
            return lv
        # At rest: that fails while somebody has one of them open, and LVM would put the merge off.
        for each in (undo, lv):
            path = f"{vg.name}/{each.name}"
            rest = ["lvchange", *vg.device_arguments(), "--yes", "--activate", "n", path]
            vg = self._volumes.run(rest, lv, vg, job_uuid, "undo-rest", on_late)
        if not lv.pool:
            lv = self._volumes.activate(lv, vg, job_uuid, on_late)
        argv = ["lvconvert", *vg.device_arguments(), "--yes", "--merge", f"{vg.name}/{undo.name}"]
        fresh = self._volumes.run(argv, lv, vg, job_uuid, "undo-merge", on_late)
        back = fresh.lv(lv.uuid)
        if back is None or self.find(fresh, job_uuid) is not None:
            raise LvUnchanged(vg.name, lv.name, "what it was at its undo point")
        log.info("job %s: %s/%s is what it was at its undo point", job_uuid, vg.name, back.name)
        return self._volumes.activate(back, fresh, job_uuid, on_late)

    @staticmethod
    def _size(lv: Lv, vg: Vg) -> list[str]:
        """Return how large lvcreate shall make it; a thin one has no size."""
        if lv.pool:
            _check_pool(lv, vg)
            return []
        size = thick_undo_bytes(lv.size_bytes, vg.extent_size_bytes)
        if size > vg.free_bytes:
            said = (
                f"an undo point of {lv.name} takes {format_size(size)}, {format_size(vg.free_bytes)} are free"
            )
            raise VgFull(vg.name, f"{lv.name}{NAME_SUFFIX}", said)
        return ["--chunksize", f"{CHUNK_BYTES}b", "--size", f"{size}b"]


def _check_pool(lv: Lv, vg: Vg) -> None:
    """Refuse where LVM does not report the pool: whether it has room, the caller has seen."""
    if vg.pool(lv.pool) is None:
        raise VgRefused(vg.name, f"LVM reports no thin pool {lv.pool}, which {lv.name} is in.")


def _select(undo: Lv, vg: Vg, job_uuid: str) -> str:
    return f'vg_uuid={vg.uuid} && lv_uuid={undo.uuid} && lv_tags="{UNDO_TAG}{job_uuid}"'
