"""The simulated multipath tools and the kernel's knob that forgets a disk."""

from collections.abc import Sequence
from pathlib import Path

from p2vd.sim.lvm import Answered
from p2vd.sim.mapper import Mapper
from p2vd.sim.san import San


class Multipath:
    """Makes and flushes maps, and deletes paths. Used under the SAN's lock."""

    def __init__(self, san: San, mapper: Mapper) -> None:
        self._san = san
        self._mapper = mapper

    def multipath(self, words: Sequence[str]) -> str:
        """Run `multipath -f MAP` or `multipath -v1 DEVICE`."""
        match list(words):
            case ["-f", name]:
                self._flush(name)
            case ["-v1", device]:
                lun = self._san.lun_of(device)
                if lun is not None and not lun.mapped:
                    self._san.make_map(lun.wwid)
            case _:
                raise Answered(1, f"The simulator does not know multipath {' '.join(words)}.\n")
        return ""

    def _flush(self, name: str) -> None:
        lun = next((lun for lun in self._san.luns.values() if lun.map_name == name and lun.mapped), None)
        if lun is None:
            raise Answered(1, f"{name}: no such map\n")
        if self._mapper.stacked_on(lun.device):
            raise Answered(1, f"{name}: map in use\n")
        self._san.drop_map(lun.wwid)

    def delete(self, words: Sequence[str]) -> str:
        """Run what discovery.luns.remove_path does: write to a disk's `device/delete`."""
        knob = Path(words[-1])
        if knob.name != "delete" or self._san.lun_of(f"/dev/{knob.parents[1].name}") is None:
            raise Answered(2, f"sh: cannot create {knob}: No such file or directory\n")
        self._san.drop_path(knob.parents[1].name)
        return ""
