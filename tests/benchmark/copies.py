"""The scenarios of whole copies, p2vd-copy beside the peers, and what digests and checkpoints cost."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmark import tools
from tests.benchmark.content import Content, fill_device, forget, make_sparse_file
from tests.benchmark.disks import Pair, need_direct_io, need_space
from tests.benchmark.measuring import Measure, measured
from tests.benchmark.plan import Arm, Arms, Bench, Opened

OURS = "p2vd-copy"
PEERS = ("qemu-img", "nbdcopy", "dd", "ddrescue")
FIO, FIO_DEEP = "fio", "fio, twice the depth"
SHALLOW, LARGE = "p2vd-copy, depth 1", "p2vd-copy, large sparse file"
BARE = "without digests and checkpoint"

# Every copy is of a pair that is overwritten again and again; a signature would still refuse.
_COPY_ONLY = ("--verify", "none", "--force")


def command(bench: Bench, words: Sequence[str], disks: Sequence[Path], *before: Callable[[], None]) -> Arm:
    """An arm that runs a command with nothing in the page cache of its disks."""

    def prepare() -> None:
        tools.remove_checkpoint(bench.checkpoint)
        for step in before:
            step()
        forget(*disks)

    def run() -> Measure:
        return measured(words, bench.log)

    return Arm(run, prepare)


def engine(bench: Bench, pair: Pair, *more: str, before: Callable[[], None] = lambda: None) -> Arm:
    """p2vd-copy as a user runs it, from device to device."""
    words = tools.copy_words(pair.source, pair.target, bench.checkpoint, *more)
    return command(bench, [*tools.p2vd_copy(), *words], (pair.source, pair.target), before)


def _depth(bench: Bench) -> tuple[str, str]:
    return "--queue-depth", str(bench.queue_depth)


@contextmanager
def random_data(bench: Bench) -> Iterator[Arms]:
    """Random data: all peers, and fio for what the disks could do.

    The engine has `queue_depth` requests under way in all, reads and writes; so has fio.
    """
    with bench.place.pair(bench.size_bytes, Content.RANDOM) as pair:
        disks = (pair.source, pair.target)
        half = max(1, bench.queue_depth // 2)
        peers = (tools.qemu_img(*disks), tools.nbdcopy(pair), tools.dd(pair), tools.ddrescue(pair))
        yield {
            OURS: engine(bench, pair, *_COPY_ONLY, *_depth(bench)),
            **{name: command(bench, words, disks) for name, words in zip(PEERS, peers, strict=True)},
            FIO: Arm(lambda: tools.fio([pair], half, bench.log), lambda: forget(*disks)),
            FIO_DEEP: Arm(lambda: tools.fio([pair], 2 * half, bench.log), lambda: forget(*disks)),
        }


def quarter(dirty: bool) -> Opened:
    """25 % data, the zeros written out, onto old bytes or onto zeros that both tools are told of."""

    @contextmanager
    def opened(bench: Bench) -> Iterator[Arms]:
        with bench.place.pair(bench.size_bytes, Content.QUARTER) as pair:

            def before() -> None:
                fill_device(pair.target, Content.OLD if dirty else Content.ZERO)

            told = () if dirty else ("--target-is-zero",)
            disks = (pair.source, pair.target)
            yield {
                OURS: engine(bench, pair, *_COPY_ONLY, *_depth(bench), *told, before=before),
                "qemu-img": command(bench, tools.qemu_img(*disks, zero=not dirty), disks, before),
            }

    return opened


@contextmanager
def all_zero(bench: Bench) -> Iterator[Arms]:
    """A device that reads as zero at no cost, onto old bytes."""
    with bench.place.pair(bench.size_bytes, Content.ZERO) as pair:

        def before() -> None:
            fill_device(pair.target, Content.OLD)

        disks = (pair.source, pair.target)
        yield {
            OURS: engine(bench, pair, *_COPY_ONLY, *_depth(bench), before=before),
            "qemu-img": command(bench, tools.qemu_img(*disks), disks, before),
        }


@contextmanager
def sparse_file(bench: Bench) -> Iterator[Arms]:
    """A sparse image file into a new file."""
    need_direct_io(bench.directory)
    need_space(bench.directory, bench.size_bytes // 2)
    source, target = bench.directory / "sparse", bench.directory / "copy"
    try:
        make_sparse_file(source, bench.size_bytes)
        yield {
            OURS: engine_on_files(bench, source, target, "--verify", "none", *_depth(bench)),
            "qemu-img": _into_new_file(bench, tools.qemu_img(source, target, new_file=True), source, target),
        }
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def engine_on_files(bench: Bench, source: Path, target: Path, *more: str) -> Arm:
    """p2vd-copy from a file into a new file."""
    words = [*tools.p2vd_copy(), *tools.copy_words(source, target, bench.checkpoint, *more)]
    return _into_new_file(bench, words, source, target)


def _into_new_file(bench: Bench, words: Sequence[str], source: Path, target: Path) -> Arm:
    return command(bench, words, (source,), lambda: target.unlink(missing_ok=True))


@contextmanager
def without(bench: Bench) -> Iterator[Arms]:
    """The engine with digests and checkpoints, and the same engine without (`engine.py`)."""
    with bench.place.pair(bench.size_bytes, Content.RANDOM) as pair:
        disks = (pair.source, pair.target)
        words = tools.copy_words(*disks, bench.checkpoint, *_COPY_ONLY, *_depth(bench))
        bare = [*tools.engine_with("--without-checkpoint"), *words, "--digest", "none"]
        yield {
            OURS: engine(bench, pair, *_COPY_ONLY, *_depth(bench)),
            BARE: command(bench, bare, disks),
        }
