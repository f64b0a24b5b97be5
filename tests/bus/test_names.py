"""Names: escaping as sd-bus does it, and one table for everything."""

import shutil
import string
import subprocess
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
POLICY_DTD = Path("/usr/share/polkit-1/policyconfig-1.dtd")


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
        "p2vd.system.threads",
        "p2vd.discovery.dm",
        "p2vd.discovery.lvm",
        "p2vd.discovery.multipath",
        "p2vd.discovery.nics",
        "p2vd.jobs.store",
        "p2vd.registration.qmp",
        "p2vd.records.audit",
        "p2vd.records.receipts",
        "p2vd.jobs.inventory_keeper",
        "p2vd.jobs.lun_use",
        "p2vd.jobs.portal_live",
        "p2vd.jobs.verify_errors",
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
        assert action.findtext("defaults/allow_any") in ("auth_admin", "auth_admin_keep")


LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def test_polkit_asks_in_english_and_in_chinese() -> None:
    """In this order: polkit takes the text without a language where it has none of the user's."""
    for action in ET.parse(CONF / "polkit" / "org.p2vd1.policy").getroot().findall("action"):
        for tag in ("description", "message"):
            texts = {text.get(LANG, ""): text.text or "" for text in action.findall(tag)}
            assert list(texts) == ["", "zh_CN"], (action.attrib["id"], tag)
            assert texts[""].isascii()
            assert any("\u4e00" <= character <= "\u9fff" for character in texts["zh_CN"])


@pytest.mark.skipif(
    not (POLICY_DTD.exists() and shutil.which("xmllint")), reason="needs polkit's DTD and xmllint"
)
def test_polkits_own_dtd_takes_the_actions() -> None:
    path = CONF / "polkit" / "org.p2vd1.policy"
    argv = ["xmllint", "--noout", "--nonet", "--dtdvalid", str(POLICY_DTD), str(path)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


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
