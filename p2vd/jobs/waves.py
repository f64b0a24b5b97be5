"""Waves: planned as one, started at their time, and their machines begun one after the other.

One thread begins machines. What it does is durable before and after each of them, so a wave goes on after a
restart where it was; and it begins each machine once.
"""

import logging
import threading
import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import replace

from p2vd.jobs.events import Event, InventoryChanged, MachineChanged
from p2vd.jobs.inventory_keeper import ScanFailed
from p2vd.jobs.planner import Planner, WaveStart
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.wave_planning import WavePlanning
from p2vd.model.errors import (
    IllegalTransition,
    InvalidArgument,
    NotFound,
    P2vdError,
    Reason,
    Refused,
)
from p2vd.model.job import Caller, Machine
from p2vd.model.wave import Fate, Wave, WaveEntry, WaveItem, WaveState
from p2vd.planning.contents import UNDER_EXAMINATION_CODE
from p2vd.planning.disk import POLICIES_UNREAD_CODE
from p2vd.planning.wave import SPACE, with_item
from p2vd.system.command import CommandTimedOut

log = logging.getLogger(__name__)

# The wall clock may be set meanwhile, and a sleep is not measured by it.
_LONGEST_SLEEP_S = 60.0
_STOP_S = 2.0
_RETRY_S = 5.0
_SECOND_US = 1_000_000
_OLD_US = 60 * _SECOND_US
_PASSING = SPACE | {UNDER_EXAMINATION_CODE, POLICIES_UNREAD_CODE, "inventory-stale"}
_OPEN = (Fate.READY, Fate.WAITS)
_ACTIVE = (WaveState.SCHEDULED, WaveState.RUNNING)


