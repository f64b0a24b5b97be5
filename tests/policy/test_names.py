"""Names that LVM and libvirt accept."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.names import machine_name_problem
from p2vd.policy import names
from tests.planning.builders import make_source

SOURCE = make_source()


def test_default_machine_name_is_the_end_of_the_wwid() -> None:
    assert names.default_machine_name(make_source(wwid="36001405aaaabbbbccccdddd0000")) == "p2v-ccccdddd0000"


def test_a_disk_without_wwid_is_named_by_its_id() -> None:
    source = make_source(id="/dev/loop0", wwid="")
    assert names.default_machine_name(source) == "p2v-dev_loop0"


@given(st.text(min_size=1))
def test_default_machine_name_can_be_used(wwid: str) -> None:
    assert machine_name_problem(names.default_machine_name(dataclasses.replace(SOURCE, wwid=wwid))) == ""


@pytest.mark.parametrize("template", ["{machine}", "p2v_{wwid}", "{machine}-{wwid}"])
def test_good_templates(template: str) -> None:
    assert names.template_problem(template) == ""


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("disk", "must name {machine} or {wwid}: an LV's name is taken once"),
        ("{size}", "may name {machine}, {wwid} and {disk} only, not {size}"),
        ("{}", "may name {machine}, {wwid} and {disk} only, not {}"),
        ("{machine!r}", "may name {machine}, {wwid} and {disk} only, not {machine}"),
        ("{wwid:>99}", "may name {machine}, {wwid} and {disk} only, not {wwid}"),
        ("{machine", "is not a template: expected '}' before end of string"),
    ],
)
def test_bad_templates(template: str, problem: str) -> None:
    assert names.template_problem(template) == problem


@pytest.mark.parametrize(
    ("template", "machine", "name"),
    [
        ("{machine}", "web1", "web1"),
        ("-{machine}", "web1", "_web1"),
        ("{machine}/root disk", "web1", "web1_root_disk"),
        ("p2v_{wwid}", "web1", "p2v_t10.ATA_x"),
    ],
)
def test_lv_names_have_only_characters_that_lvm_takes(template: str, machine: str, name: str) -> None:
    assert names.lv_name(template, machine, make_source(wwid="t10.ATA x")) == name


def test_an_lv_of_a_machine_with_several_disks_has_its_number_by_default() -> None:
    assert names.lv_name("", "web1", make_source()) == "web1"
    assert names.lv_name("", "web1", make_source(), 2, 6) == "web1-2"
    assert names.lv_name("{machine}_{disk}", "web1", make_source()) == "web1_1"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "snapshot1", "pvmove0", "x_tdata", "y_rimage_0", "z_vpool0", "a" * 125, "-" * 63]
)
def test_names_that_lvm_refuses(name: str) -> None:
    assert names.lv_name_problem("vg", name) != ""


@pytest.mark.parametrize("name", ["web1", "my_snapshot", "...", "a" * 124])
def test_names_that_lvm_takes(name: str) -> None:
    assert names.lv_name_problem("vg", name) == ""
