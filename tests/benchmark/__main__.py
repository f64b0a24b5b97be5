"""Measures p2vd-copy against the goals of its design, beside the tools people use today.

Each round runs every arm once, in a new order, and is compared within itself; a goal that lies inside
the interval of the median is "not resolved". Without devices it makes loop devices with direct I/O.
"""

import argparse
import compileall
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from p2vd.model.size import GIB, MIB, format_size, parse_size
from tests.benchmark import campaign, forms, report, tools
from tests.benchmark.disks import GivenDisks, NotHere, OwnDisks, Place
from tests.benchmark.measuring import Watch
from tests.benchmark.plan import Bench
from tests.benchmark.rows import ROWS, SCENARIOS

_WATCHED_S, _WATCHED_SMOKE_S = 5.0, 0.5
_BUSY = 0.10


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tests/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--row", action="append", choices=list(ROWS), metavar="NAME", help="only this row; may be repeated")
    add("--list", action="store_true", help="list the rows and their goals")
    add("--forms", action="store_true", help="one sparse disk made into every form: sizes and times")
    add("--quick", action="store_true", help="a smoke run: small, 2 rounds, no verdicts")
    add("--rounds", type=int, metavar="N", help="9; fewer than 6 resolve nothing")
    add("--size", type=parse_size, metavar="SIZE", help="of each loop device: 4 GiB")
    add("--directory", type=Path, default=Path("/var/tmp"), metavar="DIR", help="for files; /var/tmp")
    add("--source", type=Path, metavar="DEV", help="a device to copy from, with --target")
    add("--target", type=Path, metavar="DEV", help="a device to copy to: ALL ON IT IS LOST")
    add("--overwrite-target", action="store_true", help="yes, overwrite the target")
    add("--overwrite-source", action="store_true", help="fill the source too: ALL ON IT IS LOST")
    add("--queue-depth", type=int, default=8, metavar="N", help="of p2vd-copy, and of fio in all; 8")
    add("--seed", type=int, metavar="N", help="repeat an earlier run's order")
    add("--json", action="store_true", help="all that was measured, as one object")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the rows that were asked for; return 1 where one failed or nothing could be run."""
    asked = parser().parse_args(words)
    if asked.list:
        for row in ROWS.values():
            print(f"{row.name:14} {row.goal!s:8}{f' {row.unit}' if row.unit else '':4} {row.what}")
        return 0
    signal.signal(signal.SIGTERM, _end)  # so that loop devices and files go also then
    try:
        # On the parent: what is left of a killed run shows its name.
        with tempfile.TemporaryDirectory(prefix="p2vd-bench-", dir=asked.directory) as directory:
            return _run(asked, Path(directory))
    except NotHere as reason:
        print(f"tests/bench: {reason}", file=sys.stderr)
        return 1


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise SystemExit(128 + number)


def _run(asked: argparse.Namespace, directory: Path) -> int:
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 32)
    bench = Bench(
        directory,
        _place(asked, directory),
        asked.size or (64 * MIB if asked.quick else 4 * GIB),
        asked.rounds or (2 if asked.quick else 9),
        asked.queue_depth,
        asked.quick,
        random.Random(seed),
    )
    # As an installed p2vd: PYTHONDONTWRITEBYTECODE, which some machines set, would double its start.
    compileall.compile_dir(tools.ROOT / "p2vd", quiet=1)
    head = _head(bench, seed)
    out = sys.stderr if asked.json else sys.stdout
    for name, value in head.items():
        print(f"{name.replace('_', ' '):16}{_shown(value)}", file=out)
    if asked.forms:
        made = forms.run(bench)
        print(*forms.table(made), sep="\n", file=out)
        if asked.json:
            print(json.dumps({**head, "forms": forms.as_json(made)}, indent=1))
        return 0
    outcomes: list[campaign.Outcome] = []
    for scenario in SCENARIOS:
        rows = [row for row in scenario.rows if asked.row is None or row.name in asked.row]
        if rows:
            found = campaign.run(scenario, rows, bench)
            outcomes += found
            print(*report.scenario_text(scenario.what, found), sep="\n", file=out, flush=True)
    if asked.json:
        print(json.dumps(report.as_json(head, outcomes), indent=1))
    else:
        print("\nall rows", *(f"  {report.row_text(outcome)}" for outcome in outcomes), sep="\n")
    return int(any(isinstance(each, campaign.NotRun) and each.failed for each in outcomes))


def _place(asked: argparse.Namespace, directory: Path) -> Place:
    if asked.source is None and asked.target is None:
        if asked.overwrite_source or asked.overwrite_target:
            raise NotHere("--overwrite-source and --overwrite-target are for devices that are given")
        return OwnDisks(directory)
    if asked.source is None or asked.target is None:
        raise NotHere("--source and --target go together")
    if asked.size:
        raise NotHere("--size is for loop devices: devices that are given are copied whole")
    if not asked.overwrite_target:
        raise NotHere(f"all on {asked.target} would be lost: say --overwrite-target if that is meant")
    return GivenDisks.checked(asked.source, asked.target, may_fill=asked.overwrite_source)


def _head(bench: Bench, seed: int) -> dict[str, Any]:
    """What a reader must know of the machine, its load before the start among it."""
    watch = Watch()
    time.sleep(_WATCHED_SMOKE_S if bench.smoke else _WATCHED_S)
    load = watch.load()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    head: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPUs, {format_size(memory // MIB * MIB)}, Linux {platform.release()}",
        "disks": str(bench.place),
        "sizes": format_size(bench.size_bytes),
        "rounds": bench.rounds,
        "queue_depth": bench.queue_depth,
        "seed": seed,
        "tools": {name: tools.version(name) for name in tools.PACKAGES},
        "load_before": str(load),
    }
    if load.others + load.stolen > _BUSY or load.average > 1:
        head["warning"] = "the machine is busy: expect wide intervals, and rows that are not resolved"
    if bench.smoke:
        head["smoke"] = "no figure of this run says anything"
    return head


def _shown(value: object) -> str:
    return "; ".join(str(each) or "-" for each in value.values()) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    raise SystemExit(main())
