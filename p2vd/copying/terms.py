"""What a copy is of, and how it ended: said to the daemon, kept in the checkpoint, told by the tool. Pure."""

from dataclasses import dataclass, field

from p2vd.model.copying import Progress
from p2vd.model.forms import Compression, SourceFormat, TargetFormat
from p2vd.model.size import KIB


@dataclass(frozen=True)
class Binding:
    """What a checkpoint belongs to. Any difference at resume refuses (design: §3).

    `source_id` is the WWID (or the stable id), `target_id` VG UUID + LV UUID (or a file's id).
    """

    job: str
    generation: int
    source_id: str
    source_size_bytes: int
    source_sector_size: int
    target_id: str


@dataclass(frozen=True)
class TargetTraits:
    """What the target is, for zeros and for checks through the descriptor.

    `thin_chunk_bytes` 0: not thin. `pool_zeroes`: the pool zeroes new chunks. `dm_uuid` empty: not a
    device-mapper device. `is_file`: what was never written is a hole, and reads as zero.
    `credit_chunk_bytes`: in pieces of which size what is written counts against the credit; 0: thin chunks.
    """

    size_bytes: int
    sector_size: int
    dm_uuid: str = ""
    thin_chunk_bytes: int = 0
    pool_zeroes: bool = False
    is_file: bool = False
    credit_chunk_bytes: int = 0


@dataclass(frozen=True)
class NbdServer:
    """An NBD export, by the URI that the NBD project defined, and what TLS needs.

    `certificates`: the directory of `ca-cert.pem`, and of `client-cert.pem` and `client-key.pem` where the
    server asks for them. `psk_file`: pre-shared keys, instead of certificates. `reconnect_s`: how long a
    lost connection is tried again. `edges`: the digests of the first and last MiB that it must have, as
    `edges_text` says them; empty: whatever is there.
    """

    uri: str
    certificates: str = ""
    psk_file: str = ""
    reconnect_s: float = 300.0
    edges: str = ""


@dataclass(frozen=True)
class SourceForm:
    """How the source's descriptor holds the disk. `nbd`: there is no descriptor, the worker connects."""

    format: SourceFormat = SourceFormat.RAW
    nbd: NbdServer | None = None


@dataclass(frozen=True)
class TargetForm:
    """How the target's descriptor is to hold the disk.

    `cluster_bytes` and `compression` are those of a qcow2; `level` is that of raw.zst and raw.gz, 0: the
    format's usual one.
    """

    format: TargetFormat = TargetFormat.RAW
    cluster_bytes: int = 64 * KIB
    compression: Compression = Compression.NONE
    level: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a worker ended badly: the error's class name, its sentence, and where."""

    name: str
    message: str
    offset: int = -1
    length: int = 0


@dataclass(frozen=True)
class Report:
    """How a copy ended, the worker's last message: the exit code that follows, digests and counters.

    `source_stable` is `proven` where all of the source was read again, else `sampled`. `bad_ranges`:
    byte offset and length of what could not be read.
    """

    exit_code: int
    progress: Progress
    digest: str = ""
    source_stable: str = ""
    seconds: float = 0.0
    failure: Failure | None = None
    bad_ranges: tuple[tuple[int, int], ...] = field(default=())
