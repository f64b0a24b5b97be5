"""Boot tests: one a machine at a time, each on a thread of its own; what it saw is kept in the machine."""

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from p2vd.domain.definition import Definition
from p2vd.jobs.control import MustWait
from p2vd.jobs.cutover import options_of
from p2vd.jobs.definition import definition_of, devnode
from p2vd.jobs.job_target import JobFile, JobLv, JobTarget
from p2vd.jobs.services import Services
from p2vd.jobs.store import STORE_FAILURES
from p2vd.jobs.takers import taker
from p2vd.jobs.targets import find_target
from p2vd.jobs.volume_history import ran_now
from p2vd.jobs.waking import awake
from p2vd.model.boot_test import (
    BootDisk,
    BootMachine,
    BootReport,
    BootRequest,
    BootState,
    BootTest,
)
from p2vd.model.errors import IllegalTransition, InvalidArgument, P2vdError
from p2vd.model.job import Machine, MachineState
from p2vd.model.plan import VirtType
from p2vd.model.size import MIB, format_size
from p2vd.registration.errors import BootTestCannotRun, BootTestEnded, BootTestInterrupted, MachineRuns
from p2vd.system.clock import now_us
from p2vd.system.threads import join_all, start

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 300
MAX_TIMEOUT_S = 3600
_MIN_MEMORY_BYTES = 16 * MIB
_TESTABLE = (MachineState.READY, MachineState.REGISTERED, MachineState.ACCEPTED)
_STOP_S = 8.0
_AGAIN_S = 5.0
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Wish:
    """What a caller asks for, checked. `memory_bytes` 0: as much as the machine is defined with."""

    expect: str = ""
    timeout_s: int = DEFAULT_TIMEOUT_S
    memory_bytes: int = 0

    @classmethod
    def of(cls, options: Mapping[str, object]) -> "Wish":
        """Return what the options of a call say. Raises InvalidArgument."""
        wish = cls(
            str(options.get("expect", "")),
            _number(options, "timeout", DEFAULT_TIMEOUT_S),
            _number(options, "memory", 0),
        )
        try:
            re.compile(wish.expect)
        except re.error as error:
            raise InvalidArgument("option expect", f"it is no regular expression: {error}.") from error
        if not 1 <= wish.timeout_s <= MAX_TIMEOUT_S:
            raise InvalidArgument("option timeout", f"say a time between 1 and {MAX_TIMEOUT_S} seconds.")
        if wish.memory_bytes and wish.memory_bytes < _MIN_MEMORY_BYTES:
            raise InvalidArgument(
                "option memory", f"no machine starts with less than {format_size(_MIN_MEMORY_BYTES)}."
            )
        return wish


