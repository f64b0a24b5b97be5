"""Policy files: what they may say, and what is said of errors."""

from pathlib import Path

import pytest

from p2vd.model.copying import Verify
from p2vd.model.disk import Transport
from p2vd.model.plan import (
    CopyOptions,
    Cutover,
    DiskBus,
    DomainOptions,
    PoolExtension,
    Provisioning,
    VirtType,
)
from p2vd.model.size import GIB, MIB, TIB
from p2vd.model.window import Window
from p2vd.policy.model import FirmwareChoice, Match, PolicySet, PolicyText, SectorSizeRemedy, TargetRule
from p2vd.policy.parse import load

FULL = """\
[[rule]]
name = "all of it"
auto = false
priority = 5
window = [{ days = "mon-fri", from = "22:00", to = "05:00", timezone = "Europe/Berlin" }]
[rule.match]
transport = ["iscsi", "fc"]
wwid = "3600*"
vendor = "LIO-ORG"
model = ["a*", "b*"]
serial = "?"
portal = "10.98.*:3260"
target = "iqn.*"
machine = "web*"
size = { min = "1 GiB", max = "2 TiB" }
[rule.target]
volume_groups = ["vg_a", "@tag"]
provisioning = "thin"
thin_pool = "pool0"
name = "p2v_{machine}"
single_host = true
autoactivate = false
sector_size_remedy = "domain"
[rule.copy]
verify = "both"
queue_depth = 16
bandwidth = "100 MiB"
[rule.pool]
reserve_percent = 10
over_commit = 2
[rule.source]
offline = true
allow_hibernated = true
[rule.domain]
hypervisor = "qemu:///system"
type = "qemu"
memory = "4 GiB"
vcpus = 3
firmware = "uefi"
bus = "scsi"
network = "default"
"""
NIGHTS = (Window((0, 1, 2, 3, 4), 22 * 60, 5 * 60, "Europe/Berlin"),)
SHORT = """\
[[rule]]
name = "short"
match.wwid = "*"
[rule.target]
volume_groups = "vg"
provisioning = "thick"
"""


def errors_of(*texts: str) -> list[str]:
    """The errors in files `0`, `1`, ..., as text."""
    policies = load([PolicyText(str(number), text) for number, text in enumerate(texts)])
    assert not (policies.errors and policies.rules)
    return [str(error) for error in policies.errors]


def test_every_key() -> None:
    policies = load([PolicyText("f", FULL)])
    assert policies.errors == ()
    (rule,) = policies.rules
    assert (rule.name, rule.path, rule.line) == ("all of it", "f", 1)
    assert rule.match == Match(
        (Transport.ISCSI, Transport.FC),
        ("3600*",),
        ("LIO-ORG",),
        ("a*", "b*"),
        ("?",),
        ("10.98.*:3260",),
        ("iqn.*",),
        ("web*",),
        GIB,
        2 * TIB,
    )
    assert rule.target == TargetRule(
        ("vg_a", "@tag"), Provisioning.THIN, "pool0", "p2v_{machine}", True, False, SectorSizeRemedy.DOMAIN
    )
    assert rule.copy == CopyOptions(Verify.BOTH, 16, 100 * MIB, 10, priority=5, windows=NIGHTS)
    assert (rule.over_commit, rule.source_offline, rule.allow_hibernated) == (2.0, True, True)
    assert rule.firmware is FirmwareChoice.UEFI
    assert rule.domain == DomainOptions(
        "qemu:///system", 4 * GIB, 3, bus=DiskBus.SCSI, network="default", virt_type=VirtType.QEMU
    )


def test_when_a_machine_is_registered() -> None:
    (rule,) = load([PolicyText("f", SHORT)]).rules
    assert rule.cutover is Cutover.AUTO
    (rule,) = load([PolicyText("f", SHORT.replace("[[rule]]\n", '[[rule]]\ncutover = "manual"\n'))]).rules
    assert rule.cutover is Cutover.MANUAL


def test_what_is_not_said_has_its_default() -> None:
    (rule,) = load([PolicyText("f", SHORT)]).rules
    assert rule.target == TargetRule(("vg",), Provisioning.THICK)
    assert (rule.copy, rule.domain) == (CopyOptions(), DomainOptions())
    assert (rule.over_commit, rule.source_offline, rule.allow_hibernated) == (1.0, False, False)
    assert rule.firmware is FirmwareChoice.AUTO


def test_text_of_a_rule_is_the_same_whatever_stands_around_it() -> None:
    (one,) = load([PolicyText("f", SHORT)]).rules
    (two,) = load([PolicyText("f", "# new\n\n" + SHORT.replace(' = "short"', '="short" # why'))]).rules
    (other,) = load([PolicyText("f", SHORT.replace("thick", "thin"))]).rules
    assert one.text == two.text != other.text
    assert (one.line, two.line) == (1, 3)


