"""Makes, tags, activates and removes the logical volumes of jobs (design: §4.6 to §4.8).

Seen on LVM 2.03.16, which the code rests on:
- `lvcreate --thin` refuses `--zero` and `--setautoactivation` (exit 3); the pool's own setting zeroes.
- `lvchange` and `lvremove` take `--select` beside a VG's name, select by vg_uuid, lv_uuid and tag at
  once, and exit 0 where nothing matches. So each change is checked in a report read afterwards.
- `lvchange` with what already is so exits 0: every step here may be repeated after a crash.
"""

import logging
from collections.abc import Callable

from p2vd.model.errors import DeviceInUse
from p2vd.model.lvm import GENERATION_TAG, INCOMPLETE_TAG, JOB_TAG, Lv, ThinPool, Vg
from p2vd.model.plan import LvTarget, Provisioning
from p2vd.provisioning.errors import (
    LvAmbiguous,
    LvNameTaken,
    LvNotOurs,
    LvUnchanged,
    PoolGone,
    VgFull,
    VgRefused,
)
from p2vd.provisioning.late import LateChanges
from p2vd.system.command import ChangeUnknown, CommandFailed, Commands, log_late

log = logging.getLogger(__name__)

_SHARED_LOCKS = ("sanlock", "dlm", "idm")

OnLate = Callable[[str], None]