@dataclass
class _Running:
    """A test that runs now; `stop` ends it early."""

    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class BootTests:
    """Starts and ends them. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._stopped = False

    def recover(self) -> None:
        """Say of tests that an earlier daemon began that they saw nothing: they ended with it."""
        for machine in self._services.board.machines():
            if machine.boot_test is not None and machine.boot_test.state is BootState.RUNNING:
                try:
                    self._keep_failure(machine, BootTestInterrupted(machine.name))
                except STORE_FAILURES as error:  # a full disk keeps no daemon from its start
                    log.error("machine %s: how its boot test ended: %s", machine.name, error)  # noqa: TRY400

    def start(self, uuid: str, options: Mapping[str, object]) -> None:
        """Begin a test and return at once. Raises NotFound, IllegalTransition, InvalidArgument."""
        wish = Wish.of(options)
        machine = self._testable(uuid)
        with self._lock:
            if self._stopped or uuid in self._running:
                raise IllegalTransition(f"Machine {machine.name}", "being tested", "another boot test")
            running = self._running[uuid] = _Running()
        try:
            # Once more: who takes the volumes for the machine from here on, ends this one.
            machine = self._testable(uuid)
            self._keep(uuid, BootTest(BootState.RUNNING, now_us()))
            with self._lock:  # whoever ends it waits for its thread, or there is none
                if running.stop.is_set():
                    wanted = "wanted otherwise by now"
                    raise IllegalTransition(f"Machine {machine.name}", wanted, "a boot test")
                running.thread = start(partial(self._run, machine, wish, running), f"boot-test-{uuid[:8]}")
        except BaseException:  # the store's disk is full, or there are no threads: another may be asked for
            with self._lock:
                del self._running[uuid]
            with contextlib.suppress(Exception):
                self._services.board.change_machine(
                    uuid, lambda stored: replace(stored, boot_test=machine.boot_test)
                )
            raise

    def _testable(self, uuid: str) -> Machine:
        machine = self._services.board.machine(uuid)
        if machine.state not in _TESTABLE:
            raise IllegalTransition(f"Machine {machine.name}", machine.state.value, "a boot test")
        return machine

    def end(self, uuid: str, wait_s: float = _STOP_S) -> None:
        """End a machine's test, if one runs, and wait until its volumes are free; `wait_s` 0: only end it.

        What is to start the machine in earnest calls this first: a test locks the volumes.
        """
        with self._lock:  # one that is about to start sees it, or has its thread by now
            running = self._running.get(uuid)
            if running is None:
                return
            running.stop.set()
            thread = running.thread
        if thread is not None and wait_s:
            thread.join(wait_s)

    def stop(self, wait_s: float = _STOP_S) -> None:
        """End every test; none begins any more. Wait for all of them together at most so long.

        No more than eight seconds: one may be stuck in the kernel.
        """
        with self._lock:
            self._stopped = True
            for running in self._running.values():
                running.stop.set()
            threads = [running.thread for running in self._running.values() if running.thread is not None]
        join_all(threads, min(wait_s, _STOP_S))

    def _run(self, machine: Machine, wish: Wish, running: _Running) -> None:
        outcome: BootReport | P2vdError
        try:
            outcome = self._test(machine, wish, running.stop)
        except MustWait as error:  # no job is held by a test: it is asked for again
            outcome = BootTestCannotRun(machine.name, f"{error.why}.")
        except P2vdError as error:
            outcome = error
        except Exception as error:  # a defect of ours: whoever waits must not wait for ever
            log.exception("machine %s: the boot test failed", machine.name)
            fault = f"p2vd has a fault ({type(error).__name__}: {error})."
            outcome = BootTestEnded(machine.name, fault, "see journalctl -u p2vd.")
        while not self._kept(machine, outcome, running) and not running.stop.wait(_AGAIN_S):
            pass

    def _kept(self, machine: Machine, outcome: BootReport | P2vdError, running: _Running) -> bool:
        """Keep how a test ended; False where the store's disk is full, say: then it is not over yet."""
        with self._lock:  # before anybody hears of the end, and asks for another
            del self._running[machine.uuid]
        try:
            if isinstance(outcome, P2vdError):
                self._keep_failure(machine, outcome)
            else:
                self._keep_report(machine, outcome)
        except Exception:
            log.exception(
                "machine %s: how its boot test ended cannot be stored; it is tried again", machine.name
            )
            with self._lock:
                self._running[machine.uuid] = running
            return False
        return True

    def _test(self, machine: Machine, wish: Wish, stop: threading.Event) -> BootReport:
        services = self._services
        jobs = services.board.machine_jobs(machine)
        options = options_of(services, machine)
        if machine.domain_uuid and taker(services, options).is_running(machine.domain_uuid):
            services.board.change_machine(machine.uuid, ran_now)
            raise MachineRuns(machine.name, options.uri)
        found = [(job, find_target(services, job)) for job in jobs]
        with contextlib.ExitStack() as looks:
            targets = tuple(
                looks.enter_context(awake(services, job, target)) if isinstance(target, JobLv) else target
                for job, target in found
            )
            definition = definition_of(services, machine, targets)
            request = BootRequest(_as_defined(definition, targets, wish), wish.expect, wish.timeout_s)
            return services.boot_tester.run(request, stop)

    def _keep_report(self, machine: Machine, report: BootReport) -> None:
        try:
            screenshot = self._save_screen(machine, report.screen)
        except OSError as error:
            log.warning("machine %s: the picture of its screen cannot be kept: %s", machine.name, error)
            screenshot = ""
        state = BootState.BOOTED if report.booted else BootState.NOT_BOOTED
        log.info("machine %s: boot test: %s: %s", machine.name, state.value, report.seen)
        self._change(
            machine.uuid,
            lambda test: replace(
                test,
                state=state,
                ended_us=now_us(),
                sign=report.sign,
                seen=report.seen,
                serial=report.serial,
                screenshot=screenshot,
                accelerator=report.accelerator,
            ),
        )

    def _keep_failure(self, machine: Machine, error: P2vdError) -> None:
        log.error("machine %s: boot test: %s: %s", machine.name, error.name, error)
        self._change(
            machine.uuid,
            lambda test: replace(
                test, state=BootState.FAILED, ended_us=now_us(), seen=str(error), error=error.name
            ),
        )

    def _change(self, uuid: str, change: Callable[[BootTest], BootTest]) -> None:
        self._services.board.change_machine(
            uuid,
            lambda stored: replace(
                stored, boot_test=change(stored.boot_test or BootTest(BootState.RUNNING, now_us()))
            ),
        )

    def _keep(self, uuid: str, test: BootTest) -> None:
        self._change(uuid, lambda _: test)

    def _save_screen(self, machine: Machine, png: bytes) -> str:
        """Keep the picture, in place of the last test's; return its path."""
        if not png:
            return ""
        path = self._services.config.state_dir / "machines" / machine.uuid / "boot-test.png"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(png)
        return str(fresh.replace(path))


def _as_defined(definition: Definition, targets: tuple[JobTarget, ...], wish: Wish) -> BootMachine:
    """Return the machine to start: as it is defined, with the memory that was asked for.

    Raises InvalidArgument where that is more than the definition has.
    """
    if wish.memory_bytes > definition.memory_bytes:
        raise InvalidArgument(
            "option memory", f"the machine is defined with {format_size(definition.memory_bytes)}, no more."
        )
    by_devnode = {devnode(target): target for target in targets}
    # In the order of the definition, which need not be that of the jobs.
    shown = [(disk, by_devnode[disk.devnode]) for disk in definition.disks]
    return BootMachine(
        uuid=definition.uuid,
        name=definition.name,
        memory_bytes=wish.memory_bytes or definition.memory_bytes,
        vcpus=definition.topology.count,
        firmware=definition.firmware,
        bus=definition.disks[0].bus,
        disks=tuple(
            BootDisk(
                target.devnode,
                target.dm_name,
                disk.serial,
                disk.sector_size or _SECTOR_BYTES,
                disk.format.value,
                is_file=isinstance(target, JobFile),
            )
            for disk, target in shown
        ),
        kvm=definition.virt_type is VirtType.KVM,
        machine_type=definition.machine_type,
    )


def _number(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    if not isinstance(value, int):
        raise InvalidArgument(f"option {name}", "it is no number.")
    return value
