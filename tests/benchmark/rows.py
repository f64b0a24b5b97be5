"""The goals' table: which scenario each row is read off, and how."""

from collections.abc import Callable, Sequence

from p2vd.model.size import MIB, format_size
from tests.benchmark import copies, passes
from tests.benchmark.copies import BARE, FIO, FIO_DEEP, LARGE, OURS, PEERS, SHALLOW
from tests.benchmark.measuring import Measure
from tests.benchmark.passes import AT_ONCE, FIO_AT_ONCE, FIO_SERIAL, PROVING, READ_SOURCE, READ_TARGET, SERIAL
from tests.benchmark.plan import Round, Row, Scenario
from tests.benchmark.stats import Goal, Spread, ratios

Value = Callable[[Measure], float]


def wall(measure: Measure) -> float:
    """Seconds from start to end."""
    return measure.wall_s


def values(rounds: Sequence[Round], arm: str, value: Value = wall) -> list[float]:
    """One arm's value of each round."""
    return [value(each[arm]) for each in rounds]


def over(ours: str, theirs: str, value: Value = wall) -> Callable[[Sequence[Round]], list[float]]:
    """The ratio of two arms, round by round."""
    return lambda rounds: ratios(values(rounds, ours, value), values(rounds, theirs, value))


def fastest(rounds: Sequence[Round]) -> str:
    """The peer with the least median: one for all rounds, not the luckiest of each."""
    return min(PEERS, key=lambda peer: Spread.of(values(rounds, peer)).median)


def _resent(rounds: Sequence[Round]) -> str:
    again = Spread.of([each[OURS].figures["again_bytes"] for each in rounds])
    seconds = max(each[OURS].figures["again_s"] for each in rounds)
    return (
        f"copied again {format_size(round(again.median))}, at most {format_size(round(again.most))}, "
        f"which are {seconds:.2f} s of copying; the flush is not counted into the limit"
    )


def _verify_note(rounds: Sequence[Round]) -> str:
    whole = Spread.of(over(OURS, READ_TARGET)(rounds)).median
    more = Spread.of(over(OURS, READ_TARGET, lambda measure: measure.read_bytes or 1)(rounds)).median
    return (
        f"the whole command, which also proves the old checkpoint against both disks and samples the "
        f"source: wall {whole:.2f} of dd's, bytes read {more:.2f} of dd's"
    )


def _delta_note(rounds: Sequence[Round]) -> str:
    proving = Spread.of(over(PROVING, READ_SOURCE)(rounds)).median
    return f"told that the target is unchanged; proving that first, by reading it: {proving:.2f}"


def _four(rounds: Sequence[Round]) -> list[float]:
    return ratios(over(AT_ONCE, SERIAL)(rounds), over(FIO_AT_ONCE, FIO_SERIAL)(rounds))


def _four_note(rounds: Sequence[Round]) -> str:
    ours, theirs = (
        Spread.of(over(*pair)(rounds)).median for pair in ((AT_ONCE, SERIAL), (FIO_AT_ONCE, FIO_SERIAL))
    )
    return f"at once / one after another: p2vd-copy {ours:.2f}, fio {theirs:.2f}"


def _ceiling_note(rounds: Sequence[Round]) -> str:
    deep = Spread.of(over(FIO_DEEP, OURS)(rounds)).median
    return f"against fio with twice the depth {deep:.2f}"


RANDOM = Scenario(
    "random data",
    (
        Row(
            "ceiling",
            "throughput / the copy ceiling (fio reads the source and writes the target at once)",
            Goal(0.95, at_least=True),
            (OURS, FIO, FIO_DEEP),
            over(FIO, OURS),
            ("fio",),
            note=_ceiling_note,
        ),
        Row(
            "qemu-img",
            "wall / qemu-img convert -W -m8, O_DIRECT both",
            Goal(0.75),
            (OURS, "qemu-img"),
            over(OURS, "qemu-img"),
            ("qemu-img",),
        ),
        Row(
            "fastest",
            "wall / the fastest of qemu-img, nbdcopy --flush, dd 4 MiB direct, ddrescue -d -D",
            Goal(0.85),
            (OURS, *PEERS),
            lambda rounds: over(OURS, fastest(rounds))(rounds),
            PEERS,
            note=lambda rounds: f"the fastest is {fastest(rounds)}",
        ),
        Row(
            "cpu",
            "process CPU / qemu-img",
            Goal(1.0),
            (OURS, "qemu-img"),
            over(OURS, "qemu-img", lambda measure: measure.cpu_s),
            ("qemu-img",),
        ),
    ),
    copies.random_data,
)