class Volumes:
    """The LVs of jobs. Every change names the job: only what carries its tag and UUID is touched.

    `refresh` returns the VG of a UUID as LVM reports it now and raises NotFound for none. Thread-safe:
    it keeps no state but the changes that are `late`. That one VG takes one change at a time is LVM's lock.

    Beside what each method names, all raise what `refresh` raises, CommandFailed and ChangeUnknown, and
    VgStalled while another change of the VG does not end.
    """

    def __init__(
        self, commands: Commands, refresh: Callable[[str], Vg], late: LateChanges | None = None
    ) -> None:
        self._commands = commands
        self._refresh = refresh
        self.late = LateChanges(commands.running_changes) if late is None else late

    def adopt(self, job_uuid: str, vg: Vg) -> Lv | None:
        """Return the LV in `vg` that this job made, perhaps before a crash. Raises LvAmbiguous."""
        found = [lv for lv in vg.lvs if _job_tag(job_uuid) in lv.tags]
        if len(found) > 1:
            raise LvAmbiguous(vg.name, ", ".join(sorted(lv.name for lv in found)), job_uuid)
        return found[0] if found else None

    def create(self, job_uuid: str, target: LvTarget, vg: Vg, on_late: OnLate = log_late) -> None:
        """Make the LV, active, with its tags, in one command; `adopt` finds it in the next report.

        Raises VgRefused, LvNameTaken, VgFull.
        """
        self._check(vg)
        self._check_owner(vg, target)
        if any(lv.name == target.lv_name for lv in vg.lvs):
            raise LvNameTaken(vg.name, target.lv_name)
        argv = ["lvcreate", *vg.device_arguments(), *_space(target), "--name", target.lv_name]
        # Active (no -an): only then LVM zeroes the start and wipes old signatures.
        argv += ["--wipesignatures", "y", "--yes"]
        argv += ["--addtag", _job_tag(job_uuid), "--addtag", INCOMPLETE_TAG, vg.name]
        try:
            self._begin(argv, vg, f"{job_uuid}-create", on_late)
        except CommandFailed as error:
            if "already exists in volume group" in error.stderr:
                raise LvNameTaken(vg.name, target.lv_name) from error
            if "insufficient free space" in error.stderr or "insufficient suitable" in error.stderr:
                raise VgFull(vg.name, target.lv_name, " ".join(error.stderr.split())) from error
            raise

    def settle(self, lv: Lv, vg: Vg, job_uuid: str, generation: int, on_late: OnLate = log_late) -> Lv:
        """Switch autoactivation off and bind `generation` by a tag, in place of an earlier one.

        Raises VgRefused, LvNotOurs, LvUnchanged.
        """
        wanted = f"{GENERATION_TAG}{generation}"
        generations = {tag for tag in lv.tags if tag.startswith(GENERATION_TAG)}
        if generations == {wanted} and not lv.autoactivation:
            return lv
        options = ["--setautoactivation", "n", "--addtag", wanted]
        for stale in sorted(generations - {wanted}):
            options += ["--deltag", stale]
        fresh = self._change(lv, vg, job_uuid, "settle", options, on_late)
        if fresh.autoactivation or wanted not in fresh.tags:
            raise LvUnchanged(vg.name, fresh.name, f"tagged {wanted} with autoactivation off")
        return fresh

    def activate(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> Lv:
        """Make the LV's device appear. Raises VgRefused, LvNotOurs, LvUnchanged."""
        fresh = self._change(lv, vg, job_uuid, "activate", ["--activate", "y"], on_late)
        if not fresh.active:
            raise LvUnchanged(vg.name, fresh.name, "active")
        return fresh

    def deactivate(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> Lv:
        """Take the LV's device away. Raises DeviceInUse, VgRefused, LvNotOurs, LvUnchanged."""
        fresh = self._change(lv, vg, job_uuid, "deactivate", ["--activate", "n"], on_late)
        if fresh.active:
            raise LvUnchanged(vg.name, fresh.name, "inactive")
        return fresh

    def finish(self, lv: Lv, vg: Vg, job_uuid: str, autoactivate: bool, on_late: OnLate = log_late) -> Lv:
        """Take `p2vd.incomplete` off and set autoactivation as policy says; `p2vd.job` stays.

        Only after `proven` is durable. Raises VgRefused, LvNotOurs, LvUnchanged.
        """
        if INCOMPLETE_TAG not in lv.tags and lv.autoactivation == autoactivate:
            return lv
        options = ["--deltag", INCOMPLETE_TAG, "--setautoactivation", "y" if autoactivate else "n"]
        fresh = self._change(lv, vg, job_uuid, "finish", options, on_late)
        if INCOMPLETE_TAG in fresh.tags or fresh.autoactivation != autoactivate:
            raise LvUnchanged(vg.name, fresh.name, f"free of the tag {INCOMPLETE_TAG}")
        return fresh

    def remove(self, lv: Lv, vg: Vg, job_uuid: str, on_late: OnLate = log_late) -> None:
        """Remove the LV with all it holds. Raises DeviceInUse, VgRefused, LvNotOurs, LvUnchanged."""
        self._own(lv, vg, job_uuid)
        argv = ["lvremove", *vg.device_arguments(), "--yes", "--select", _select(lv, vg, job_uuid), vg.name]
        self._run(argv, lv, vg, f"{job_uuid}-remove", on_late)
        if self._refresh(vg.uuid).lv(lv.uuid) is not None:
            raise LvUnchanged(vg.name, lv.name, "removed")

    def extend_pool(self, target: LvTarget, option: str, size_bytes: int, on_late: OnLate = log_late) -> Vg:
        """Extend the thin pool of `target` to `size_bytes`: `-L` its data, `--poolmetadatasize` its metadata.

        Does nothing where it has that size already. lvextend knows no `--select`: the pool is named, as
        LVM reported it by its UUID just before. Raises VgRefused, VgFull, PoolGone.
        """
        vg = self._refresh(target.vg_uuid)
        self._check(vg)
        self._check_owner(vg, target)
        pool = _pool_of(vg, target)
        if _size(pool, option) >= size_bytes:
            return vg
        argv = [
            "lvextend",
            *vg.device_arguments(),
            "--yes",
            option,
            f"{size_bytes}b",
            f"{vg.name}/{pool.name}",
        ]
        try:
            self._begin(argv, vg, f"{pool.uuid}-extend", on_late)
        except CommandFailed as error:
            fresh = self._refresh(target.vg_uuid)
            if _size(_pool_of(fresh, target), option) >= size_bytes:
                return fresh  # dmeventd or somebody else came first
            if "nsufficient free space" in error.stderr or "nsufficient suitable" in error.stderr:
                raise VgFull(vg.name, pool.name, " ".join(error.stderr.split())) from error
            raise
        return self._refresh(target.vg_uuid)

    def run(
        self, argv: list[str], lv: Lv, vg: Vg, job_uuid: str, verb: str, on_late: OnLate = log_late
    ) -> Vg:
        """Run a change that is about the job's LV, and return its VG as LVM reports it afterwards.

        Raises DeviceInUse, VgRefused, LvNotOurs.
        """
        self._own(lv, vg, job_uuid)
        self._run(argv, lv, vg, f"{job_uuid}-{verb}", on_late)
        return self._refresh(vg.uuid)

    def _change(self, lv: Lv, vg: Vg, job_uuid: str, verb: str, options: list[str], on_late: OnLate) -> Lv:
        """Run lvchange on the job's LV and return it as LVM reports it afterwards."""
        self._own(lv, vg, job_uuid)
        selection = ["--select", _select(lv, vg, job_uuid)]
        argv = ["lvchange", *vg.device_arguments(), "--yes", *options, *selection, vg.name]
        self._run(argv, lv, vg, f"{job_uuid}-{verb}", on_late)
        fresh = self._refresh(vg.uuid).lv(lv.uuid)
        if fresh is None or _job_tag(job_uuid) not in fresh.tags:
            raise LvNotOurs(vg.name, f"{lv.name} ({lv.uuid})", job_uuid)
        return fresh

    def _run(self, argv: list[str], lv: Lv, vg: Vg, unit: str, on_late: OnLate) -> None:
        try:
            self._begin(argv, vg, unit, on_late)
        except CommandFailed as error:
            if " in use." in error.stderr or "is used by another device" in error.stderr:
                said = " ".join(error.stderr.split())
                raise DeviceInUse(
                    f"/dev/{vg.name}/{lv.name}", f"another process (LVM says {said!r})"
                ) from error
            raise

    def _begin(self, argv: list[str], vg: Vg, unit: str, on_late: OnLate) -> None:
        """Run a change of the VG to its end, unless another one does not end."""

        def late(unit: str) -> None:
            self.late.add(vg.uuid, unit)
            on_late(unit)

        self.late.refuse(vg)
        try:
            self._commands.change(argv, unit=unit, on_late=late)
        except ChangeUnknown:
            self.late.leave(vg.uuid, unit)
            raise
        finally:
            self.late.end(unit)

    def _own(self, lv: Lv, vg: Vg, job_uuid: str) -> None:
        self._check(vg)
        if _job_tag(job_uuid) not in lv.tags:
            raise LvNotOurs(vg.name, f"{lv.name} ({lv.uuid})", job_uuid)

    def _check(self, vg: Vg) -> None:
        """Refuse a VG whose metadata a change could leave inconsistent (design: §4.7)."""
        if not vg.pvs:
            raise VgRefused(vg.name, "LVM reports no physical volume of it. Look at pvs, then rescan.")
        if vg.missing_pv_count or any(pv.missing for pv in vg.pvs):
            raise VgRefused(
                vg.name,
                f"{max(vg.missing_pv_count, 1)} of its physical volumes are missing, and LVM would write "
                "metadata without them. Bring their LUNs back (pvs, multipath -ll), then retry the job.",
            )
        if twins := [pv.device for pv in vg.pvs if pv.duplicate]:
            raise VgRefused(
                vg.name,
                f"there is a second device with the identity of {', '.join(twins)} (a snapshot or clone "
                "of the LUN?). Detach one of them, then retry the job.",
            )
        if vg.exported:
            raise VgRefused(vg.name, "it is exported. Run vgimport on the host that is to own it.")
        if vg.clustered:
            raise VgRefused(
                vg.name, "it is of the clvm kind, which LVM no longer locks. See vgchange --locktype."
            )

    def _check_owner(self, vg: Vg, target: LvTarget) -> None:
        """Refuse a VG that another host may change at the same time (design: §4.7)."""
        if vg.lock_type in _SHARED_LOCKS:
            return
        if vg.system_id:
            # "  system ID: NAME"; nothing after the colon where the host has none.
            own = self._commands.query(["lvm", "systemid"]).stdout.partition(":")[2].strip()
            if own != vg.system_id:
                raise VgRefused(
                    vg.name,
                    f"it belongs to the host with LVM system ID {vg.system_id!r}; this one has {own!r}. "
                    "Hand it over there (vgchange --systemid), then make a new plan.",
                )
        elif not target.single_host:
            raise VgRefused(
                vg.name,
                "nothing keeps another host from changing it: it is neither shared by lvmlockd nor has a "
                "system ID. Give it one, or say single_host = true in the policy if only this host uses it.",
            )


def _pool_of(vg: Vg, target: LvTarget) -> ThinPool:
    pool = next((pool for pool in vg.thin_pools if pool.uuid == target.pool_uuid), None)
    if pool is None:
        raise PoolGone(vg.name, target.pool_name, target.pool_uuid)
    return pool


def _size(pool: ThinPool, option: str) -> int:
    return pool.size_bytes if option == "-L" else pool.metadata_size_bytes


def _job_tag(job_uuid: str) -> str:
    return f"{JOB_TAG}{job_uuid}"


def _select(lv: Lv, vg: Vg, job_uuid: str) -> str:
    # The VG's UUID too: its name may have gone to another VG since it was read.
    return f'vg_uuid={vg.uuid} && lv_uuid={lv.uuid} && lv_tags="{_job_tag(job_uuid)}"'


def _space(target: LvTarget) -> list[str]:
    if target.provisioning is Provisioning.THIN:
        return ["--virtualsize", f"{target.size_bytes}b", "--thin", "--thinpool", target.pool_name]
    return ["--size", f"{target.size_bytes}b", "--zero", "y"]
