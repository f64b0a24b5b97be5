"""The inventory with the disks that no device of the host shows: in images of every form, and NBD exports."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from p2vd.jobs.board import Board
from p2vd.jobs.export_watch import ExportWatch
from p2vd.jobs.image_looks import ImageLooks
from p2vd.jobs.image_sizes import FILE, ImageSizes
from p2vd.jobs.inventory_keeper import Scanner
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from p2vd.model.job import Stage
from p2vd.policy.model import PolicySet
from p2vd.system.clock import Clock
from p2vd.system.process import Spawn


@dataclass(frozen=True)
class _Shown:
    """What was shown last, and what it was made of."""

    seen: Inventory
    made_of: tuple[tuple[Source, ...], tuple[Source, ...], tuple[str, ...]]
    whole: Inventory


class FormScanner:
    """A Scanner over another one, which looks at the host. Used by the thread that looks."""

    def __init__(self, host: Scanner, images: ImageLooks, exports: ExportWatch) -> None:
        self.images = images
        self.exports = exports
        self._host = host
        self._seen: Inventory | None = None
        self._shown: _Shown | None = None

    @classmethod
    def over(
        cls,
        host: Scanner,
        spawn: Spawn,
        worker_ids: tuple[int, int],
        policies: Callable[[], PolicySet],
        board: Board,
        clock: Clock,
        state: Path,
        on_change: Callable[[], None],
    ) -> "FormScanner":
        """Return one whose images and exports are looked at by helpers that `spawn` starts.

        `state`: the directory for what is kept over restarts. `on_change` is called when more is known of
        them: there is something new to `refresh`.
        """

        def copied() -> Collection[str]:
            return {
                job.plan.source.id
                for job in board.jobs()
                if job.stage in (Stage.COPYING, Stage.VERIFYING) and not job.holds
            }

        images = ImageLooks(spawn, worker_ids, on_change, clock, ImageSizes(state / FILE), policies)
        exports = ExportWatch(spawn, worker_ids, lambda: policies().exports, copied, on_change, clock)
        return cls(host, images, exports)

    def scan(self) -> Inventory:
        """Return what is there now. Raises as the host's scanner does."""
        back = self.images.back
        self._seen = self._host.scan()
        self.images.scanned(back)  # and not of those that came back while it may have passed them already
        return self._whole(self._seen, again=True)

    def refresh(self, names: Collection[str], /) -> Inventory:
        """Return what is there after changes of the devices `names`; none: of the host's nothing has changed.

        The host is scanned where images may be in sight again whose mount was away. Raises as the host's
        scanner does.
        """
        if self.images.lost_sight:
            return self.scan()
        if names or self._seen is None:
            self._seen = self._host.refresh(names)
        return self._whole(self._seen, again=False)

    def _whole(self, seen: Inventory, *, again: bool) -> Inventory:
        files = [source for source in seen.sources if not source.is_plain]
        disks = self.images.complete(files, again=again)
        exports, problems = self.exports.sources(), self.exports.problems()
        # What is as it was before is the same object, as the host's scanner has it.
        made_of = (disks, exports, problems)
        if self._shown is not None and self._shown.seen is seen and self._shown.made_of == made_of:
            return self._shown.whole
        whole = seen
        if disks or exports or problems:
            by_id = {disk.id: disk for disk in disks}
            sources = (*(by_id.get(source.id, source) for source in seen.sources), *exports)
            whole = replace(seen, sources=sources, problems=(*seen.problems, *problems))
        self._shown = _Shown(seen, made_of, whole)
        return whole
