"""Many machines at once: plan and migrate with --wave, and the commands waves and report."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from p2vd.bus.names import ACTION_INSPECT, MANAGER, ROOT
from p2vd.cli import render, wave_page
from p2vd.cli.client import Client, CliError, Exit, Object, make_options, repeated
from p2vd.cli.lookup import source_id
from p2vd.cli.since import parse_at, parse_since
from p2vd.cli.verbs import AddVerb
from p2vd.cli.wave_file import WaveFileInvalid, read_wave
from p2vd.model.wave import WaveEntry

Arguments = argparse.Namespace


def add_parsers(verb: AddVerb) -> None:
    """Add the commands. `verb` makes the parser of one, as main has it."""
    one = verb("waves", waves, prints_json=True)
    one.add_argument("act", nargs="?", choices=("show", "start", "cancel"), metavar="show|start|cancel")
    one.add_argument("wave", nargs="?", default="", metavar="WAVE", help="its id, or the beginning of it")
    add_at(one)
    one = verb("report", report, prints_json=True)
    one.add_argument(
        "--since",
        type=lambda text: parse_since(text, datetime.now().astimezone()),
        default="yesterday",
        metavar="TIME",
        help="from then on (yesterday): 2026-10-01, '2026-10-01 14:00', today, 30min, 2h, 3d, 1w",
    )


def add_wave(one: argparse.ArgumentParser) -> None:
    """Add the option --wave."""
    one.add_argument(
        "--wave",
        default="",
        metavar="FILE",
        help="many machines: a list in CSV (machine,sources,name,source_offline,priority) or TOML",
    )


def add_at(one: argparse.ArgumentParser) -> None:
    """Add the option --at."""
    one.add_argument(
        "--at",
        type=lambda text: parse_at(text, datetime.now().astimezone()),
        default=0,
        metavar="TIME",
        help="start then: 22:00, '2026-10-01 22:00', +30min, +2h",
    )


def plan(client: Client, arguments: Arguments) -> Exit:
    """Say what would become of the machines of a list."""
    page = _planned(client, arguments.wave)
    if arguments.json:
        print(render.as_json(page))
    else:
        print(wave_page.wave(page))
        print(f"Nothing was written. To run it:\n  p2vctl waves start {page['Id']}")
    return _status(page)


def migrate(client: Client, arguments: Arguments) -> Exit:
    """Plan the machines of a list as one and start them; what is refused stops no other."""
    page = _planned(client, arguments.wave)
    if all(one["Fate"] == "refused" for one in page["Machines"]):
        print(wave_page.wave(page) if not arguments.json else render.as_json(page))
        raise CliError("None of these machines may run. Nothing was started.")
    return _start(client, page, arguments)


def waves(client: Client, arguments: Arguments) -> Exit:
    """List the waves; show, start or cancel one."""
    (pages,) = client.act(ROOT, MANAGER, "GetWaves")
    if not arguments.act:
        if arguments.json:
            print(render.as_json(pages))
        else:
            print(wave_page.waves(pages) if pages else "No wave was planned. See: p2vctl plan --wave FILE")
        return Exit.OK
    if not arguments.wave:
        raise CliError(
            f"Which wave? Say it: p2vctl waves {arguments.act} WAVE. All: p2vctl waves", Exit.USAGE
        )
    page = _find(arguments.wave, pages)
    if arguments.act == "start":
        return _start(client, page, arguments)
    if arguments.act == "cancel":
        (page,) = client.call(ROOT, MANAGER, "CancelWave", "sa{sv}", page["Id"], make_options({}))
    if arguments.json:
        print(render.as_json(page))
    elif arguments.act == "cancel":
        print(f"Wave {page['Id']} begins no more machines. Those that run go on: p2vctl jobs")
    else:
        print(wave_page.wave(page))
    return Exit.OK


def report(client: Client, arguments: Arguments) -> Exit:
    """Tell on a page what happened: done, held, failed and why, and what to do."""
    import dbus  # only for the types that arguments have here

    since = dbus.UInt64(arguments.since)
    (page,) = client.call(ROOT, MANAGER, "GetReport", "ta{sv}", since, make_options({}))
    print(render.as_json(page) if arguments.json else wave_page.report(page))
    needs = any(job["Outcome"] in ("failed", "held") for job in page["Jobs"])
    return Exit.FINDINGS if needs else Exit.OK


def scheduled(client: Client) -> str:
    """What `p2vctl jobs` says of waves that are not through; "" where there is none.

    Everybody may list jobs, and not everybody waves: nobody is asked for a password on their behalf.
    """
    try:
        (pages,) = client.call(ROOT, MANAGER, "GetWaves", "a{sv}", make_options({}), ask=False)
    except CliError as error:
        if error.status is not Exit.NOT_AUTHORIZED:
            raise
        return f"\nWaves are not shown: they want the polkit action {ACTION_INSPECT}. See: p2vctl waves"
    under_way = [page for page in pages if page["State"] in ("scheduled", "running")]
    return f"\nWaves\n{wave_page.waves(under_way)}" if under_way else ""


def _start(client: Client, page: Any, arguments: Arguments) -> Exit:
    import dbus  # only for the types that options have here

    options = make_options({"at": dbus.UInt64(arguments.at)} if arguments.at else {})
    (begun,) = client.call(ROOT, MANAGER, "StartWave", "sa{sv}", page["Id"], options)
    if arguments.json:
        print(render.as_json(begun))
    else:
        print(wave_page.wave(begun))
        print(f"To see it: p2vctl waves show {page['Id']}. To end it: p2vctl waves cancel {page['Id']}")
    return _status(begun)


def _planned(client: Client, path: str) -> Any:
    import dbus  # only for the types that arguments have here

    try:
        lines = read_wave(path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"The list {path} cannot be read: {error}.", Exit.USAGE) from error
    except WaveFileInvalid as error:
        raise CliError(f"The list has mistakes; nothing was planned.\n{error}", Exit.USAGE) from error
    objects = client.objects() if any(line.sources for line in lines) else ()
    machines = dbus.Array([make_options(_entry(line, objects)) for line in lines], signature="a{sv}")
    (page,) = repeated(
        lambda: client.call(ROOT, MANAGER, "PlanWave", "aa{sv}a{sv}", machines, make_options({})),
        lambda error: error.name == "StillLooking",
    )
    return page


def _entry(line: WaveEntry, objects: tuple[Object, ...]) -> dict[str, object]:
    import dbus  # as above

    told: dict[str, object] = {"place": line.place}
    if line.machine:
        told["machine"] = line.machine
    if line.sources:
        told["sources"] = dbus.Array([source_id(text, objects) for text in line.sources], signature="s")
    if line.name:
        told["name"] = line.name
    if line.source_offline:
        told["source-offline"] = True
    if line.priority is not None:
        told["priority"] = dbus.Int32(line.priority)
    return told


def _find(text: str, pages: list[Any]) -> Any:
    found = [page for page in pages if page["Id"].startswith(text)]
    if len(found) != 1:
        which = "There is no wave" if not found else "More than one wave begins with"
        raise CliError(f"{which} {text!r}. See: p2vctl waves")
    return found[0]


def _status(page: Any) -> Exit:
    """6 where a machine was refused: a script shall not take a part for the whole."""
    return Exit.FINDINGS if any(one["Fate"] == "refused" for one in page["Machines"]) else Exit.OK
