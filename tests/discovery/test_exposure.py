"""What of a host takes hold of guest disks."""

from pathlib import Path

import pytest

from p2vd.discovery.exposure import QUARANTINE_RULES, read_exposures, read_system_id, rule_in_effect
from p2vd.model.doctor import UdevRule
from tests.discovery.host import Host, codes, empty_host, recorded_commands
from tests.fakes import FakeCommands


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with everything that could interfere."""
    host = empty_host(tmp_path)
    for rule in ("60-kpartx.rules", "64-md-raid-assembly.rules", "69-lvm.rules"):
        host.rule(rule)
    return host


def exposed(host: Host) -> list[str]:
    return codes(read_exposures(host.commands, host.root))


def test_a_bare_host_is_exposed_to_all_with_the_remedy(host: Host) -> None:
    reasons = read_exposures(host.commands, host.root)
    assert codes(reasons) == ["kpartx", "mdadm", "event-activation"]
    assert all("59-p2vd-quarantine.rules" in reason.text for reason in reasons)


def test_p2vds_rules_protect(host: Host) -> None:
    for rule in QUARANTINE_RULES:
        host.rule(rule, directory="lib/udev/rules.d")
    assert exposed(host) == []


def test_one_of_the_two_is_not_enough(host: Host) -> None:
    host.rule(QUARANTINE_RULES[0])
    reasons = read_exposures(host.commands, host.root)
    assert reasons
    assert QUARANTINE_RULES[0] not in reasons[0].text


def test_rules_masked_by_the_administrator_do_not_protect(host: Host) -> None:
    for rule in QUARANTINE_RULES:
        host.rule(rule)
    (host.root / "etc/udev/rules.d").mkdir(parents=True)
    (host.root / "etc/udev/rules.d" / QUARANTINE_RULES[0]).symlink_to("/dev/null")
    assert exposed(host) == ["kpartx", "mdadm", "event-activation"]


def test_the_rule_that_udev_reads(host: Host) -> None:
    name = QUARANTINE_RULES[0]
    assert rule_in_effect(host.root, name) == UdevRule(name)
    host.rule(name, text="# p2vd's\n")
    package = str(host.root / "usr/lib/udev/rules.d" / name)
    assert rule_in_effect(host.root, name) == UdevRule(name, package)
    host.rule(name, text="# p2vd's\n", directory="etc/udev/rules.d")
    own = str(host.root / "etc/udev/rules.d" / name)
    assert rule_in_effect(host.root, name) == UdevRule(name, own)
    host.rule(name, text="# the administrator's\n", directory="etc/udev/rules.d")
    assert rule_in_effect(host.root, name) == UdevRule(name, own, hides=package)
    host.rule(name, text="", directory="etc/udev/rules.d")
    assert rule_in_effect(host.root, name) == UdevRule(name, own, masked=True)


def test_what_the_administrator_masked_is_no_exposure(host: Host) -> None:
    host.rule("60-kpartx.rules", text="", directory="etc/udev/rules.d")
    host.commands.replace("lvm lvmconfig", "scan_lvs=0\nevent_activation=0\n")
    assert exposed(host) == ["mdadm"]


def test_a_host_without_those_programs_is_not_exposed(tmp_path: Path) -> None:
    assert exposed(empty_host(tmp_path)) == []


def test_lvm_that_looks_into_volumes_exposes_even_a_protected_host(host: Host) -> None:
    for rule in QUARANTINE_RULES:
        host.rule(rule)
    host.commands.replace("lvm lvmconfig", "scan_lvs=1\nevent_activation=1\n")
    assert exposed(host) == ["scan-lvs"]


def test_the_labs_host_has_no_system_id() -> None:
    assert read_system_id(recorded_commands("base")) == ""


def test_a_system_id() -> None:
    assert (
        read_system_id(FakeCommands().on("lvm systemid", "  system ID: host1.example\n")) == "host1.example"
    )
