"""LVs at rest that are activated to be looked at, by a verification or a boot test, and put to rest again.

The order is durable: the note in the job, the activation; the deactivation, the end of the note. So an LV
that is active without a note was not activated here, and the note says after a crash what is left to do.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace

from p2vd.jobs import old_worker
from p2vd.jobs.control import StillChanging
from p2vd.jobs.job_target import JobLv
from p2vd.jobs.services import Services
from p2vd.model.errors import DeviceInUse, P2vdError
from p2vd.model.job import Job
from p2vd.model.plan import LvTarget
from p2vd.provisioning.errors import VgStalled
from p2vd.system.clock import boot_id
from p2vd.system.command import CommandTimedOut
from p2vd.system.threads import NoThread, start

log = logging.getLogger(__name__)

_AGAIN_S = 2.0
_ROUNDS = 30

_PASSING = (StillChanging, VgStalled, CommandTimedOut)
"""What keeps an LV from being put to rest only for as long as a change takes."""


@contextlib.contextmanager
def awake(services: Services, job: Job, found: JobLv) -> Iterator[JobLv]:
    """Have the job's LV active; afterwards one that was at rest is so again, when nobody else looks at it.

    What is in the way of that is told in the log, and costs no result. A change that does not end is
    outwaited; for all else p2vd's next start tries again.
    Raises what reading the VG does, VgRefused, LvNotOurs, LvUnchanged, CommandFailed, ChangeUnknown.
    """
    looks, turn = services.looks, services.looks.turn(job.uuid)
    with turn:
        looks.users[job.uuid] += 1
    try:
        with turn:
            target = _wake(services, job, found)
        yield target
    finally:
        with turn:
            looks.users[job.uuid] -= 1
            if not looks.users[job.uuid]:
                _try_to_rest(services, job.uuid)


def _try_to_rest(services: Services, uuid: str) -> None:
    try:
        put_to_rest(services, uuid)
    except _PASSING as error:
        log.warning("job %s: its LV stays active till that is over: %s", uuid, error)
        services.looks.held_up(uuid)
    except P2vdError as error:
        log.warning("job %s: its LV stays active till p2vd's next start: %s", uuid, error)
    except Exception:  # the store's disk is full: the note stays, and what was seen counts all the same
        log.exception("job %s: its LV may stay active till p2vd's next start", uuid)


def _wake(services: Services, job: Job, found: JobLv) -> JobLv:
    vg = services.host.volume_group(found.vg.uuid)  # another look may have ended since it was found
    lv = vg.lv(found.lv.uuid) or found.lv
    if lv.active:
        return JobLv(vg, lv)
    services.board.change(job.uuid, lambda stored: replace(stored, woken_boot=boot_id()))
    return JobLv(vg, services.volumes.activate(lv, vg, job.uuid))


def keep_awake(services: Services, job: Job) -> None:
    """From now on the job's LV is active for its machine, if it is: nobody puts it to rest any more."""
    with services.looks.turn(job.uuid):
        _forget(services, job.uuid)


def put_to_rest(services: Services, uuid: str) -> None:
    """Deactivate the job's LV if p2vd has activated it for a look, in this boot, and it still is the job's.

    Its turn is held. Raises StillChanging, DeviceInUse (LVM refuses while anybody has it open), VgRefused,
    VgStalled, LvNotOurs, LvUnchanged, CommandFailed, CommandTimedOut, ChangeUnknown, and NotFound for the VG:
    the note stays then.
    """
    job = services.board.job(uuid)
    if not job.woken_boot:
        return
    if job.woken_boot == boot_id() and isinstance(job.plan.target, LvTarget):
        # An activation outlives whoever asked for it: the LV may be active in a moment.
        if running := [unit for unit in services.commands.running_changes() if uuid in unit]:
            raise StillChanging(running[0])
        vg = services.host.volume_group(job.plan.target.vg_uuid)
        lv = vg.lv(job.lv_uuid)
        if lv is None or f"p2vd.job={uuid}" not in lv.tags:
            log.warning("job %s: its LV %s is no longer in %s; nothing is done", uuid, job.lv_uuid, vg.name)
        elif lv.active:
            services.volumes.deactivate(lv, vg, uuid)
            told = f"{vg.name}/{lv.name}, which was activated to be read"
            log.info("job %s: %s, is at rest again", uuid, told)
    _forget(services, uuid)