def test_rules_keep_the_order_of_files_and_texts() -> None:
    policies = load([PolicyText("a", SHORT + SHORT.replace("short", "second")), PolicyText("b", FULL)])
    assert [rule.name for rule in policies.rules] == ["short", "second", "all of it"]


def test_one_error_in_one_file_leaves_no_rules() -> None:
    assert errors_of(SHORT, "nonsense = 1\n") == [
        "1:1: nonsense: there is no such key; allowed here: nbd, rule"
    ]


def test_a_name_is_taken_once() -> None:
    assert errors_of(SHORT, "\n" + SHORT) == [
        '1:3: rule.name: a rule "short" is already in 0:1; name each rule once'
    ]


def test_files_that_cannot_be_read_are_errors() -> None:
    policies = load([PolicyText("f", "", "cannot be read: Permission denied"), PolicyText("g", SHORT)])
    assert [str(error) for error in policies.errors] == ["f: cannot be read: Permission denied"]
    assert policies.rules == ()


def test_an_empty_rule_lacks_everything_at_once() -> None:
    assert errors_of("[[rule]]\n") == [
        '0:1: rule.match: a rule needs a criterion; wwid = "*" matches every disk',
        "0:1: rule.name: every rule needs a name",
        '0:1: rule.target.provisioning: is missing: "thin" or "thick"',
        '0:1: rule.target.volume_groups: is missing: a list of names or "@tags" of volume groups',
    ]


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"3600*"', "3600", "8: rule.match.wwid: must be a string or a list of strings"),
        (
            '"fc"]',
            '"scsi"]',
            '7: rule.match.transport: there is no transport \'scsi\'; allowed: "iscsi", "fc"',
        ),
        ('max = "2 TiB"', 'max = "1 MiB"', "15: rule.match.size.max: must not be less than min, nor zero"),
        (
            'max = "2 TiB"',
            'most = "2 TiB"',
            "15: rule.match.size.most: there is no such key; allowed here: max, min",
        ),
        ("serial =", 'wwpn = "50:06:01" #', "11: rule.match.wwpn: '500601' can match no WWPN: it has 16 hex"),
        ("serial =", 'wwpn = "iqn.*" #', "11: rule.match.wwpn: 'iqn.*' can match no WWPN: those have hex"),
        ('["vg_a", "@tag"]', "[]", "17: rule.target.volume_groups: must be a string or a list"),
        ('"thin"', '"thick"', "19: rule.target.thin_pool: a thick volume has no pool; remove the key"),
        ('"p2v_{machine}"', '"disk"', "20: rule.target.name: must name {machine} or {wwid}"),
        (
            "single_host",
            "single_hots",
            "21: rule.target.single_hots: there is no such key; allowed here: autoact",
        ),
        ('"domain"', '"guess"', '23: rule.target.sector_size_remedy: must be "none" or "domain"'),
        ("thin_pool = ", "lun = ", '19: rule.target.lun: is for kind = "lun", and this is "lv"; remove one'),
        ('"both"', '"half"', '25: rule.copy.verify: must be "read-back" or "both" or "none"'),
        (
            "queue_depth = 16",
            "queue_depth = 0",
            "26: rule.copy.queue_depth: must be a whole number from 1 to 64",
        ),
        (
            "queue_depth = 16",
            "bad_sectors = 100001",
            "26: rule.copy.bad_sectors: must be a whole number from 0 to 100000",
        ),
        ('"100 MiB"', '"fast"', "27: rule.copy.bandwidth: 'fast' is not a size"),
        (
            "bandwidth = ",
            "max_latency = ",
            "27: rule.copy.max_latency: '100 MiB' is not a time; write it as 20 ms",
        ),
        ("= 10\n", "= 91\n", "29: rule.pool.reserve_percent: must be a whole number from 0 to 90"),
        (
            "over_commit = 2",
            "over_commit = 0",
            "30: rule.pool.over_commit: must be a number from 0.01 to 1000",
        ),
        (
            "offline = true",
            "online = true",
            "32: rule.source.online: there is no such key; allowed here: allow_hibernated, offline",
        ),
        (
            '"qemu:///system"',
            '"xen:///"',
            '35: rule.domain.hypervisor: must be "qemu:///system" or "xen:///system" or "xl" or "proxmox"',
        ),
        ('type = "qemu"', 'type = "xen"', '36: rule.domain.type: must be "kvm" or "qemu"'),
        ('"4 GiB"', '"4"', "37: rule.domain.memory: must be from 1 MiB to 1 PiB"),
        ("auto = false", 'auto = "yes"', "3: rule.auto: must be true or false, not 'yes'"),
        ("auto = false", "warm = true", "3: rule.warm: this version of p2vd cannot do that yet"),
        (
            "auto = false",
            "colour = 1",
            "3: rule.colour: there is no such key; allowed here: auto, copy, cutover, domain, hooks",
        ),
        ("priority = 5", "priority = 1001", "4: rule.priority: must be a whole number from -1000 to 1000"),
    ],
)
def test_errors_name_line_key_and_what_is_allowed(old: str, new: str, error: str) -> None:
    assert FULL.count(old) == 1
    found = errors_of(FULL.replace(old, new))
    assert any(text.startswith(f"0:{error}") for text in found), found


