"""The forms that a disk can have besides devices and raw files, and who opens each: one table a side.

`SOURCES` and `TARGETS` are what the tool of its own opens by name, `HANDED_SOURCES` and `HANDED_TARGETS`
what the worker under the daemon makes of descriptors. A form that is in no table is a device or a raw
file, which need nothing of this. Each entry imports what it needs when it is called: a copy of plain
disks pays for none of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p2vd.copying.checkpoint import Checkpoint
from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.devices import Source, TargetSink
from p2vd.copying.endpoints import Endpoint
from p2vd.copying.errors import SourceRefused
from p2vd.copying.packed_target import PackedTarget
from p2vd.copying.protocol import Start
from p2vd.copying.terms import NbdServer, SourceForm, TargetForm
from p2vd.model.forms import PACKED, PACKED_TARGETS, QEMU_IMAGES, SourceFormat, TargetFormat

NBD_SCHEMES = ("nbd", "nbds", "nbd+unix", "nbds+unix")


AnyTarget = TargetSink | PackedTarget
"""A target that is written anywhere, or in the order of the disk."""


def _nothing() -> None:
    return


@dataclass(frozen=True)
class Asked:
    """What the command line asks for. `threads`: how many requests are under way at once."""

    source: str
    target: Path
    checkpoint: Path
    digest: str
    source_form: SourceForm
    target_form: TargetForm
    controls: Controls
    gauge: Gauge
    threads: int = 8
    bad_sectors: int = 0
    resync: bool = False

    def ended(self) -> bool:
        """Whether to give up what takes its time, with Interrupted."""
        return self.controls.ended.is_set()


@dataclass(frozen=True)
class OpenSource:
    """A source that is read through `device`. `endpoint.fd`: of its file or device; -1: it has none."""

    endpoint: Endpoint
    device: Source
    close: Callable[[], None] = _nothing


@dataclass(frozen=True)
class OpenTarget:
    """A target that is written through `sink`, and the checkpoint that belongs to it."""

    sink: AnyTarget
    checkpoint: Checkpoint
    close: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Handed:
    """What the daemon gave: its start and one descriptor, -1 where the form has none.

    `ended`: whether to give up what takes its time, with Interrupted; it hears the daemon meanwhile.
    `checkpoint` is open when a target is asked for; a source comes before it.
    """

    start: Start
    fd: int
    controls: Controls
    gauge: Gauge
    ended: Callable[[], bool]
    checkpoint: Checkpoint | None = None


def source_key(form: SourceForm) -> str:
    """The key of a source's form in the tables: `nbd`, or how its file holds it."""
    return "nbd" if form.nbd is not None else form.format.value


def unknown(source: SourceForm, target: TargetForm) -> bool:
    """Whether nobody here opens one of these forms."""
    plain = source_key(source) == SourceFormat.RAW.value
    return not (plain or source_key(source) in HANDED_SOURCES) or not (
        target.format is TargetFormat.RAW or target.format in HANDED_TARGETS
    )


def source_form(source: str, format_name: str | None, certificates: str, psk_file: str) -> SourceForm:
    """The form of what the command line names as source, in a format or, where None, as it looks.

    A file that looks like an image is not guessed at: a raw disk may begin with the same bytes, because
    a guest wrote them. Raises SourceRefused, OpenFailed.
    """
    if source.split(":", 1)[0] in NBD_SCHEMES and "://" in source:
        if format_name not in (None, SourceFormat.RAW.value):
            raise SourceRefused(
                source, f"an NBD export is raw: --source-format {format_name} makes no sense."
            )
        return SourceForm(nbd=NbdServer(source, certificates, psk_file))
    if format_name is not None:
        return SourceForm(SourceFormat(format_name))
    from p2vd.copying.image_headers import looks_like
    from p2vd.copying.packed_headers import looks_packed

    if (found := looks_packed(Path(source)) or looks_like(Path(source))) is not None:
        raise SourceRefused(
            source,
            f"it begins or ends as a {found.value} image does. Say what it is: --source-format {found.value} "
            "copies the disk in the image, --source-format raw the bytes of the file as they are.",
        )
    return SourceForm()


def _nbd_source(asked: Asked) -> OpenSource:
    from p2vd.copying import nbd_forms

    return nbd_forms.open_source(asked)


def _image_source(asked: Asked) -> OpenSource:
    from p2vd.copying import image_forms

    return image_forms.open_source(asked)


def _qcow2_target(asked: Asked, source: OpenSource) -> OpenTarget:
    from p2vd.copying import qcow2_target

    return qcow2_target.open_target(asked, source)


def _packed_source(asked: Asked) -> OpenSource:
    from p2vd.copying import packed_forms

    return packed_forms.open_source(asked)


def _packed_target(asked: Asked, source: OpenSource) -> OpenTarget:
    from p2vd.copying import packed_forms

    return packed_forms.open_target(asked, source)


def _handed_packed_source(handed: Handed) -> Callable[[], Source]:
    from p2vd.copying import packed_forms

    return packed_forms.handed_source(handed)


def _handed_packed_target(handed: Handed) -> Callable[[], PackedTarget]:
    from p2vd.copying import packed_forms

    return packed_forms.handed_target(handed)


def _handed_nbd(handed: Handed) -> Callable[[], Source]:
    from p2vd.copying import nbd_forms

    return nbd_forms.handed_source(handed)


def _handed_image(handed: Handed) -> Callable[[], Source]:
    from p2vd.copying import image_forms

    return image_forms.handed_source(handed)


def _handed_qcow2(handed: Handed) -> Callable[[], TargetSink]:
    from p2vd.copying import qcow2_target

    return qcow2_target.handed_target(handed)


SOURCES: dict[str, Callable[[Asked], OpenSource]] = {
    "nbd": _nbd_source,
    **dict.fromkeys((each.value for each in QEMU_IMAGES), _image_source),
    **dict.fromkeys((each.value for each in PACKED), _packed_source),
}

TARGETS: dict[TargetFormat, Callable[[Asked, OpenSource], OpenTarget]] = {
    TargetFormat.QCOW2: _qcow2_target,
    **dict.fromkeys(PACKED_TARGETS, _packed_target),
}

HANDED_SOURCES: dict[str, Callable[[Handed], Callable[[], Source]]] = {
    "nbd": _handed_nbd,
    **dict.fromkeys((each.value for each in QEMU_IMAGES), _handed_image),
    **dict.fromkeys((each.value for each in PACKED), _handed_packed_source),
}
"""Called with all privileges; what it returns is called without them, and may talk to the source."""

HANDED_TARGETS: dict[TargetFormat, Callable[[Handed], Callable[[], AnyTarget]]] = {
    TargetFormat.QCOW2: _handed_qcow2,
    **dict.fromkeys(PACKED_TARGETS, _handed_packed_target),
}
"""As `HANDED_SOURCES`."""
