"""What daemon and worker say to each other: JSON messages over a SOCK_SEQPACKET pair.

One message a packet: `{"type": NAME, ...fields}`. The worker speaks first with `Hello`; a version
the daemon does not know ends the conversation.

Fields with defaults may be added within a version: who does not know one passes it over. What an older
worker must not pass over raises the version of that one message: a `Start` of other forms than raw
devices and files says `FORMS_VERSION`, which a worker from before them refuses, and every other `Start`
says `VERSION`, which all know. `start_version` tells which.

The forms of `Start`, and the descriptors that come along, source before target:

- `source_form.nbd`: the source is an NBD export and has no descriptor, so one comes. A plain TCP server
  is connected to without privileges, and again when the connection is lost. A Unix socket, and TLS with
  its keys, are reached before the privileges go; when such a connection is lost the worker ends with
  `ConnectionLost` and 2, and the next one connects anew.
- `source_form.format` of an image: the descriptor is that of the image file. A child without privileges
  (qemu-nbd) reads it; `binding.source_size_bytes` is the size of the disk in it, not of the file.
- `target_form.format` qcow2: the descriptor is that of a file that was created, empty, for this job
  (O_EXCL). The worker makes the qcow2 in it as long as its checkpoint knows of nothing written, and gives
  the file to `worker_uid`, for its child. `target.size_bytes` is the size of the disk in it, a multiple
  of 512 bytes; `target.is_file` and the like do not matter.

Pure.
"""

from dataclasses import dataclass, field
from typing import Any

from p2vd.copying.terms import Binding, Report, SourceForm, TargetForm, TargetTraits
from p2vd.model.codec import Messages
from p2vd.model.copying import Progress, Verify
from p2vd.model.forms import TargetFormat

VERSION = 1

FORMS_VERSION = 2
"""What a `Start` says that a worker which knows only raw devices and files must refuse."""


@dataclass(frozen=True)
class Start:
    """Begin or resume. Carries the descriptors of source and target. `credit_bytes` -1: no limit.

    `bad_sectors`: how many of the source may be unreadable; zeros take their place. `max_latency_us`: of a
    read of the source, beyond which the copy slows down; 0: it never does.

    `resume`: a checkpoint must be there (the job has written before); its absence refuses, because
    a target taken for untouched would keep old bytes where the source has zeros. `read_back_anew`: what was
    read back before proves nothing any more.
    """

    version: int
    binding: Binding
    checkpoint_path: str
    target: TargetTraits
    verify: Verify = Verify.READ_BACK
    digest: str = "xxh3"
    queue_depth: int = 8
    bandwidth_bytes_per_s: int = 0
    credit_bytes: int = -1
    commit_interval_s: float = 1.0
    bad_sectors: int = 0
    worker_uid: int = 0
    worker_gid: int = 0
    resume: bool = False
    source_form: SourceForm = field(default_factory=SourceForm)
    target_form: TargetForm = field(default_factory=TargetForm)
    max_latency_us: int = 0
    read_back_anew: bool = False


@dataclass(frozen=True)
class Pause:
    """Stop issuing I/O, commit, stay."""


@dataclass(frozen=True)
class Resume:
    """Go on after Pause."""


@dataclass(frozen=True)
class Bandwidth:
    """New limit, 0: none."""

    bytes_per_s: int


@dataclass(frozen=True)
class Credit:
    """The worker may have allocated this many bytes of the pool in all since its Start."""

    total_bytes: int


@dataclass(frozen=True)
class Stop:
    """Commit a checkpoint and exit 5."""


@dataclass(frozen=True)
class Hello:
    """First message of the worker."""

    version: int
    pid: int


@dataclass(frozen=True)
class Phase:
    """`checking` (resume proof), `proving` (the target, before a later pass), `copying`, `verifying`."""

    phase: str


@dataclass(frozen=True)
class ProgressReport:
    """Sent after each durable commit and at most twice a second in between."""

    progress: Progress
    committed: bool = False


@dataclass(frozen=True)
class Stalled:
    """An I/O is outstanding for long; `since_us` 0: it ended."""

    operation: str
    offset: int
    since_us: int


@dataclass(frozen=True)
class NeedCredit:
    """The worker waits: it goes on at a Credit of at least `total_bytes`."""

    total_bytes: int


@dataclass(frozen=True)
class NeedDescriptor:
    """The worker lost `source` or `target` and wants it opened again."""

    which: str


ToWorker = Start | Pause | Resume | Bandwidth | Credit | Stop
ToDaemon = Hello | Phase | ProgressReport | Stalled | NeedCredit | NeedDescriptor | Report

_NAMES: dict[str, type[Any]] = {
    "start": Start,
    "pause": Pause,
    "resume": Resume,
    "bandwidth": Bandwidth,
    "credit": Credit,
    "stop": Stop,
    "hello": Hello,
    "phase": Phase,
    "progress": ProgressReport,
    "stalled": Stalled,
    "need-credit": NeedCredit,
    "need-descriptor": NeedDescriptor,
    "report": Report,
}
_MESSAGES = Messages(_NAMES)


def start_version(source: SourceForm, target: TargetForm) -> int:
    """The version that a `Start` of these forms says."""
    plain = source == SourceForm() and target.format is TargetFormat.RAW
    return VERSION if plain else FORMS_VERSION


def encode(message: ToWorker | ToDaemon) -> dict[str, Any]:
    """Return `message` as the object that goes over the socket."""
    return _MESSAGES.encode(message)


def decode(data: dict[str, Any]) -> ToWorker | ToDaemon:
    """Return the message in `data`. Raises ValueError on an unknown type or a field that does not fit."""
    message: ToWorker | ToDaemon = _MESSAGES.decode(data)
    return message
