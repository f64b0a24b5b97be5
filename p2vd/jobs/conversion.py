"""The conversion of a machine's guest, between its last proven disk and its definition.

Every volume gets an undo point first. The machine's `converted` is durable before the undo points go; so
- undo points of a machine that is not converted: a conversion that was cut off. It is awaited where it
  still runs, the volumes are taken back, and it is done again;
- undo points of a machine that is: what is left of its end. They go.
A failure takes the volumes back to the bytes that were copied and proven: it never costs a copy. What was
converted counts only once the disks keep it (design: §4.5): from then on there is no way back.
"""

import logging
import threading
from dataclasses import replace

from p2vd.jobs import undo_room
from p2vd.jobs.control import Interrupted, TryAgain
from p2vd.jobs.job_target import JobLv
from p2vd.jobs.services import Services
from p2vd.jobs.targets import find_target, read_vg
from p2vd.model.errors import IllegalTransition, P2vdError
from p2vd.model.job import Job, Machine
from p2vd.model.plan import LvTarget
from p2vd.provisioning.undo import UndoPoints
from p2vd.registration.conversion import Converter, flush_unit_of, unit_of
from p2vd.system import durable
from p2vd.system.command import ChangeUnknown

log = logging.getLogger(__name__)

_POLL_S = 2.0


class GuestConversion:
    """Converts the guest of one machine. Each step may be cut off at any line and done again."""

    def __init__(
        self, services: Services, machine: Machine, converter: Converter, stop: threading.Event
    ) -> None:
        self._services = services
        self._machine = machine
        self._converter = converter
        self._stop = stop
        self._undo = UndoPoints(services.volumes)
        self._jobs = services.board.machine_jobs(machine)

    def convert(self, definition: str) -> None:
        """Convert the guest on the disks of a libvirt definition, once. Idempotent.

        Raises ConverterMissing, ConversionFailed, ConversionLost, ChangeUnknown (it still runs: call again),
        Interrupted, what `find_target` raises, and what LVM refuses.
        """
        self._keep_room()
        self._await_earlier()
        machine = self._services.board.machine(self._machine.uuid)
        if not machine.converted:
            self._converter.program()  # before anything is made
            self._take_back()
            self._convert(definition)
        for job in self._jobs:
            target = self._target(job)
            self._undo.drop(target.lv, target.vg, job.uuid)
            undo_room.free(self._services, job)

    def _convert(self, definition: str) -> None:
        machine = self._machine
        path = self._services.config.state_dir / "machines" / machine.uuid / "convert.xml"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.replace(path, definition, 0o600)
        try:
            for job in self._jobs:  # of all disks first: half of them are no use
                undo_room.hold(self._services, job, self._active(job))
            for job in self._jobs:
                target = self._target(job)
                self._undo.create(target.lv, target.vg, job.uuid)
            log.info("machine %s: its guest is converted", machine.name)
            self._converter.run(machine.name, machine.uuid, path)
            for job in self._jobs:
                self._converter.flush(machine.name, machine.uuid, self._target(job).devnode)
        except ChangeUnknown:
            raise  # it may still write, or have a volume open: nothing is taken back beneath it
        except P2vdError:
            self._take_back()
            raise
        self._services.board.change_machine(machine.uuid, lambda stored: replace(stored, converted=True))

    def _take_back(self) -> None:
        """Take every volume that has an undo point back to it."""
        for job in self._jobs:
            target = self._target(job)
            self._undo.merge(target.lv, target.vg, job.uuid)
            undo_room.free(self._services, job)

    def _keep_room(self) -> None:
        """Of a conversion that an earlier daemon began: copies go on again, and know nothing of it."""
        for job in self._jobs:
            target = self._target(job)
            if self._undo.find(target.vg, job.uuid) is not None:
                undo_room.keep(self._services, job, target)

    def _active(self, job: Job) -> JobLv:
        target = self._target(job)
        if target.lv.active:
            return target
        lv = self._services.volumes.activate(target.lv, target.vg, job.uuid)
        return JobLv(target.vg, lv)

    def _target(self, job: Job) -> JobLv:
        target = find_target(self._services, job)
        if not isinstance(target, JobLv):  # policies refuse it: only a volume has an undo point
            raise IllegalTransition(f"Machine {self._machine.name}", "not on logical volumes", "conversion")
        return target

    def _await_earlier(self) -> None:
        """Wait for a conversion that an earlier daemon began: two would ruin the guest."""
        while units := _running(self._services, self._machine):
            log.info(
                "machine %s: the conversion of an earlier daemon still runs: %s", self._machine.name, units
            )
            if self._stop.wait(_POLL_S):
                raise Interrupted


def leave_as_proven(services: Services, machine: Machine, job: Job) -> None:
    """Before a disk of an unregistered machine is given up: end what a cut-off conversion left of it.

    Raises TryAgain while a conversion, perhaps of an earlier daemon, still writes to it; MustWait, and what
    LVM refuses.
    """
    running = _running(services, machine)
    if not isinstance(job.plan.target, LvTarget):
        _expect_over(running)
        return
    vg, undo = read_vg(services, job.plan.target), UndoPoints(services.volumes)
    lv = services.volumes.adopt(job.uuid, vg)
    if lv is not None and undo.find(vg, job.uuid) is not None:
        undo_room.keep(services, job, JobLv(vg, lv))  # of an earlier daemon's: nobody did for this one
    _expect_over(running)
    if lv is None:
        undo_room.free(services, job)
        return
    if machine.converted:
        undo.drop(lv, vg, job.uuid)
    else:
        undo.merge(lv, vg, job.uuid)
    undo_room.free(services, job)


def _expect_over(units: str) -> None:
    if units:
        raise TryAgain(f"the guest is being converted: that ends by itself, or by systemctl stop {units}")


def _running(services: Services, machine: Machine) -> str:
    """Return the unit in which a conversion, or the flush at its end, has the volumes; "" where none has."""
    running = services.commands.running_changes()
    own = (unit_of(machine.uuid), flush_unit_of(machine.uuid))
    return " ".join(f"p2vd-change-{name}.service" for name in own if name in running)