class Waves:
    """Thread-safe. `begin` has the jobs of a machine that was made go."""

    def __init__(self, services: Services, planner: Planner, begin: Callable[[Machine], None]) -> None:
        self._services = services
        self._store = services.store
        self._planner = planner
        self._begin = begin
        self._planning = WavePlanning(services, planner)
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="waves", daemon=True)

    # ---- life --------------------------------------------------------------------------------

    def go(self) -> None:
        """Go on with every wave that was under way, and from now on."""
        self._thread.start()

    def stop(self, wait_s: float = _STOP_S) -> None:
        """End; wait for it at most so long, and no more than two seconds. Waves stay where they are."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(min(wait_s, _STOP_S))

    def hear(self, event: Event) -> None:
        """Try what waits again where there may be room for it now. Cheap."""
        if isinstance(event, InventoryChanged | MachineChanged):
            self._wake.set()

    # ---- verbs -------------------------------------------------------------------------------

    def plan(self, entries: Sequence[WaveEntry]) -> Wave:
        """Return what would become of the machines, and keep it. Raises InvalidArgument, StillLooking."""
        return self._planning.plan(tuple(entries))

    def all(self) -> tuple[Wave, ...]:
        """Every wave that was planned, oldest first."""
        return self._store.waves()

    def start(self, wave_id: str, at_us: int, caller: Caller) -> Wave:
        """Have a wave start, at `at_us` or, 0, at once. Raises NotFound, IllegalTransition, Refused.

        One that is scheduled gets another time.
        """
        now = self._services.clock.now_us()
        if at_us and at_us < now - _OLD_US:
            raise InvalidArgument("option at", "that time is over.")
        with self._lock:
            wave = self._store.wave(wave_id)
            if wave.state not in (WaveState.PLANNED, WaveState.SCHEDULED):
                raise IllegalTransition(f"Wave {wave_id}", wave.state.value, "start")
            if not any(item.fate in _OPEN for item in wave.items):
                reasons = tuple(reason for item in wave.items for reason in item.reasons)
                raise Refused(f"Wave {wave_id}", tuple(dict.fromkeys(reasons)))
            wave = self._store.put_wave(
                replace(wave, state=WaveState.SCHEDULED, at_us=at_us, started_by=caller)
            )
        log.info("wave %s: %d machines, as uid %d wants", wave_id, len(wave.items), caller.uid)
        self._wake.set()
        return wave

    def cancel(self, wave_id: str, caller: Caller) -> Wave:
        """Begin no more machines of a wave; those begun go on. Raises NotFound, IllegalTransition."""
        with self._lock:
            wave = self._store.wave(wave_id)
            if wave.state not in _ACTIVE:
                raise IllegalTransition(f"Wave {wave_id}", wave.state.value, "cancel")
            wave = self._store.put_wave(replace(wave, state=WaveState.CANCELLED))
        log.info("wave %s: cancelled, as uid %d wants", wave_id, caller.uid)
        return wave

    # ---- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                wait_s = self._go_on()
            except STORE_FAILURES as error:
                log.error("waves: cannot go on: %s", error)  # noqa: TRY400 - the host lacks something
                wait_s = _RETRY_S
            except Exception:  # no defect of one must end all waves
                if self._stopped:  # it met what the daemon has closed
                    return
                log.exception("waves: cannot go on")
                wait_s = _RETRY_S
            # What wakes comes in crowds, and what waits has time.
            self._services.clock.sleep(wait_s, self._wake)

    def _go_on(self) -> float:
        """Begin what is due; return the seconds until there may be more."""
        waits = [_LONGEST_SLEEP_S]
        for wave in self._under_way():
            if not self._services.inventory.scanned:
                return 1.0
            left_s = (wave.at_us - self._services.clock.now_us()) / _SECOND_US
            if wave.state is WaveState.SCHEDULED and left_s > 0:
                waits.append(left_s)
                continue
            if self._set_running(wave.id) and self._run_wave(wave.id):
                waits.append(_RETRY_S)
        # An idle daemon does not wake: who starts a wave does that.
        return max(0.05, min(waits)) if self._under_way() else threading.TIMEOUT_MAX

    def _under_way(self) -> list[Wave]:
        return [wave for wave in self._store.waves() if wave.state in _ACTIVE]

    def _set_running(self, wave_id: str) -> bool:
        """Have a wave run that is still under way; False: it is not."""
        with self._lock:
            wave = self._store.wave(wave_id)
            if wave.state not in _ACTIVE:
                return False
            self._store.put_wave(replace(wave, state=WaveState.RUNNING))
            return True

    def _run_wave(self, wave_id: str) -> bool:
        """Begin its machines as far as they may; return whether some are only looked at."""
        soon = False
        for number in range(len(self._store.wave(wave_id).items)):
            if self._stopped:
                return False
            with self._lock:
                wave = self._store.wave(wave_id)
                item = wave.items[number]
                if wave.state is not WaveState.RUNNING:
                    return False
                if item.fate not in _OPEN:
                    continue
                if not item.machine_uuid:  # durable before there is a machine
                    item = replace(item, machine_uuid=str(uuids.uuid4()))
                    wave = self._store.put_wave(with_item(wave, number, item))
            begun, passing = self._begin_one(wave, item)
            soon = soon or passing
            with self._lock:
                # It may have been cancelled: the item's fate counts all the same.
                wave = self._store.wave(wave_id)
                if wave.items[number] != begun:
                    self._store.put_wave(with_item(wave, number, begun))
        with self._lock:
            wave = self._store.wave(wave_id)
            if wave.state is WaveState.RUNNING and not any(item.fate in _OPEN for item in wave.items):
                self._store.put_wave(replace(wave, state=WaveState.DONE))
                log.info("wave %s: all its machines are begun", wave_id)
        return soon

    def _begin_one(self, wave: Wave, item: WaveItem) -> tuple[WaveItem, bool]:
        """Begin one machine; return it as it stands now, and whether what it waits for passes soon."""
        try:
            machine = self._made(wave, item)
        except STORE_FAILURES:  # which tell nothing of the machine: the wave goes on from here
            raise
        except (ScanFailed, CommandTimedOut) as error:
            return replace(item, fate=Fate.WAITS, reasons=(Reason("host-busy", str(error)),)), True
        except P2vdError as error:
            reasons = _reasons(error)
            codes = {reason.code for reason in reasons}
            if codes <= _PASSING:
                return replace(item, fate=Fate.WAITS, reasons=reasons), not codes <= SPACE
            log.warning("wave %s: %s does not run: %s", wave.id, item.name, error)
            return replace(item, fate=Fate.REFUSED, reasons=reasons), False
        self._begin(machine)
        return replace(item, fate=Fate.STARTED, reasons=()), False

    def _made(self, wave: Wave, item: WaveItem) -> Machine:
        try:
            return self._services.board.machine(
                item.machine_uuid
            )  # made, and a crash came before that was noted
        except NotFound:
            start = WaveStart(item.machine_uuid, item.priority)
            return self._planner.make_machine(item.plan_id, wave.started_by, start)


def _reasons(error: P2vdError) -> tuple[Reason, ...]:
    """All that speaks against a machine; a plan that would be refused now says why."""
    for one in (error, error.__cause__):
        if isinstance(one, Refused):
            return one.reasons
    return (Reason(error.name, str(error)),)
