"""The host's inventory with the disks that no device of it shows: those in image files of every form."""

from collections.abc import Collection
from dataclasses import replace

from p2vd.jobs.image_looks import ImageLooks
from p2vd.jobs.inventory_keeper import Scanner
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory


class FormScanner:
    """A Scanner over another one, which looks at the host. Used by the thread that looks."""

    def __init__(self, host: Scanner, images: ImageLooks) -> None:
        self._host = host
        self._images = images
        self._seen: Inventory | None = None
        self._shown: tuple[Inventory, tuple[Source, ...], Inventory] | None = None

    def scan(self) -> Inventory:
        """Return what is there now. Raises as the host's scanner does."""
        self._seen = self._host.scan()
        return self._whole(self._seen, again=True)

    def refresh(self, names: Collection[str], /) -> Inventory:
        """Return what is there after changes of the devices `names`; none: of the host's nothing has changed.

        Raises as the host's scanner does.
        """
        if names or self._seen is None:
            self._seen = self._host.refresh(names)
        return self._whole(self._seen, again=False)

    def _whole(self, seen: Inventory, *, again: bool) -> Inventory:
        files = [source for source in seen.sources if not source.is_plain]
        disks = self._images.complete(files, again=again)
        # What is as it was before is the same object, as the host's scanner has it.
        if self._shown is not None and self._shown[0] is seen and self._shown[1] == disks:
            return self._shown[2]
        by_id = {disk.id: disk for disk in disks}
        sources = tuple(by_id.get(source.id, source) for source in seen.sources) if disks else seen.sources
        whole = replace(seen, sources=sources) if disks else seen
        self._shown = (seen, disks, whole)
        return whole
