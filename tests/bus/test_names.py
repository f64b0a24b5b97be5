"""Names: escaping as sd-bus does it, and one table for everything."""

import string
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.bus.names import (
    ACTIONS,
    BUS_NAME,
    ERROR_PREFIX,
    ERRORS,
    JOB,
    ROOT,
    decode_label,
    encode_label,
    error_name,
    object_id,
    object_path,
)
from p2vd.model.errors import P2vdError

CONF = Path(__file__).parents[2] / "conf"


# The first three are examples of sd_bus_path_encode(3) and of systemd's own test-bus-objects.
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "_"),
        ("foo.bar", "foo_2ebar"),
        ("foo_2", "foo_5f2"),
        ("3600a", "_33600a"),
        ("a3600", "a3600"),
        ("vdé", "vd_c3_a9"),
        ("/dev/vdb", "_2fdev_2fvdb"),
    ],
)
def test_labels_are_escaped_as_systemd_does(text: str, label: str) -> None:
    assert encode_label(text) == label
    assert decode_label(label) == text


@given(st.text())
def test_every_id_comes_back_from_its_path(text: str) -> None:
    path = object_path(JOB, text)
    assert object_id(path) == text
    assert set(path.rpartition("/")[2]) <= set(string.ascii_letters + string.digits + "_")


@pytest.mark.parametrize("label", ["a_2", "a_zz", "a_"])
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_label(label)


def test_the_root_has_no_id() -> None:
    assert object_id(ROOT) == ""


def test_errors_outside_the_table_arrive_as_failed() -> None:
    assert error_name("Refused") == ERROR_PREFIX + "Refused"
    assert error_name("SomethingElse") == ERROR_PREFIX + "Failed"


# What a call of the engine may raise; errors of workers and runners reach clients as Job.Error.
@pytest.mark.parametrize(
    "module",
    [
        "p2vd.model.errors",
        "p2vd.bus.errors",
        "p2vd.config",
        "p2vd.system.command",
        "p2vd.discovery.dm",
        "p2vd.discovery.lvm",
        "p2vd.discovery.multipath",
        "p2vd.discovery.nics",
        "p2vd.jobs.store",
        "p2vd.registration.qmp",
        "p2vd.jobs.inventory_keeper",
        "p2vd.jobs.lun_use",
        "p2vd.jobs.portal_live",
        "p2vd.jobs.passports",
        "p2vd.model.passport_record",
    ],
)
def test_every_error_has_a_name_in_the_table(module: str) -> None:
    found = {
        value.__name__
        for value in vars(import_module(module)).values()
        if isinstance(value, type) and issubclass(value, P2vdError) and value is not P2vdError
    }
    assert found <= ERRORS.keys()


def test_polkit_knows_every_action_and_no_other() -> None:
    root = ET.parse(CONF / "polkit" / "org.p2vd1.policy").getroot()
    assert sorted(action.attrib["id"] for action in root.findall("action")) == sorted(ACTIONS)
    for action in root.findall("action"):
        assert action.findtext("description")
        assert action.findtext("message")
        assert action.findtext("defaults/allow_any") in ("auth_admin", "auth_admin_keep")


def test_the_bus_lets_root_own_the_name_and_anyone_talk() -> None:
    policies = {
        policy.get("user") or policy.get("context"): [dict(rule.attrib) for rule in policy]
        for policy in ET.parse(CONF / "dbus" / "org.p2vd1.conf").getroot().findall("policy")
    }
    assert policies == {"root": [{"own": BUS_NAME}], "default": [{"send_destination": BUS_NAME}]}


def test_activation_goes_through_systemd() -> None:
    lines = (CONF / "dbus" / "org.p2vd1.service").read_text().splitlines()
    assert f"Name={BUS_NAME}" in lines
    assert "SystemdService=p2vd.service" in lines
