"""Whether the hypervisors that policies name can be reached, as the doctor is told."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.jobs.host_look import HostLook
from p2vd.model.directory import TargetDirectory
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load
from p2vd.provisioning.files import Files
from p2vd.registration.errors import LibvirtUnreachable
from tests.fakes import FakeCommands
from tests.jobs.proven_machine import Hypervisor, ProvenMachine

RULE = """
[[rule]]
name = "{name}"
match.wwid = "*"
target.volume_groups = "vg_san"
target.provisioning = "thin"
domain.hypervisor = "{uri}"
"""


class Places(Files):
    """Each directory is as it is said."""

    def __init__(self, problem: str) -> None:
        super().__init__(FakeCommands())
        self._problem = problem

    def look_at(self, directory: str, timeout_s: float = 0) -> TargetDirectory:
        assert directory == "/nowhere"
        return TargetDirectory(directory, problem=self._problem)


def policies(*uris: str) -> PolicySet:
    found = load([PolicyText("1.toml", "".join(RULE.format(name=uri, uri=uri) for uri in uris))])
    assert not found.errors
    return found


class Libvirts(Hypervisor):
    """All that are asked, and what they say; one that hangs waits for the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.problem: Exception | None = None
        self.asked: list[str] = []
        self.reached, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def at(self, uri: str) -> "Libvirts":
        self.asked.append(uri)
        return self

    def reach(self) -> None:
        self.reached.set()
        self.gate.wait()
        if self.problem:
            raise self.problem


@pytest.fixture
def libvirts() -> Iterator[Libvirts]:
    found = Libvirts()
    yield found
    found.gate.set()


def look(tmp_path: Path, libvirts: Libvirts, *uris: str, answer_s: float = 60) -> HostLook:
    services = replace(
        ProvenMachine(tmp_path).services, libvirt=libvirts.at, policies=lambda: policies(*uris)
    )
    return HostLook(services, answer_s)


def test_only_what_policies_name_is_asked(tmp_path: Path, libvirts: Libvirts) -> None:
    assert look(tmp_path, libvirts, "none", "xen:///system", "qemu:///system").facts().hypervisors == ()
    assert libvirts.asked == ["qemu:///system", "xen:///system"]


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (LibvirtUnreachable("qemu:///system", "Connection refused"), "systemctl start libvirtd"),
        (ImportError("libvirt"), "journalctl -u p2vd"),
    ],
)
def test_one_that_cannot_be_asked(tmp_path: Path, libvirts: Libvirts, problem: Exception, told: str) -> None:
    libvirts.problem = problem
    (reason,) = look(tmp_path, libvirts, "qemu:///system").facts().hypervisors
    assert reason.code == "hypervisor-unreachable"
    assert reason.text.startswith("Policies give machines to qemu:///system,")
    assert told in reason.text


def test_a_directory_for_definitions_that_cannot_be_used(tmp_path: Path, libvirts: Libvirts) -> None:
    text = RULE.format(name="xl", uri="xl") + 'domain.directory = "/nowhere"\n'
    rules = load([PolicyText("1.toml", text)])
    assert not rules.errors
    services = ProvenMachine(tmp_path).services
    for problem, codes in (("", []), ("/nowhere cannot be used: it is a file.", ["definitions-unwritable"])):
        files = Places(problem)
        found = HostLook(replace(services, policies=lambda: rules, image_files=files)).facts().hypervisors
        assert [reason.code for reason in found] == codes
        assert all(problem in reason.text for reason in found)


def test_one_that_hangs_is_not_asked_twice_at_a_time(tmp_path: Path, libvirts: Libvirts) -> None:
    libvirts.gate.clear()
    looking = look(tmp_path, libvirts, "qemu:///system", answer_s=0)
    for _ in range(2):
        (reason,) = looking.facts().hypervisors
        assert "does not answer. See: systemctl status libvirtd" in reason.text
        assert libvirts.reached.wait(60)
    assert libvirts.asked == ["qemu:///system"]
