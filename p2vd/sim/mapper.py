"""The simulated device-mapper devices of volumes, as dmsetup and sysfs show them."""

import os
import select
from collections.abc import Sequence
from dataclasses import dataclass, field

from p2vd.sim.san import San, basics, dm_attributes, dm_number


@dataclass
class DmDevice:
    """One device: its kernel name, and what dmsetup tells of it. `watched`: one descriptor an open."""

    device: str
    name: str
    uuid: str
    table: str
    below: tuple[str, ...]
    watched: list[int] = field(default_factory=list)


class Mapper:
    """The devices by their device-mapper names. Used under the SAN's lock."""

    def __init__(self, san: San) -> None:
        self._san = san
        self.devices: dict[str, DmDevice] = {}

    def make(
        self, name: str, uuid: str, target: str, below: Sequence[str], size_bytes: int, sector_size: int
    ) -> DmDevice:
        """Show a device over the devices `below`; each {} in `target` is the number of the next of them."""
        device = self._san.next_dm()
        table = f"0 {size_bytes // 512} {target.format(*map(dm_number, below))}"
        made = self.devices[name] = DmDevice(device, name, uuid, table, tuple(below))
        attributes = {**basics(dm_number(device), size_bytes, sector_size), **dm_attributes(name, uuid)}
        self._san.tree.add(device, f"devices/virtual/block/{device}", attributes)
        for lower in below:
            self._san.tree.stack(lower, device)
        self._san.uevents.send("add", device)
        self._san.uevents.send("change", device)
        return made

    def resize(self, name: str, size_bytes: int) -> None:
        """Reload a device with another size."""
        device = self.devices[name]
        start, _, rest = device.table.split(" ", 2)
        device.table = f"{start} {size_bytes // 512} {rest}"
        self._san.tree.write(device.device, "size", f"{size_bytes // 512}\n")
        self._san.uevents.send("change", device.device)

    def drop(self, name: str) -> None:
        """Take a device away."""
        device = self.devices.pop(name).device
        self._san.tree.remove(device)
        self._san.uevents.send("remove", device)

    def open_count(self, device: DmDevice) -> int:
        """How often it is open: by workers, and by what is stacked on it."""
        for watched in [fd for fd in device.watched if _is_closed(fd)]:
            device.watched.remove(watched)
            os.close(watched)
        return len(device.watched) + self.stacked_on(device.device)

    def stacked_on(self, device: str) -> int:
        """How many devices are stacked on one (`dm-3`)."""
        return sum(device in other.below for other in self.devices.values())

    def open(self, device: DmDevice) -> int:
        """Return a descriptor that stands for an open of the device, until its last copy is closed."""
        watched, given = os.pipe2(os.O_CLOEXEC)
        device.watched.append(watched)
        return given


def _is_closed(watched: int) -> bool:
    poll = select.poll()
    poll.register(watched, 0)
    return bool(poll.poll(0))


def dm_name(vg_name: str, lv_name: str, layer: str = "") -> str:
    """Return a volume's device-mapper name as libdm makes it: dashes inside a name doubled."""
    parts = [vg_name.replace("-", "--"), lv_name.replace("-", "--")]
    return "-".join([*parts, layer] if layer else parts)


def dm_uuid(vg_uuid: str, lv_uuid: str, layer: str = "") -> str:
    """Return a volume's device-mapper UUID, as LVM makes it."""
    return f"LVM-{vg_uuid}{lv_uuid}".replace("-", "").replace("LVM", "LVM-", 1) + (
        f"-{layer}" if layer else ""
    )
