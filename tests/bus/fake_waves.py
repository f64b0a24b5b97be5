"""Waves and the report of an engine in memory."""

from collections.abc import Sequence
from dataclasses import replace

from p2vd.model.errors import NotFound, Reason, StillLooking
from p2vd.model.job import Caller
from p2vd.model.wave import Fate, Wave, WaveEntry, WaveItem, WaveState
from tests.bus import values


class FakeWaves:
    """Satisfies WavesPort: a machine whose record is `bad` is refused; the first answer takes its time."""

    def __init__(self, asked: list[list[object]]) -> None:
        self._asked = asked
        self._looked = False
        self.waves: dict[str, Wave] = {}

    def plan(self, entries: Sequence[WaveEntry]) -> Wave:
        if not self._looked:
            self._looked = True
            raise StillLooking("the plan of the machines")
        items = tuple(
            WaveItem(
                entry,
                entry.name or entry.machine,
                Fate.REFUSED if entry.machine == "bad" else Fate.READY,
                "" if entry.machine == "bad" else values.PLAN_ID,
                (Reason("record-not-found", "There is no record of a machine 'bad'."),)
                if entry.machine == "bad"
                else (),
                priority=entry.priority or 0,
                disks=len(entry.sources),
            )
            for entry in entries
        )
        wave = self.waves["abcdef0123456789"] = Wave("abcdef0123456789", items)
        return wave

    def all(self) -> tuple[Wave, ...]:
        return tuple(self.waves.values())

    def start(self, wave_id: str, at_us: int, caller: Caller) -> Wave:
        self._asked.append(["start_wave", wave_id, at_us, caller.uid])
        return self._put(wave_id, state=WaveState.SCHEDULED, at_us=at_us, started_by=caller)

    def cancel(self, wave_id: str, caller: Caller) -> Wave:
        self._asked.append(["cancel_wave", wave_id, caller.uid])
        return self._put(wave_id, state=WaveState.CANCELLED)

    def _put(self, wave_id: str, **changes: object) -> Wave:
        if wave_id not in self.waves:
            raise NotFound("wave", wave_id)
        self.waves[wave_id] = replace(self.waves[wave_id], **changes)  # type: ignore[arg-type]
        return self.waves[wave_id]
