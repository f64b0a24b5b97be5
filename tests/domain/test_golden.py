"""What the hypervisors are given, for each machine, as it stands in `golden/`.

`python3 -m tests.domain.test_golden` writes the files anew; look at the difference before it is committed.
"""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, Hypervisor
from p2vd.domain.files import domain_files
from p2vd.domain.libvirt_xml import libvirt_xml
from p2vd.model.plan import DomainOptions
from tests.domain.machines import MACHINES, UUID, Machine

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")


def defined(machine: Machine, options: DomainOptions | None = None) -> Definition:
    """The machine as p2vd defines it."""
    return define(machine.name, UUID, machine.passport, machine.disks, options or machine.options)


def explained(definition: Definition) -> str:
    """The choices and warnings, as the plan's page has them."""
    lines = [f"{choice.key}: {choice.value}\n  {choice.why}" for choice in definition.choices]
    return "\n".join([*lines, *(f"! {warning}" for warning in definition.warnings)]) + "\n"


def outputs() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every golden file."""
    for name, machine in MACHINES.items():
        definition = defined(machine)
        if definition.hypervisor in (Hypervisor.QEMU, Hypervisor.XEN):
            yield f"{name}.xml", libvirt_xml(definition)
        for file in domain_files(definition):
            yield f"{name}{Path(file.name).suffix}", file.text
        yield f"{name}.choices", explained(definition)


OUTPUTS = dict(outputs())
XML = sorted(name for name in OUTPUTS if name.endswith(".xml"))


@pytest.mark.parametrize("name", OUTPUTS)
def test_it_is_as_it_was(name: str) -> None:
    assert (GOLDEN / name).read_text() == OUTPUTS[name]


def test_there_is_no_golden_file_of_nothing() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(OUTPUTS)


def test_there_are_twelve_machines_at_least() -> None:
    assert len(MACHINES) >= 12


@pytest.mark.parametrize("name", XML)
def test_libvirts_schema_accepts_it(name: str) -> None:
    assert SCHEMA.exists(), "the package libvirt0 ships the schema; tests/run installs it"
    assert shutil.which("xmllint"), "the package libxml2-utils ships xmllint; tests/run installs it"
    found = subprocess.run(
        ["xmllint", "--noout", "--relaxng", SCHEMA, GOLDEN / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("name", XML)
def test_libvirts_test_driver_defines_it(name: str) -> None:
    """The driver parses all of it, and knows neither machine types nor UEFI nor Xen's own features."""
    domain = ET.fromstring(OUTPUTS[name])
    domain.set("type", "test")
    system = domain.find("os")
    assert system is not None
    system.attrib.pop("firmware", None)
    for child in list(system):
        if child.tag != "type":
            system.remove(child)
        child.attrib.pop("machine", None)
    connection = libvirt.open("test:///default")
    try:
        made = connection.defineXML(ET.tostring(domain, encoding="unicode"))
        again = ET.fromstring(made.XMLDesc())
        made.undefine()
        for path in ("devices/disk/target", "devices/interface/mac"):
            wanted = [element.attrib for element in domain.findall(path)]
            assert [element.attrib for element in again.findall(path)] == wanted
        # What is missing libvirt adds, and of SCSI's controllers one that few guests have a driver for.
        models = [element.get("model") for element in again.findall("devices/controller[@type='scsi']")]
        assert models == [
            element.get("model") for element in domain.findall("devices/controller[@type='scsi']")
        ]
    finally:
        connection.close()


@pytest.mark.parametrize("name", MACHINES)
def test_defined_again_it_is_the_same(name: str) -> None:
    assert defined(MACHINES[name]) == defined(MACHINES[name])


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_plan_fills_in_changes_nothing(name: str) -> None:
    from p2vd.planning.domain import resolved

    machine = MACHINES[name]
    before = defined(machine)
    after = defined(machine, resolved(machine.options, before))
    assert replace(after, choices=before.choices) == before


if __name__ == "__main__":
    for path in GOLDEN.iterdir():
        if path.name not in OUTPUTS:
            path.unlink()
    for file, text in OUTPUTS.items():
        (GOLDEN / file).write_text(text)
    print(f"{len(OUTPUTS)} files in {os.path.relpath(GOLDEN)}")
