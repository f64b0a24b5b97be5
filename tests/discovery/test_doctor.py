"""What the doctor reads, from what a lab host said (multipath-tools 0.9.4, two sessions of open-iscsi)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.discovery.doctor import parse_config, read_host_facts, read_multipath
from p2vd.discovery.exposure import QUARANTINE_RULES
from p2vd.discovery.multipath import MultipathdUnclear
from p2vd.model.disk import Portal
from p2vd.model.doctor import Multipath, Session, UdevRule
from p2vd.system.command import CommandFailed
from tests.discovery.host import FIXTURES, Host, codes, empty_host

RECORDED = json.loads((FIXTURES / "doctor.json").read_text())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose multipathd and sessions are the recorded ones."""
    host = empty_host(tmp_path)
    host.commands.replace("multipathd show maps json", RECORDED["maps"])
    host.commands.on("multipathd show config local", RECORDED["config"])
    for path, text in RECORDED["sysfs"].items():
        host.write(path, text)
    for rule in QUARANTINE_RULES:
        host.rule(rule)
    return host


def test_the_lab_host(host: Host) -> None:
    facts = read_host_facts(host.commands, host.sysfs, host.root)
    assert facts.exposures == ()
    assert facts.multipath == Multipath("no")
    iqn = "iqn.2026-01.org.example.lab:array"
    # Recorded without ports: the usual one is taken.
    assert facts.sessions == (
        Session("session1", iqn, Portal("10.98.1.1", 3260), 5, 5, 5),
        Session("session2", iqn, Portal("10.98.2.1", 3260), 5, 5, 5),
    )
    assert facts.problems == ()
    assert host.commands.changes == []


def test_how_long_writes_to_a_full_pool_wait(host: Host) -> None:
    def read() -> int:
        return read_host_facts(host.commands, host.sysfs, host.root).no_space_timeout_s

    assert read() == -1  # the module is not loaded
    for told in (60, 0):
        host.write("module/dm_thin_pool/parameters/no_space_timeout", f"{told}\n")
        assert read() == told


def test_the_rules_are_looked_for(host: Host) -> None:
    (host.root / "usr/lib/udev/rules.d" / QUARANTINE_RULES[1]).unlink()
    facts = read_host_facts(host.commands, host.sysfs, host.root)
    assert facts.rules[0].file.endswith(QUARANTINE_RULES[0])
    assert facts.rules[1] == UdevRule(QUARANTINE_RULES[1])


def test_settings_by_section_and_not_those_inside_a_device() -> None:
    settings = parse_config(RECORDED["config"])
    assert settings["defaults"]["no_path_retry"] == "5"
    assert settings["defaults"]["recheck_wwid"] == "no"
    assert settings["defaults"]["path_selector"] == "service-time 0"
    assert settings["overrides"] == {}
    assert "vendor" not in settings["devices"]


def test_an_override_counts_before_the_default(host: Host) -> None:
    config = RECORDED["config"].replace("overrides {\n", 'overrides {\n\trecheck_wwid "yes"\n')
    host.commands.replace("multipathd show config local", config)
    assert read_multipath(host.commands).recheck_wwid == "yes"


def test_maps_that_queue_for_ever(host: Host) -> None:
    """As libmultipath prints no_path_retry queue: `on`; the recorded maps have a number of checks."""
    maps = RECORDED["maps"].replace('"queueing" : "12 chk"', '"queueing" : "on"', 1)
    host.commands.replace("multipathd show maps json", maps)
    assert read_multipath(host.commands).queueing == ("mpatha",)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("multipathd show config local", "timeout\n"),
        ("multipathd show config local", ""),
        ("multipathd show maps json", RECORDED["maps"][:500]),
        ("multipathd show maps json", '{"maps": [{"name": "x"}]}'),
    ],
)
def test_an_answer_that_is_cut_off_or_garbled_is_named(host: Host, command: str, answer: str) -> None:
    host.commands.replace(command, answer)
    with pytest.raises(MultipathdUnclear, match="systemctl status multipathd"):
        read_multipath(host.commands)
    facts = read_host_facts(host.commands, host.sysfs, host.root)
    assert facts.multipath is None
    assert "multipathd did not report" in facts.problems[0]


def test_multipathd_that_does_not_run_is_no_answer(host: Host) -> None:
    host.commands.replace("multipathd show config local", CommandFailed(("multipathd",), 1, "cannot connect"))
    facts = read_host_facts(host.commands, host.sysfs, host.root)
    assert facts.multipath is None
    assert "cannot connect" in facts.problems[0]


def test_lvm_that_does_not_say_is_an_exposure(host: Host) -> None:
    host.commands.replace("lvm lvmconfig", CommandFailed(("lvm",), 5, "no config"))
    assert codes(read_host_facts(host.commands, host.sysfs, host.root).exposures) == ["unknown-exposure"]


@pytest.mark.parametrize(("text", "seconds"), [("120\n", 120), ("off\n", -1), ("", -1), ("-1\n", -1)])
def test_how_long_a_session_waits(host: Host, text: str, seconds: int) -> None:
    host.write("class/iscsi_session/session1/recovery_tmo", text)
    first, second = read_host_facts(host.commands, host.sysfs, host.root).sessions
    assert (first.recovery_s, second.recovery_s) == (seconds, 5)


def test_a_session_that_is_logging_in_has_no_connection_yet(host: Host) -> None:
    host.write("class/iscsi_session/session9/targetname", "iqn.x\n")
    sessions = {one.name: one for one in read_host_facts(host.commands, host.sysfs, host.root).sessions}
    assert replace(sessions["session9"], portal=None) == Session("session9", "iqn.x", None, -1, -1, -1)
