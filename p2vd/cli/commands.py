"""One function a command of p2vctl. Each prints, and returns the exit status; raises CliError."""

import argparse
from collections.abc import Sequence
from typing import Any

from p2vd.bus.names import JOB, MACHINE, MANAGER, ROOT, SOURCE, VOLUME_GROUP
from p2vd.cli import plan_page, render, waves
from p2vd.cli.boot_test import told
from p2vd.cli.client import Client, CliError, Exit, Object, make_options, repeated
from p2vd.cli.contents import contents
from p2vd.cli.lookup import find, find_all, identity, jobs_of, source_id
from p2vd.cli.render import SHORT_ID
from p2vd.cli.verify import shown as verified
from p2vd.model.contents import UNDER_EXAMINATION

Arguments = argparse.Namespace


def sources(client: Client, arguments: Arguments) -> Exit:
    """List the disks that can be copied."""
    seen = _of(client.objects(), SOURCE)
    found = [source for source in seen if all(one.matches(source) for one in arguments.filter)]
    if not _print_json(arguments, render.as_dicts(found)):
        if seen and not found:
            print(f"None of the {len(seen)} sources passes the filter. All of them: p2vctl sources")
        else:
            print(render.sources(found) if found else "p2vd sees no disks. Attach some, then: p2vctl rescan")
        _print_problems(client)
    return Exit.OK


def vgs(client: Client, arguments: Arguments) -> Exit:
    """List the volume groups and thin pools."""
    found = _of(client.objects(), VOLUME_GROUP)
    if not _print_json(arguments, render.as_dicts(found)):
        print(render.volume_groups(found) if found else "p2vd sees no volume group.")
    return Exit.OK


def fabric(client: Client, arguments: Arguments) -> Exit:
    """List the Fibre Channel ports of this host and what they see."""
    (hbas,) = client.act(ROOT, MANAGER, "GetFabric")
    if not _print_json(arguments, hbas):
        print(render.fabric(hbas) if hbas else "This host has no Fibre Channel port.")
        _print_problems(client)
    return Exit.OK


def plan(client: Client, arguments: Arguments) -> Exit:
    """Say what would be done to the disks of a machine."""
    if arguments.wave:
        if _of_one_machine(arguments):
            raise CliError("With --wave the list says which machines, and how.", Exit.USAGE)
        return waves.plan(client, arguments)
    if not arguments.sources and not arguments.machine:
        raise CliError("Name a source, or a machine's record with --machine. See: p2vctl sources", Exit.USAGE)
    objects = client.objects() if arguments.sources else ()
    named = [source_id(text, objects) for text in arguments.sources]
    options: dict[str, object] = {}
    if arguments.source_offline:
        options["source-offline"] = True
    if arguments.name:
        options["name"] = arguments.name
    if arguments.machine:
        options["machine"] = arguments.machine
    if arguments.sample:
        options["sample"] = True
    _, page = repeated(
        lambda: client.call(ROOT, MANAGER, "Plan", "asa{sv}", named, make_options(options)),
        lambda error: UNDER_EXAMINATION in str(error) or error.name == "StillLooking",
    )
    if not _print_json(arguments, page):
        print(plan_page.plan(page))
        if arguments.sample and not page.get("PoolFills"):
            print("No disk of it goes to a thin pool: there was nothing to sample.")
    return Exit.OK


def _of_one_machine(arguments: Arguments) -> bool:
    """Whether anything is asked for that a list of machines says itself, or that is of one machine."""
    asked = arguments.sources, arguments.machine, arguments.name, arguments.source_offline, arguments.sample
    return any(asked)


