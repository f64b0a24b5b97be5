"""What the daemon hands to its worker, made a source and a target, before and after the privileges go."""

from collections.abc import Callable, Sequence

from p2vd.copying import forms
from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Source
from p2vd.copying.errors import OpenFailed
from p2vd.copying.forms import AnyTarget, Handed
from p2vd.copying.opened import source_on, target_on
from p2vd.copying.protocol import Start, start_version
from p2vd.model.forms import SourceFormat
from p2vd.system import block


class HandedForms:
    """The descriptors of a start, and what becomes of them.

    Raises ValueError where they, or the version, do not fit the forms that the start names.
    """

    def __init__(self, start: Start, fds: Sequence[int]):
        wanted = ("source", "target") if start.source_form.nbd is None else ("target",)
        if len(fds) != len(wanted):
            raise ValueError(f"the start brought {len(fds)} descriptors, not {' and '.join(wanted)}")
        if start.version != start_version(start.source_form, start.target_form):
            raise ValueError(f"a start of version {start.version} that names such forms")
        if start.source_form.nbd is not None and start.source_form.format is not SourceFormat.RAW:
            raise ValueError("an NBD export that is not raw")
        if forms.unknown(start.source_form, start.target_form):
            raise ValueError(
                f"forms that this worker does not know: {start.source_form}, {start.target_form}"
            )
        self._start = start
        self._source_fd, self._target_fd = (-1, *fds)[-2:]
        self._source: Callable[[], Source]
        self._target: Callable[[], AnyTarget]

    def open_source(self, controls: Controls, gauge: Gauge, ended: Callable[[], bool]) -> None:
        """Do with the source what needs privileges. `ended`: see `Handed`. Raises P2vdError, Interrupted."""
        start = self._start
        if make := forms.HANDED_SOURCES.get(forms.source_key(start.source_form)):
            self._source = make(Handed(start, self._source_fd, controls, gauge, ended))
            return
        try:
            source = source_on(self._source_fd, gauge)
            sector = block.sector_size(self._source_fd)
        except OSError as error:
            raise OpenFailed("a device of this job", str(error)) from error
        if block.is_block(self._source_fd) and sector != start.binding.source_sector_size:
            raise OpenFailed(source.name, f"its sectors have {sector} bytes, not as the job says")
        self._expect_size(source)
        self._source = lambda: source

    def open_target(
        self, controls: Controls, gauge: Gauge, ended: Callable[[], bool], checkpoint: Checkpoint
    ) -> None:
        """Do with the target what needs privileges. Raises as `open_source`."""
        start = self._start
        if make := forms.HANDED_TARGETS.get(start.target_form.format):
            self._target = make(Handed(start, self._target_fd, controls, gauge, ended, checkpoint))
            return
        try:
            target = target_on(self._target_fd, start.target, controls, gauge)
        except OSError as error:
            raise OpenFailed("a device of this job", str(error)) from error
        self._target = lambda: target

    def finish(self) -> tuple[Source, AnyTarget]:
        """Do the rest without privileges: only now a server is listened to. Raises as `open_source`."""
        source = self._source()
        self._expect_size(source)
        return source, self._target()

    def _expect_size(self, source: Source) -> None:
        said, target = self._start.binding.source_size_bytes, self._start.target.size_bytes
        if source.size_bytes != said:
            raise OpenFailed(source.name, f"it has {source.size_bytes} bytes, not as the job says")
        if target < said:
            raise OpenFailed("the target", f"it has {target} bytes, less than the source")
