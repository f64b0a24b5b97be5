"""What the daemon asks of the helper that opens devices, and what it answers. Pure.

The helper is disposable: opening a sick disk can hang, so the daemon waits for its one reply no
longer than a deadline and then goes on without it.
"""

from dataclasses import dataclass

from p2vd.model.disk import Transport


@dataclass(frozen=True)
class SourceToOpen:
    """The source, as discovery saw it and the job is bound to it.

    `path_devices` are the kernel names (`sda`) of a LUN's paths: `wwid` is read again from each by
    INQUIRY. A disk without them is known by its `id` (and `file_id`), as its `transport` says how.
    `image`: a file and no block device; with `size_bytes` 0 that of the file does not matter.
    `locked_by_user`: the program that reads it, QEMU, locks it itself.
    """

    devnode: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    wwid: str = ""
    path_devices: tuple[str, ...] = ()
    image: bool = False
    transport: Transport = Transport.LOCAL
    id: str = ""
    file_id: str = ""
    locked_by_user: bool = False


@dataclass(frozen=True)
class TargetToOpen:
    """The target. `size_bytes` is exact; 0: only `min_size_bytes` counts.

    A file is known by its `file_id`; `locked_by_user`: the program that writes it, QEMU, locks it itself.
    A whole LUN has a `wwid`, which is read again from its `path_devices`;
    `must_be_empty`: this job has written nothing to it yet, so it must hold nothing at all.
    """

    devnode: str
    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    min_size_bytes: int = 0
    wwid: str = ""
    path_devices: tuple[str, ...] = ()
    must_be_empty: bool = False
    file_id: str = ""
    locked_by_user: bool = False

    @property
    def image(self) -> bool:
        """Whether it is a file and no block device."""
        return self.file_id != ""


@dataclass(frozen=True)
class OpenRequest:
    """Open both, or with `target` None only read the source's WWIDs again.

    `source` None: there is nothing to open, for the worker connects to it. `source_alone`: open the source,
    too, where there is no target. `previous_open_count`: how often the dm devices may be open before
    (design: §4.2 wants 0).
    """

    source: SourceToOpen | None
    target: TargetToOpen | None = None
    previous_open_count: int = 0
    source_alone: bool = False


@dataclass(frozen=True)
class OpenError:
    """The error's sentence and class: `DeviceInUse`, `IdentityChanged`, `DeviceAbsent`, `ReservationUnknown`,
    `OpenFailed` and the like.
    """

    name: str
    message: str


@dataclass(frozen=True)
class OpenReply:
    """The one answer. `ok` with a target: two descriptors come along, source and target, or the target's
    alone where there is no source to open; with `source_alone` the source's.

    `silent_paths`: paths, of the source and of a LUN that is the target, that did not answer the INQUIRY;
    read them again when they are back.
    """

    ok: bool
    error: OpenError | None = None
    silent_paths: tuple[str, ...] = ()
