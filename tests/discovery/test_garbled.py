"""Whatever a command or the kernel says: a named error, or a picture. Never anything else.

Each recorded answer and each kind of recorded file is cut at many places and bitten at many more.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.discovery.disks import PathFacts, read_disks
from p2vd.discovery.dm import dm_info, pool_status
from p2vd.discovery.doctor import read_host_facts, read_multipath
from p2vd.discovery.exposure import read_exposures, read_system_id
from p2vd.discovery.fc import Fabric, read_hbas
from p2vd.discovery.images import file_ids, find_images
from p2vd.discovery.iscsi import read_sessions
from p2vd.discovery.lvm import LvmDevice, read_volume_groups, with_autoextend
from p2vd.discovery.md import array_uuid
from p2vd.discovery.mounts import read_mounts
from p2vd.discovery.multipath import read_paths
from p2vd.discovery.sysfs import read_block_tree
from p2vd.discovery.usage import path_reasons, usage_reasons
from p2vd.model.errors import P2vdError
from p2vd.system.command import Result
from tests.discovery.host import FIXTURES, Host, question, recorded_commands, recorded_host, recording
from tests.fakes import FakeCommands

RECORDINGS = sorted(path.stem for path in FIXTURES.glob("*.json") if "commands" in recording(path.stem))
HOSTS = [name for name in RECORDINGS if "sysfs" in recording(name)]
CUTS = 60
BITES = 150
JUNK = ("\0", "\ufffd", "~", "9", "-", '"', "}", " ", "\n", "²", "")

Argv = tuple[str, ...]
DEVICES = {"253:0": LvmDevice("/dev/mapper/a", 512), "253:1": LvmDevice("/dev/mapper/b", 4096)}


def _pools(commands: FakeCommands, _: Argv) -> object:
    return with_autoextend(commands, read_volume_groups(commands, DEVICES).volume_groups)


def _dm(commands: FakeCommands, argv: Argv) -> object:
    return pool_status(commands, argv[-1]) if argv[-1].endswith("-tpool") else dm_info(commands, argv[-1])


# By how a command begins, longest first: who reads its answer.
READERS: dict[str, Callable[[FakeCommands, Argv], object]] = {
    "lvm lvmconfig --type full devices": lambda commands, _: read_exposures(commands, Path("/nowhere")),
    "lvm lvmconfig": _pools,
    "lvm fullreport": _pools,
    "lvm pvs": _pools,
    "lvm systemid": lambda commands, _: read_system_id(commands),
    "multipathd show": lambda commands, _: read_paths(commands),
    "dmsetup info": lambda commands, argv: dm_info(commands, argv[-1]),
    "dmsetup": _dm,
    "mdadm": lambda commands, argv: array_uuid(commands, argv[-1]),
    "readlink": lambda commands, argv: find_images(commands, Path(argv[-1])),
    "find": lambda commands, argv: find_images(commands, Path(argv[1])),
    "stat": lambda commands, argv: file_ids(commands, argv[3:]),
}


def reader(argv: Argv) -> Callable[[FakeCommands, Argv], object]:
    """Who reads the answer to `argv`; a command without a reader fails the test."""
    line = " ".join(argv)
    return next(read for prefix, read in READERS.items() if line.startswith(prefix))


def cuts(text: str) -> Iterator[str]:
    """Yield `text` cut off at many places, nothing of it among them."""
    places = {0, 1, *range(0, len(text), max(1, len(text) // CUTS)), len(text) - 1}
    yield from (text[:at] for at in sorted(places) if 0 <= at < len(text))


def bites(text: str, chance: random.Random) -> Iterator[str]:
    """Yield `text` with a piece replaced by junk at many places."""
    for _ in range(BITES if text else 0):
        at = chance.randrange(len(text))
        yield text[:at] + chance.choice(JUNK) + text[at + chance.choice((0, 1, 3)) :]


def complaint(read: Callable[..., object], *arguments: object) -> str:
    """What the reader says against it, "" where it made sense; anything but a named error goes through."""
    try:
        read(*arguments)
    except P2vdError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recorded_answer_cut_and_bitten(name: str) -> None:
    chance = random.Random(name)
    for answer in recording(name)["commands"]:
        argv = tuple(answer["argv"])
        commands = recorded_commands(name).on("find")
        whole = commands.query(argv, ok=range(256))
        if whole.returncode:
            continue
        read = reader(argv)
        for stdout in (*cuts(whole.stdout), *bites(whole.stdout, chance)):
            commands.replace(question(argv), replace(whole, stdout=stdout))
            # What is no longer JSON is never a shorter truth.
            no_report = whole.stdout.startswith("{") and not _is_json(stdout)
            assert complaint(read, commands, argv) or not no_report, stdout


def test_what_the_doctor_asks_multipathd_cut_and_bitten() -> None:
    chance = random.Random("doctor")
    whole = {"multipathd show config local": "config", "multipathd show maps json": "maps"}
    for command, name in whole.items():
        text = recording("doctor")[name]
        for stdout in (*cuts(text), *bites(text, chance)):
            commands = FakeCommands()
            for each, key in whole.items():
                commands.on(each, stdout if each == command else recording("doctor")[key])
            complaint(read_multipath, commands)


@pytest.mark.parametrize(
    "prefix", ["lvm fullreport", "lvm systemid", "lvm lvmconfig --type full devices", "multipathd", "dmsetup"]
)
def test_no_answer_at_all_is_an_error(prefix: str) -> None:
    commands = recorded_commands("base")
    argv = next(
        tuple(a["argv"]) for a in recording("base")["commands"] if " ".join(a["argv"]).startswith(prefix)
    )
    commands.replace(question(argv), Result(argv, 0, "", ""))
    assert complaint(reader(argv), commands, argv)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def look(host: Host) -> None:
    """All that reads files of the kernel."""
    tree = read_block_tree(host.sysfs)
    facts = PathFacts({}, read_sessions(host.sysfs), Fabric(read_hbas(host.sysfs)))
    mounts = read_mounts(tree, host.proc)
    for source in read_disks(tree, facts).sources:
        node = tree.nodes[source.device]
        path_reasons(source, node)
        usage_reasons(node, tree, mounts, {})
    read_host_facts(host.commands, host.sysfs, host.root)


def kind_of(path: Path) -> str:
    """What is alike of all disks, sessions, ports: the attribute's name and where it lies."""
    return f"{path.parent.name.rstrip('0123456789:-')}/{path.name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