def migrate(client: Client, arguments: Arguments) -> Exit:
    """Run a plan, or the plans of a list of machines."""
    if bool(arguments.plan) == bool(arguments.wave):
        raise CliError("Name a plan (p2vctl plan), or a list of machines by --wave.", Exit.USAGE)
    if arguments.wave:
        if arguments.wait:
            raise CliError(
                "--wait is for one plan: the machines of a wave start when there is room for each. Leave it "
                "out, and see how they fare: p2vctl waves show WAVE, p2vctl watch",
                Exit.USAGE,
            )
        return waves.migrate(client, arguments)
    if arguments.at:
        raise CliError("--at is for waves: write --wave FILE.", Exit.USAGE)
    (path,) = repeated(
        lambda: client.call(ROOT, MANAGER, "Migrate", "sa{sv}", arguments.plan, make_options({})),
        lambda error: UNDER_EXAMINATION in str(error),
    )
    machine = Object(path, MACHINE, client.properties(path, MACHINE))
    shorts = [item["Uuid"][:SHORT_ID] for item in jobs_of(machine, client.objects())]
    word, jobs = ("job", shorts[0]) if len(shorts) == 1 else ("jobs", " ".join(shorts))
    watched = jobs if len(shorts) == 1 else machine["Uuid"][:SHORT_ID]
    if not arguments.wait:
        if not _print_json(arguments, render.as_dicts([machine])[0]):
            print(f"{machine['Name']} is on its way: {word} {jobs}. Watch it: p2vctl watch {watched}")
        return Exit.OK
    from p2vd.cli.watch import watch  # its libraries are slow to import

    try:
        outcome = watch(client, [path], quiet=arguments.json)
    except (KeyboardInterrupt, BrokenPipeError):  # or the reader, such as head, has enough
        raise CliError(
            f"No longer watching; the migration goes on. Watch it again: p2vctl watch {watched}",
            Exit.INTERRUPTED,
        ) from None
    if arguments.json:
        _print_json(arguments, {"Path": path, **client.properties(path, MACHINE)})
    elif outcome.status is Exit.OK:
        print(outcome.sentence)
    if outcome.status is not Exit.OK:
        raise CliError(outcome.sentence, outcome.status)
    return Exit.OK


def jobs(client: Client, arguments: Arguments) -> Exit:
    """List the jobs."""
    objects = client.objects()
    found = _of(objects, JOB)
    if not _print_json(arguments, render.as_dicts(found)):
        print(render.jobs(objects) if found else "There are no jobs.")
        if told := waves.scheduled(client):
            print(told)
    return Exit.OK


def show(client: Client, arguments: Arguments) -> Exit:
    """Show everything about one job, machine, source or volume group."""
    objects = client.objects()
    item = find(arguments.object, objects, (JOB, MACHINE, SOURCE, VOLUME_GROUP))
    parts: dict[str, list[Any]] = {}
    if item.interface == SOURCE:
        (parts["Paths"],) = client.act(item.path, SOURCE, "GetPaths")
    if item.interface == VOLUME_GROUP:
        (parts["LogicalVolumes"],) = client.act(item.path, VOLUME_GROUP, "GetVolumes")
    if _print_json(arguments, {"Path": item.path, **item.properties, **parts}):
        return Exit.OK
    print(render.details(item))
    tables = {"Paths": render.paths, "LogicalVolumes": render.logical_volumes}
    if item.interface == VOLUME_GROUP:
        print("\n" + render.physical_volumes(item["Devices"]))
    for name, rows in parts.items():
        if rows:
            print("\n" + tables[name](rows))
    if item.interface == MACHINE:
        print("\n" + render.jobs([item, *jobs_of(item, objects)]))
    if item.interface == SOURCE:
        print("\n" + contents(item["Contents"]))
    if item.interface == JOB and item["Verification"]:
        print("\n" + verified(item))
    if item.interface == MACHINE and item["BootTest"]:
        print("\n" + told(item["BootTest"]))
    return Exit.OK


def watch(client: Client, arguments: Arguments) -> Exit:
    """Show progress as it is made."""
    from p2vd.cli.watch import watch as watch_all  # its libraries are slow to import

    subjects = []
    if arguments.objects:
        objects = client.objects()
        subjects = [item.path for item in find_all(arguments.objects, objects)]
    try:
        outcome = watch_all(client, subjects)
    except (KeyboardInterrupt, BrokenPipeError) as stopped:  # or the reader, such as head, has enough
        if isinstance(stopped, KeyboardInterrupt):
            print()
        if not subjects:  # all jobs are watched until then
            return Exit.OK
        again = " ".join(arguments.objects)
        raise CliError(
            f"No longer watching, before it was over; the jobs go on. Watch again: p2vctl watch {again}",
            Exit.INTERRUPTED,
        ) from None
    if outcome.status is not Exit.OK:
        raise CliError(outcome.sentence, outcome.status)
    print(outcome.sentence)
    return Exit.OK


