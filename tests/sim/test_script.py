"""The simulator's script: what it may say, and what is wrong with it by line and key."""

from pathlib import Path

import pytest

from p2vd.model.disk import Transport
from p2vd.model.size import GIB, MIB, TIB
from p2vd.sim.fault import Fault, FaultKind
from p2vd.sim.script import DEFAULT, Luns, Pool, ScriptInvalid, Speeds, load, parse, scenarios


def test_no_script_is_a_small_san() -> None:
    script = load(None)
    assert script == parse("x", DEFAULT)
    assert script.luns == (Luns(count=4),)
    (group,) = script.volume_groups
    assert (group.name, group.pool) == ("vg_san", Pool())


def test_everything_that_can_be_said() -> None:
    script = parse(
        "san.toml",
        """
[[luns]]
count = 2000
paths = 4
size = "100 GiB"
sector_size = 4096
transport = "fc"
data_percent = 0

[[volume_group]]
name = "vg-a"
luns = 3
paths = 1
size = "1 TiB"
tags = ["san", "p2vd"]
pool = { name = "thin", size = "512 GiB", chunk = "1 MiB", zeroes = false }

[speed]
copy = "1 GiB"
verify = "2 GiB"

[authority]
deny = ["org.p2vd1.migrate"]
""",
    )
    assert script.luns == (Luns(2000, 4, 100 * GIB, 4096, Transport.FC, 0),)
    (group,) = script.volume_groups
    assert group.pool == Pool("thin", 512 * GIB, MIB, False)
    assert (group.luns.count, group.luns.paths, group.tags) == (3, 1, ("san", "p2vd"))
    assert group.luns.size_bytes * 3 >= TIB
    assert script.speeds == Speeds(GIB, 2 * GIB)
    assert script.denied == ("org.p2vd1.migrate",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("faults = 3", "faults: must be a list of tables: [[faults]]"),
        ("[[faults]]\nat_percent = 3", 'san.toml:1: faults.what: say what goes wrong, one of "path-fails"'),
        ('[[faults]]\nwhat = "fire"', 'faults.what: must be "path-fails" or'),
        ('[[faults]]\nwhat = "path-fails"\ncount = 3', "faults.count: there is no such key; allowed here:"),
        (
            '[[luns]]\n[[faults]]\nwhat = "path-fails"\nlun = 2',
            "faults.lun: must be a whole number from 1 to 1",
        ),
        ('[[faults]]\nwhat = "lun-grows"', "faults.size: must be said, in steps of 4 MiB"),
        ('[[faults]]\nwhat = "pool-filled"', "faults.volume_group: there is no volume group '' with a pool"),
        ('[[faults]]\nwhat = "command-slow"\ncommand = "rm"', "faults.command: must be one of blockdev,"),
        (
            '[[faults]]\nwhat = "source-changed"\nlasts_seconds = 3',
            "faults.lasts_seconds: there is no such key",
        ),
        ('[[faults]]\nwhat = "export-away"', "faults.what: there are no [[exports]]"),
        (
            '[[exports]]\nuri = "nbd://a/"\n[[faults]]\nwhat = "export-away"\nexport = 2',
            "faults.export: must be a whole number from 1 to 1",
        ),
        ("[[exports]]", "exports.uri: must be that of an NBD export"),
        ('[[exports]]\nuri = "nbd:///"', "exports.uri: must be that of an NBD export: it names no host"),
        ("luns = 3", "luns: must be a list of tables: [[luns]]"),
        ("[[luns]]\ncolour = 1", "san.toml:2: luns.colour: there is no such key; allowed here: count,"),
        ("[[luns]]\ncount = 0", "san.toml:2: luns.count: must be a whole number from 1"),
        ("[[luns]]\nsize = 5", "luns.size: must be a size in quotes"),
        ('[[luns]]\nsize = "1000 B"', "luns.size: must be from 512 to"),
        ("[[luns]]\nsector_size = 1024", "luns.sector_size: must be 512 or 4096, not 1024"),
        ('[[luns]]\ntransport = "nvme"', 'luns.transport: the simulator has "iscsi" and "fc" only'),
        ("[[luns]]\ncount = 50000\npaths = 4", "250000 block devices are more than the 100000"),
        ("[[volume_group]]\nluns = 1", "volume_group.name: every volume group needs a name"),
        ('[[volume_group]]\nname = "a"\n[[volume_group]]\nname = "a"', "a volume group 'a' already"),
        (
            '[[volume_group]]\nname = "a"\nsize = "1 GiB"\npool = { size = "1 GiB" }',
            "san.toml:4: volume_group.pool.size: the pool and its metadata",
        ),
        ('[speed]\ncopy = "1 KiB"', "speed.copy: must be from 1048576"),
        ("[host]\ncpus = 0", "san.toml:2: host.cpus: must be a whole number from 1 to 8192"),
        ('[host]\nmemory = "1 KiB"', "host.memory: must be from 1048576"),
        ("[host]\nram = 1", "host.ram: there is no such key; allowed here: address_bits, cpus, kvm, memory"),
        ("[authority]\nallow = true", "authority.allow: there is no such key; allowed here: deny"),
        ("[[luns]", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ScriptInvalid) as caught:
        parse("san.toml", text)
    assert told in str(caught.value)


def test_every_error_is_told_at_once() -> None:
    with pytest.raises(ScriptInvalid) as caught:
        parse("x", "[[luns]]\ncount = 0\npaths = 0\n[speed]\ncopy = 1\n")
    assert len(caught.value.errors) == 3


def test_a_script_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# \xe4\n")
    for path in (tmp_path / "none", tmp_path / "latin"):
        with pytest.raises(ScriptInvalid, match="cannot be read"):
            load(path)


def test_what_goes_wrong_is_read() -> None:
    script = parse(
        "x",
        """
[[luns]]
count = 2
[[volume_group]]
name = "a"
pool = {}
[[faults]]
what = "path-fails"
lun = 2
path = 1
at_percent = 12.5
lasts_seconds = 3
[[faults]]
what = "pool-extended"
after_seconds = 7
size = "600 GiB"
volume_group = "a"
""",
    )
    assert script.faults == (
        Fault(FaultKind.PATH_FAILS, at_percent=12.5, lasts_seconds=3, lun=2, path=1),
        Fault(FaultKind.POOL_EXTENDED, after_seconds=7, size_bytes=600 * GIB, group="a"),
    )


def test_scenarios_come_with_p2vd_and_are_documented() -> None:
    manual = Path("units/p2vd.8.md").read_text()
    assert len(scenarios()) == 5
    for name in scenarios():
        assert load(Path(name)).luns
        assert f"| `{name}` |" in manual
    for kind in FaultKind:
        assert f"`{kind.value}`" in manual
    with pytest.raises(ScriptInvalid, match="no scenario has that name; there are bad-disk, path-failure,"):
        load(Path("flood"))


def test_a_group_over_several_luns_has_whole_extents_and_the_size_it_was_asked_for() -> None:
    (group,) = parse("x", '[[volume_group]]\nname = "a"\nsize = "8 GiB"\nluns = 3').volume_groups
    assert group.luns.size_bytes % (4 * MIB) == 0
    assert 3 * (group.luns.size_bytes - 4 * MIB) >= 8 * GIB