def test_every_kind_of_file_cut_and_bitten(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    host = recorded_host(name, tmp_path)
    look(host)
    kinds: dict[str, list[Path]] = {}
    for path in (*host.sysfs.rglob("*"), host.proc / "1/mountinfo", host.proc / "swaps"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            kinds.setdefault(kind_of(path), []).append(path)
    assert len(kinds) > 15
    for paths in kinds.values():
        path = chance.choice(paths)
        raw = path.read_bytes()
        at = chance.randrange(len(raw))
        shorter = [b"", raw[: len(raw) // 2], raw[:-1]]
        junk = [b"\xff\0\xfe", b"-1\n", "²\n".encode(), b"1" * 5000]
        bitten = [raw[:at] + one + raw[at + 1 :] for one in (b"\xff", b":", b" ")]
        for content in (*shorter, *junk, *bitten):
            path.write_bytes(content)
            complaint(look, host)
        path.write_bytes(raw)


@pytest.mark.parametrize("command", ["multipathd show", "lvm fullreport", "lvm systemid", "stat"])
def test_what_cannot_be_understood_is_told_as_unread(command: str, tmp_path: Path) -> None:
    """With it the keeper leaves the inventory before it in force."""
    host = recorded_host("base", tmp_path)
    assert host.discovery.scan().unread == ()
    host.commands.replace(command, "what?\n")
    seen = host.discovery.scan()
    assert len(seen.unread) == 1
    assert set(seen.unread) <= set(seen.problems)
