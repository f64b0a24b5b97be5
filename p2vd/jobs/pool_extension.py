"""Extends thin pools that run short, as far as the policy of the jobs in them says.

A pool has one extension at a time, on a thread of its own: a copy's messages are read meanwhile. Nothing is
kept over a restart: what is needed is measured again, and an lvextend that an earlier daemon began outlives
it and is waited for, so a need is never met twice.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from p2vd.jobs.pool_watch import METADATA_BLOCK_BYTES, PoolWatch
from p2vd.model.errors import P2vdError, Reason
from p2vd.model.job import Job
from p2vd.model.lvm import ThinPool, Vg
from p2vd.model.plan import LvTarget, PoolExtension
from p2vd.model.size import format_size
from p2vd.planning.extension import PoolGrowth, growth
from p2vd.provisioning.lvm import Volumes
from p2vd.system.clock import Clock
from p2vd.system.command import Commands
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

_POLL_S = 2.0
# What could not be done is not tried again for so long: the cause is said meanwhile.
_PATIENCE_S = 60.0

Record = Callable[[Job, str, str, str], None]
"""Records for the audit, of a job, what was done to which pool, its outcome and a sentence."""


@dataclass
class _State:
    """Of one pool: whether an extension runs, and what is to be said about the last one."""

    running: bool = False
    said: str = ""
    again_s: float = 0.0


class PoolExtender:
    """Thread-safe."""

    def __init__(
        self,
        commands: Commands,
        volumes: Volumes,
        volume_group: Callable[[str], Vg],
        pools: PoolWatch,
        record: Record,
        clock: Clock,
    ) -> None:
        """`record` raises where a beginning cannot be recorded: then nothing is extended."""
        self._commands = commands
        self._volumes = volumes
        self._volume_group = volume_group
        self._pools = pools
        self._record = record
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, _State] = {}

    def want(self, job: Job) -> str:
        """Have the pool of a job that is short extended, if its policy says so. Returns what to say of it.

        Never waits: what was done is seen when the pool is measured next.
        """
        policy, target = job.plan.copy.pool_extension, job.plan.target
        if policy is None or not isinstance(target, LvTarget) or not target.pool_uuid:
            return ""
        pool_uuid = target.pool_uuid
        with self._lock:
            state = self._states.setdefault(pool_uuid, _State())
            if not state.running and self._clock.monotonic() >= state.again_s:
                state.running = True
                try:
                    start(partial(self._run, job, target, policy, state), f"extend-{pool_uuid[:6]}")
                except NoThread as error:
                    state.running, state.said = False, f"p2vd could not extend it: {error}"
            return state.said

    def _run(self, job: Job, target: LvTarget, policy: PoolExtension, state: _State) -> None:
        said = ""
        try:
            said = self._extend(job, target, policy, state)
        except P2vdError as error:
            said = f"p2vd could not extend it: {error}"
        except OSError as error:
            said = f"p2vd could not extend it: {error.strerror or error}."
        except Exception as error:  # a defect of ours: the job waits as it would without a policy
            log.exception("job %s: its pool is not extended", job.uuid)
            said = f"p2vd has a fault ({type(error).__name__}: {error}): see journalctl -u p2vd."
        with self._lock:
            if said and said != state.said:
                log.warning("job %s: %s", job.uuid, said)
            state.said = said
            state.again_s = self._clock.monotonic() + (_PATIENCE_S if said else 0.0)
            state.running = False

    def _extend(self, job: Job, target: LvTarget, policy: PoolExtension, state: _State) -> str:
        """Meet the need, if there is one. Returns why not, where it cannot be met."""
        while earlier := [unit for unit in self._commands.running_changes() if target.pool_uuid in unit]:
            self._late(state, earlier[0])
            self._clock.sleep(_POLL_S, threading.Event())  # of an earlier daemon
        vg = self._volume_group(target.vg_uuid)
        self._volumes.late.refuse(vg)  # before it is recorded as begun, once a minute
        pool = next((pool for pool in vg.thin_pools if pool.uuid == target.pool_uuid), None)
        if pool is None:
            return f"The thin pool {target.vg_name}/{target.pool_name} is gone."
        pool = self._measured(vg, pool)
        shortage = self._pools.shortage(vg, pool)
        if shortage is None:
            return ""  # somebody has extended it meanwhile, or the need is gone
        wanted = growth(policy, vg, pool, shortage)
        if isinstance(wanted, Reason):
            return wanted.text
        return self._carry_out(job, target, vg, pool, wanted, partial(self._late, state))

    def _measured(self, vg: Vg, pool: ThinPool) -> ThinPool:
        """Return the pool with the size of its metadata, which LVM does not report in each version."""
        if pool.metadata_size_bytes:
            return pool
        blocks = self._pools.status(vg, pool).total_metadata_blocks
        return replace(pool, metadata_size_bytes=blocks * METADATA_BLOCK_BYTES)

    def _carry_out(
        self,
        job: Job,
        target: LvTarget,
        vg: Vg,
        pool: ThinPool,
        wanted: PoolGrowth,
        late: Callable[[str], None],
    ) -> str:
        name = f"{vg.name}/{pool.name}"
        what = (
            f"the {wanted.shortage.name.lower()} of the thin pool {name} to {format_size(wanted.size_bytes)}"
        )
        self._record(job, name, "begun", f"Extends {what}, as the policy {job.plan.policy!r} says.")
        log.info("job %s: extends %s", job.uuid, what)
        try:
            self._volumes.extend_pool(target, wanted.shortage.value, wanted.size_bytes, late)
        except P2vdError as error:
            self._record(job, name, error.name, str(error))
            raise
        self._record(job, name, "extended", f"Extended {what}.")
        return ""

    def _late(self, state: _State, unit: str) -> None:
        with self._lock:
            state.said = (
                f"The command that extends it, in p2vd-change-{unit}.service, does not end; it is not killed."
            )