def test_thick_with_a_pool_table_is_a_contradiction() -> None:
    assert errors_of(SHORT + "[rule.pool]\nover_commit = 2\n") == [
        '0:7: rule.pool: a thick volume has no pool; remove the table or write provisioning = "thin"'
    ]


def test_an_empty_size_is_no_criterion() -> None:
    assert errors_of(SHORT.replace('match.wwid = "*"', "match.size = {}")) == [
        '0:3: rule.match: a rule needs a criterion; wwid = "*" matches every disk'
    ]


def test_nothing_starts_by_itself_without_a_declaration_that_it_is_offline() -> None:
    assert errors_of(SHORT.replace("match.", "auto = true\nmatch.")) == [
        "0:3: rule.auto: needs source.offline = true: nobody is there to declare that the machines are "
        "shut down"
    ]


THIN = SHORT.replace("thick", "thin") + "[rule.pool]\n"


@pytest.mark.parametrize(
    ("extend", "error"),
    [
        ('{ max = "1 TiB" }', "8: rule.pool.extend.step: is missing: by how much the pool grows at a time"),
        ('{ step = "1 GiB" }', "8: rule.pool.extend.max: is missing: the size it never exceeds"),
        ('{ step = "2 GiB", max = "1 GiB" }', "8: rule.pool.extend.max: must not be less than step"),
        ('{ step = "1 MiB", max = "1 GiB" }', "8: rule.pool.extend.step: must be 4 MiB at least"),
        (
            '{ step = "1 GiB", max = "1 TiB", metadata_step = "0" }',
            "8: rule.pool.extend.metadata_step: must be 4 MiB at least",
        ),
        ("3", "8: rule.pool.extend: must be a table: [rule.pool.extend], not 3"),
        (
            '{ step = "1 GiB", max = "1 TiB", by = 2 }',
            "8: rule.pool.extend.by: there is no such key; allowed here: max, metadata_step, step, vg_free",
        ),
    ],
)
def test_what_is_wrong_about_the_extension_of_a_pool(extend: str, error: str) -> None:
    found = errors_of(f"{THIN}extend = {extend}\n")
    assert any(error in text for text in found), found


def test_the_extension_of_a_pool() -> None:
    text = f'{THIN}extend = {{ step = "10 GiB", max = "1 TiB", vg_free = "5 GiB" }}\n'
    (rule,) = load([PolicyText("f", text)]).rules
    assert rule.copy.pool_extension == PoolExtension(10 * GIB, 1024 * GIB, 5 * GIB, 128 * MIB)
    (rule,) = load([PolicyText("f", f"{THIN}extend = false\n")]).rules
    assert rule.copy.pool_extension is None


DIRECTORY = Path(__file__).parents[2] / "conf" / "policy.d"
LATER = "this version of p2vd cannot do that yet; remove the key"
# Each example, and what is said of it once it is uncommented: by line and key.
EXAMPLES: dict[str, list[tuple[int, str]]] = {
    "40-night-only.toml": [],
    "50-san-lun.toml": [],
    "50-san-thick.toml": [],
    "50-san-thin.toml": [],
    "60-image-directory.toml": [],
    "60-local-disk.toml": [],
    "60-nbd-rescue.toml": [],
    "70-array-auto.toml": [],
}


def uncommented(name: str) -> str:
    """An example as its head says that it is put in force: without the "#" in front of the keys."""
    lines = (DIRECTORY / name).read_text().splitlines()
    return "\n".join(
        line[1:] if line.startswith("#") and line[1:2] not in ("", " ") else line for line in lines
    )


@pytest.mark.parametrize(("name", "errors"), EXAMPLES.items())
def test_examples_touch_nothing_and_are_right_once_uncommented(name: str, errors: list[str]) -> None:
    assert load([PolicyText(name, (DIRECTORY / name).read_text())]) == PolicySet()
    assert errors_of(uncommented(name)) == [f"0:{error}" for error in errors]


def test_what_starts_by_itself_says_so() -> None:
    (rule,) = load([PolicyText("f", uncommented("70-array-auto.toml"))]).rules
    assert (rule.auto, rule.source_offline) == (True, True)
    assert rule.match.wwpn == ("50060160*", "50060161*")


def test_every_example_is_known_here() -> None:
    assert sorted(path.name for path in DIRECTORY.iterdir()) == sorted(EXAMPLES)


def test_the_examples_that_this_version_can_do_are_used_together() -> None:
    usable = [name for name, errors in EXAMPLES.items() if not errors]
    policies = load([PolicyText(name, uncommented(name)) for name in usable])
    assert policies.errors == ()
    assert len(policies.rules) == len(usable) >= 3
