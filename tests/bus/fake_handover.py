"""The fake engine's cutover, rollback and accept: a test says what each comes to."""

from dataclasses import asdict
from typing import Protocol

from p2vd.model.cutover import CutoverChoice, CutoverRequest
from p2vd.model.errors import IllegalTransition
from p2vd.model.job import Caller, Machine, MachineState
from p2vd.model.size import GIB
from tests.bus import values


class _Engine(Protocol):
    asked: list[list[object]]
    _ends: tuple[str, str, str] | None
    _taker: str

    def machine(self, uuid: str) -> Machine: ...

    def machine_state(self, uuid: str, state: str, domain: str = "", error: str = "") -> None: ...

    def _verb(self, asked: list[object], before: str, under_way: MachineState) -> None: ...


class FakeHandover:
    """What FakeEngine has of EnginePort about them, and what tests steer it by."""

    _ends: tuple[str, str, str] | None = None
    _taker = "qemu:///system"

    def cutover(self: _Engine, machine_uuid: str, request: CutoverRequest, caller: Caller) -> None:
        self._verb(["cutover", machine_uuid, asdict(request)], "ready", MachineState.REGISTERING)

    def plan_cutover(self: _Engine, machine_uuid: str, request: CutoverRequest) -> CutoverChoice:
        self.asked.append(["plan_cutover", machine_uuid, asdict(request)])
        plan, name = values.PLAN, "lab" if request.policy else ""
        warnings = ("It has no network.",)
        kept = not request.chooses
        start = plan.domain.started_by_p2vd if request.start is None else request.start
        return CutoverChoice(plan.domain, name, kept, 2 * GIB, 2, plan.domain_choices, warnings, start)

    def rollback(self: _Engine, machine_uuid: str, caller: Caller) -> None:
        self._verb(["rollback", machine_uuid], "registered", MachineState.ROLLING_BACK)

    def accept(self: _Engine, machine_uuid: str, caller: Caller) -> None:
        self._verb(["accept", machine_uuid], "registered", MachineState.ACCEPTING)

    def _verb(self: _Engine, asked: list[object], before: str, under_way: MachineState) -> None:
        self.asked.append(asked)
        machine = self.machine(str(asked[1]))
        if machine.state.value != before:
            raise IllegalTransition(f"Machine {machine.name}", machine.state.value, str(asked[0]))
        self.machine_state(machine.uuid, under_way.value)
        if self._ends is not None:
            self.machine_state(machine.uuid, *self._ends)

    def hypervisor(self: _Engine, machine: Machine) -> str:
        return self._taker

    def give_to(self: _Engine, hypervisor: str) -> None:
        """Who takes all machines from now on."""
        self._taker = hypervisor

    def end_verbs(self: _Engine, state: str, domain: str = "", error: str = "") -> None:
        """What the next cutover, rollback or accept comes to."""
        self._ends = (state, domain, error)
