"""The interface XML and the code say the same."""

from dataclasses import replace
from importlib.resources import files
from xml.etree import ElementTree as ET

import pytest
from dbus.lowlevel import SignalMessage

from p2vd.bus import views, views_work
from p2vd.bus.collector import Collector
from p2vd.bus.fabric import fabric
from p2vd.bus.introspection import interfaces
from p2vd.bus.methods import Methods
from p2vd.bus.names import (
    ACTIONS,
    INTERFACES,
    JOB,
    MACHINE,
    MANAGER,
    PASSPORT,
    PORTAL,
    ROOT,
    SOURCE,
    VOLUME_GROUP,
)
from p2vd.bus.passports import passport
from p2vd.bus.policies import rule_match, rule_view
from p2vd.bus.tree import append
from p2vd.bus.wire import Variant, encode_properties
from p2vd.model.contents import Findings
from p2vd.model.job import Activity, JobError
from p2vd.model.lvm import PoolUse
from p2vd.model.rule import RuleMatch
from tests.bus import values
from tests.bus.fake_engine import FakeEngine


def nothing(*_: object) -> None:
    """For what a test does not look at."""


COLLECTOR = Collector(FakeEngine(), "1", nothing, lambda _: iter(()))
VIEWS: dict[str, views.Properties] = {
    MANAGER: dict(COLLECTOR.picture([(MANAGER, "")]).objects[ROOT][MANAGER]),
    SOURCE: views.source(values.SOURCE, "lab", Findings()),
    VOLUME_GROUP: views.volume_group(values.VG, {"pool0": PoolUse(1, 2)}, ""),
    MACHINE: views_work.machine(values.machine(), "xl"),
    JOB: views_work.job(values.job(), Activity.RUNNING, "", 0),
    PORTAL: views.portal(values.PORTAL),
    PASSPORT: passport(values.PASSPORT),
}
GROUP = VIEWS[VOLUME_GROUP]
(FABRIC,) = fabric(replace(values.INVENTORY, sources=(values.FC_SOURCE,)))


def text_of(interface: str) -> str:
    return files("p2vd.bus").joinpath("interfaces", f"{interface}.xml").read_text("utf-8")


@pytest.mark.parametrize("interface", INTERFACES)
def test_properties_are_those_of_the_xml_and_have_its_types(interface: str) -> None:
    types = interfaces()[interface].properties
    assert VIEWS[interface].keys() == types.keys()
    message = SignalMessage("/a", "b.c", "D")
    append(message, "a{sv}", (encode_properties(types, VIEWS[interface]),))
    (back,) = message.get_args_list()
    assert back.keys() == types.keys()


def test_methods_are_those_of_the_xml() -> None:
    declared = {(name, method) for name, spec in interfaces().items() for method in spec.methods}
    assert Methods(FakeEngine(), COLLECTOR).table.keys() == declared


def test_every_method_takes_options_last_and_names_a_known_action() -> None:
    for spec in interfaces().values():
        for method in spec.methods.values():
            assert method.in_signature.endswith("a{sv}")
            assert method.action in ACTIONS or (method.action == "" and method.name.startswith("Get"))


@pytest.mark.parametrize(
    ("interface", "dictionary"),
    [
        (MANAGER, views_work.plan_page(values.PLAN)),
        (SOURCE, views.scsi_path(values.SOURCE.paths[0])),
        (VOLUME_GROUP, GROUP["ThinPools"][0]),  # type: ignore[index]  # a tuple
        (VOLUME_GROUP, GROUP["Devices"][0]),  # type: ignore[index]  # a tuple
        (VOLUME_GROUP, views.volume(values.LV)),
        (MANAGER, FABRIC),
        (MANAGER, FABRIC["RemotePorts"].value[0]),  # type: ignore[index]  # a list
        (MANAGER, FABRIC["RemotePorts"].value[0]["Luns"].value[0]),  # type: ignore[index]  # a list
        (MANAGER, rule_view(values.RULES[0])),
        (MANAGER, rule_view(values.RULES[0])["Settings"].value[0]),  # type: ignore[index]  # a tuple
        (MANAGER, rule_match(RuleMatch("lab", "/f", 1, (), chosen=True))),
        (PORTAL, views.portal(values.PORTAL)["Sessions"][0]),  # type: ignore[index]  # a tuple
        (PORTAL, views.portal(values.PORTAL)["LastRescan"]),
    ],
)
def test_keys_of_dictionaries_are_documented(interface: str, dictionary: dict[str, Variant]) -> None:
    text = " ".join(text_of(interface).split())
    for key, value in dictionary.items():
        assert f"{key} {value.signature}" in text or f"{key} and" in text


def test_every_member_beyond_the_plain_ones_is_described() -> None:
    """A reader of the installed file learns what a method does: each has a comment right before it."""
    for interface in INTERFACES:
        lines = [line.strip() for line in text_of(interface).splitlines()]
        for number, line in enumerate(lines):
            if line.startswith(("<method", "<signal")):
                assert lines[number - 1].endswith("-->"), line


@pytest.mark.parametrize("interface", INTERFACES)
def test_no_argument_has_a_name_that_generated_code_uses_itself(interface: str) -> None:
    """gdbus-codegen names a function's own parameters so, and puts what comes out beside them."""
    names = {arg.get("name") for arg in ET.fromstring(text_of(interface)).iter("arg")}
    assert not names & {"object", "invocation", "proxy", "connection", "cancellable", "error"}


def test_failure_of_a_job_is_name_and_sentence() -> None:
    machine = values.machine()
    assert views_work.machine(machine, "xl")["Error"] == ("", "")
    failed = type(machine)(machine.uuid, machine.name, error=JobError("X", "y"))
    assert views_work.machine(failed, "xl")["Error"] == ("X", "y")