def _against_qemu(name: str, what: str, limit: float) -> tuple[Row, ...]:
    arms = (OURS, "qemu-img")
    return (Row(name, f"{what}: wall / qemu-img", Goal(limit), arms, over(*arms), ("qemu-img",)),)


def _peak(rounds: Sequence[Round]) -> list[float]:
    return [max(measure.rss_bytes for measure in each.values()) / MIB for each in rounds]


SCENARIOS = (
    RANDOM,
    Scenario(
        "25 % data onto a dirty target",
        _against_qemu("quarter-dirty", "25 % data onto a dirty target", 0.80),
        copies.quarter(dirty=True),
    ),
    Scenario(
        "25 % data onto a zero target",
        _against_qemu("quarter-zero", "25 % data onto a zero target", 0.85),
        copies.quarter(dirty=False),
    ),
    Scenario(
        "a sparse image file into a new file",
        _against_qemu("sparse-file", "sparse image file", 1.0),
        copies.sparse_file,
    ),
    Scenario(
        "an all-zero device onto a dirty target",
        _against_qemu("all-zero", "all-zero device", 0.35),
        copies.all_zero,
    ),
    Scenario(
        "memory, read-back included",
        (
            Row(
                "rss",
                "RSS beyond the map, any disk size, any queue depth up to 8",
                Goal(32),
                (OURS, SHALLOW, LARGE),
                _peak,
                unit="MiB",
                note=lambda rounds: "VmHWM, nothing taken off: of the map only the open rows are in memory",
            ),
        ),
        passes.memory,
    ),
    Scenario(
        "what digests and checkpoints cost",
        (
            Row(
                "digests",
                "digests + checkpoints: wall over the same engine without",
                Goal(1.05),
                (OURS, BARE),
                over(OURS, BARE),
            ),
        ),
        copies.without,
    ),
    Scenario(
        "reading back",
        (
            Row(
                "verify",
                "verify: wall of reading back / dd direct read of the target",
                Goal(1.05),
                (OURS, READ_TARGET),
                lambda rounds: ratios(
                    values(rounds, OURS, lambda measure: measure.figures["read_back_s"]),
                    values(rounds, READ_TARGET),
                ),
                ("dd",),
                note=_verify_note,
            ),
        ),
        passes.verify,
    ),
    Scenario(
        "a delta pass over a source of which 1 % changed",
        (
            Row(
                "delta",
                "delta pass, 1 % changed: wall / dd direct read of the source",
                Goal(1.10),
                (OURS, PROVING, READ_SOURCE),
                over(OURS, READ_SOURCE),
                ("dd",),
                note=_delta_note,
            ),
        ),
        passes.delta,
    ),
    Scenario(
        "kill -9 at 50 %, then resumed",
        (
            Row(
                "resume",
                "bytes copied again / those of two commit intervals at the same speed",
                Goal(1.0),
                (OURS,),
                lambda rounds: values(rounds, OURS, lambda measure: measure.figures["again_of_limit"]),
                each_run=True,
                note=_resent,
            ),
        ),
        passes.resume,
    ),
    Scenario(
        "four copies of a quarter of the size",
        (
            Row(
                "four",
                "4 at once / the same 4 one after another, over the devices' own ratio (fio)",
                Goal(1.1),
                (AT_ONCE, SERIAL, FIO_AT_ONCE, FIO_SERIAL),
                _four,
                ("fio",),
                note=_four_note,
            ),
        ),
        passes.four,
    ),
)

ROWS = {row.name: row for scenario in SCENARIOS for row in scenario.rows}