def pause(client: Client, arguments: Arguments) -> Exit:
    """Hold jobs until they are resumed."""
    return _act(client, arguments, "Pause", "is held. To go on: p2vctl resume {id}")


def resume(client: Client, arguments: Arguments) -> Exit:
    """Let held jobs go on."""
    options = {"ignore-window": True} if arguments.ignore_window else {}
    objects = client.objects()
    for item in find_all(arguments.objects, objects):
        client.act(item.path, item.interface, "Resume", **options)
        waits = next(filter(None, (job["Waiting"] for job in jobs_of(item, client.objects()))), "")
        after = f"is no longer paused, but waits. {waits}" if waits else "goes on."
        print(f"{_call_it(item)} {after} Watch it: p2vctl watch {identity(item)[:SHORT_ID]}")
    return Exit.OK


def cancel(client: Client, arguments: Arguments) -> Exit:
    """Give jobs up."""
    target = "remove" if arguments.remove_target else "keep"
    # Removal takes its time, and can fail: what became of it is seen afterwards.
    fate = "its volume goes with it" if arguments.remove_target else "its volume stays"
    return _act(
        client, arguments, "Cancel", f"is being cancelled; {fate}. See: p2vctl show {{id}}", target=target
    )


def retry(client: Client, arguments: Arguments) -> Exit:
    """Enter the stage that failed again."""
    objects = client.objects()
    for item in find_all(arguments.objects, objects):
        members = jobs_of(item, objects)
        if not members:
            raise CliError(f"No job of {item['Name']} is listed any more: there is nothing to try again.")
        failed = [job for job in members if job["Stage"] == "failed" or "hook" in job["Holds"]]
        for job in failed or members[:1]:
            client.act(job.path, JOB, "Retry")
        print(f"{_call_it(item)} goes on. Watch it: p2vctl watch {identity(item)[:SHORT_ID]}")
    return Exit.OK


def doctor(client: Client, arguments: Arguments) -> Exit:
    """Tell whether this host is exposed or badly set."""
    (found,) = repeated(
        lambda: client.act(ROOT, MANAGER, "Doctor"), lambda error: error.name == "StillLooking"
    )
    if not _print_json(arguments, found):
        print(render.findings(found) if found else "All is well.")
    return Exit.FINDINGS if any(finding["Severity"] != "advice" for finding in found) else Exit.OK


def reload(client: Client, arguments: Arguments) -> Exit:
    """Read the policies again."""
    client.act(ROOT, MANAGER, "Reload")
    print("The policies were read. Which one matches which disk: p2vctl sources")
    return Exit.OK


def rescan(client: Client, arguments: Arguments) -> Exit:
    """Look at the host again."""
    client.act(ROOT, MANAGER, "Rescan", **({"scsi": arguments.place} if arguments.place else {}))
    if client.properties(ROOT, MANAGER)["Scanning"]:
        print("The scan goes on; disks appear as they are found. See: p2vctl sources")
    else:
        print(f"p2vd sees {len(_of(client.objects(), SOURCE))} disks. See: p2vctl sources")
    _print_problems(client)
    return Exit.OK


def _act(client: Client, arguments: Arguments, method: str, result: str, **options: object) -> Exit:
    for item in find_all(arguments.objects, client.objects()):
        client.act(item.path, item.interface, method, **options)
        print(f"{_call_it(item)} {result.format(id=identity(item)[:SHORT_ID])}")
    return Exit.OK


def _call_it(item: Object) -> str:
    return f"Machine {item['Name']}" if item.interface == MACHINE else f"Job {item['Uuid'][:SHORT_ID]}"


def _of(objects: Sequence[Object], interface: str) -> list[Object]:
    return [item for item in objects if item.interface == interface]


def _print_json(arguments: Arguments, value: object) -> bool:
    if arguments.json:
        print(render.as_json(value))
    return bool(arguments.json)


def _print_problems(client: Client) -> None:
    manager = client.properties(ROOT, MANAGER)
    for problem in (*manager["Problems"], *manager["PolicyErrors"]):
        print(f"\n! {problem}")