def _forget(services: Services, uuid: str) -> None:
    if services.board.job(uuid).woken_boot:
        services.board.change(uuid, lambda stored: replace(stored, woken_boot=""))


class Recovery:
    """Puts to rest what could not be when it was read, on threads of its own.

    What an earlier daemon had activated to be read when it died; and from now on what this one has, and a
    change of its VG that does not end keeps active.
    """

    def __init__(self, services: Services, again_s: float = _AGAIN_S) -> None:
        self._services = services
        self._again_s = again_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._held_up: set[str] = set()
        self._outwaits = False
        services.looks.held_up = self.outwait
        self._thread = threading.Thread(target=self.run, name="put-to-rest", daemon=True)

    def start(self) -> None:
        """Begin, where there is anything to do."""
        if any(job.woken_boot for job in self._services.board.jobs()):
            self._thread.start()

    def stop(self) -> None:
        """Begin nothing more: what is left is noted, for the next start."""
        self._stop.set()

    def run(self) -> None:
        """Try until each LV is at rest: a process of the earlier daemon may still have it open."""
        left = [job.uuid for job in self._services.board.jobs() if job.woken_boot]
        for number in range(1, _ROUNDS + 1):
            last = number == _ROUNDS
            left = [uuid for uuid in left if not self._stop.is_set() and self._is_left(uuid, last)]
            if not left or self._stop.wait(self._again_s):
                return

    def outwait(self, uuid: str) -> None:
        """Put the job's LV to rest as soon as the change that is in the way has ended."""
        with self._lock:
            self._held_up.add(uuid)
            begins, self._outwaits = not self._outwaits, True
        if begins:
            try:
                start(self._outwait, "put-to-rest-later")
            except NoThread as error:
                log.warning("job %s: its LV stays active till p2vd's next start: %s", uuid, error)
                with self._lock:
                    self._outwaits = False

    def _outwait(self) -> None:
        while not self._stop.wait(self._again_s):
            with self._lock:
                uuids, self._held_up = self._held_up, set()
            still = {uuid for uuid in uuids if self._is_held_up(uuid)}
            with self._lock:
                self._held_up |= still
                self._outwaits = bool(self._held_up)
                if not self._outwaits:
                    return

    def _is_held_up(self, uuid: str) -> bool:
        """Try one; return whether the change still is in the way."""
        with self._services.looks.turn(uuid):
            if self._services.looks.users[uuid]:
                return True  # whoever looks at it puts it to rest, or cannot
            try:
                put_to_rest(self._services, uuid)
            except _PASSING:
                return True
            except P2vdError as error:
                log.warning("job %s: its LV stays active till p2vd's next start: %s", uuid, error)
            except Exception:  # of this one alone: the others' volumes are active, too
                log.exception("job %s: its LV may stay active till p2vd's next start", uuid)
        return False

    def _is_left(self, uuid: str, last: bool) -> bool:
        """Try one; return whether to try again. `last`: what somebody has open by then is theirs."""
        try:
            with self._services.looks.turn(uuid):
                return self._try(uuid, last)
        except Exception:  # of this one alone: the others' volumes are active, too
            log.exception("job %s: its LV may still be active, as it was to be read", uuid)
            return False

    def _try(self, uuid: str, last: bool) -> bool:
        if self._services.looks.users[uuid]:
            return True  # whoever looks at it puts it to rest, or cannot
        try:
            put_to_rest(self._services, uuid)
        except DeviceInUse:
            if last:
                self._leave(uuid)
            return True
        except P2vdError as error:
            if not last and isinstance(error, _PASSING):
                return True
            log.warning("job %s: its LV may still be active, as it was to be read: %s", uuid, error)
        return False

    def _leave(self, uuid: str) -> None:
        if (pid := old_worker.find(uuid, old_worker.VERIFIER)) is not None:
            log.warning("job %s: process %d of an earlier verification still has its LV open", uuid, pid)
            return
        path = self._services.board.job(uuid).plan.target.path
        log.warning(
            "job %s: %s was activated to be read, and somebody has it open: it stays active. When it is no "
            "longer needed: lvchange -an %s",
            *(uuid, path, path),
        )
        _forget(self._services, uuid)
