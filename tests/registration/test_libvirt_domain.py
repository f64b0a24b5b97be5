"""Domains against libvirt's own test driver, which keeps them in this process."""

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from p2vd.domain.libvirt_xml import NAMESPACE as DOMAIN_NAMESPACE
from p2vd.registration.errors import (
    DomainGone,
    DomainHasPoints,
    DomainNameTaken,
    DomainNotOurs,
    DomainRunning,
    LibvirtFailed,
    LibvirtUnreachable,
)
from p2vd.registration.libvirt_domain import NAMESPACE, Libvirt
from tests.registration.fake_qemu import Qemu, refusal

URI = "test:///default"
UUID = "7a1c6a0e-40a6-4f7e-8f6c-0f2f4c2d9a01"
OTHER = "7a1c6a0e-40a6-4f7e-8f6c-0f2f4c2d9a02"


UEFI = " firmware='efi'"
VARIABLES = "<loader readonly='yes' type='pflash'>/code.fd</loader><nvram>/srv/own_VARS.fd</nvram>"


def definition(
    name: str = "web1", uuid: str = UUID, mark: str | None = UUID, extra: str = "", firmware: str = ""
) -> str:
    metadata = f'<metadata><p2vd:machine xmlns:p2vd="{NAMESPACE}" uuid="{mark}"/></metadata>' if mark else ""
    return (
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid>{metadata}"
        f"<memory unit='KiB'>65536</memory><os{firmware}><type>hvm</type>{extra}</os></domain>"
    )


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    """Hold the driver's default connection: its domains live as long as any connection is open."""
    held = libvirt.open(URI)
    yield held
    for domain in held.listAllDomains():
        if domain.name() == "test":
            continue
        if domain.isActive():
            domain.destroy()
        if domain.hasManagedSaveImage():
            domain.managedSaveRemove()
        for point in (*domain.listAllSnapshots(), *domain.listAllCheckpoints()):
            point.delete()
        domain.undefine()
    held.close()


@pytest.fixture
def ours(connection: libvirt.virConnect) -> Libvirt:
    return Libvirt(URI, wait_s=0)


def names(connection: libvirt.virConnect) -> set[str]:
    return {domain.name() for domain in connection.listAllDomains()} - {"test"}


def test_the_mark_is_the_one_that_definitions_carry() -> None:
    assert NAMESPACE == DOMAIN_NAMESPACE


def test_define_is_idempotent_by_uuid(ours: Libvirt, connection: libvirt.virConnect) -> None:
    ours.define(definition(), UUID)
    ours.define(definition(name="renamed-meanwhile"), UUID)
    assert names(connection) == {"web1"}
    assert not connection.lookupByUUIDString(UUID).isActive()


def test_a_name_that_is_taken_is_refused_and_the_other_domain_left_alone(
    ours: Libvirt, connection: libvirt.virConnect
) -> None:
    connection.defineXML(definition(uuid=OTHER, mark=None))
    with pytest.raises(DomainNameTaken, match=OTHER):
        ours.define(definition(), UUID)
    assert connection.lookupByName("web1").UUIDString() == OTHER


@pytest.mark.parametrize("mark", [None, OTHER], ids=["unmarked", "marked for another machine"])
def test_a_domain_that_p2vd_did_not_define_is_neither_taken_nor_undefined(
    ours: Libvirt, connection: libvirt.virConnect, mark: str | None
) -> None:
    connection.defineXML(definition(mark=mark))
    with pytest.raises(DomainNotOurs):
        ours.define(definition(), UUID)
    with pytest.raises(DomainNotOurs):
        ours.undefine(UUID)
    assert names(connection) == {"web1"}


def test_undefine_removes_ours_and_may_be_repeated(ours: Libvirt, connection: libvirt.virConnect) -> None:
    ours.define(definition(), UUID)
    ours.undefine(UUID)
    ours.undefine(UUID)
    assert names(connection) == set()


def test_a_running_domain_is_not_undefined(ours: Libvirt, connection: libvirt.virConnect) -> None:
    ours.define(definition(), UUID)
    connection.lookupByUUIDString(UUID).create()
    with pytest.raises(DomainRunning, match="virsh shutdown web1"):
        ours.undefine(UUID)
    assert names(connection) == {"web1"}


def test_a_saved_domain_is_not_undefined(ours: Libvirt, connection: libvirt.virConnect) -> None:
    ours.define(definition(), UUID)
    connection.lookupByUUIDString(UUID).create()
    connection.lookupByUUIDString(UUID).managedSave()
    with pytest.raises(DomainRunning, match="saved state"):
        ours.undefine(UUID)


@pytest.mark.parametrize("kind", ["snapshot", "checkpoint"])
def test_a_domain_with_snapshots_or_checkpoints_is_not_undefined(
    ours: Libvirt, connection: libvirt.virConnect, kind: str
) -> None:
    """With its domain libvirt would forget how its disks go together."""
    disk = "<disk type='file'><driver type='qcow2'/><source file='/d'/><target dev='vda'/></disk>"
    ours.define(definition().replace("</domain>", f"<devices>{disk}</devices></domain>"), UUID)
    domain = connection.lookupByUUIDString(UUID)
    domain.create()
    if kind == "snapshot":
        domain.snapshotCreateXML("<domainsnapshot/>")
    else:
        domain.checkpointCreateXML("<domaincheckpoint/>")
    domain.destroy()
    with pytest.raises(DomainHasPoints, match=f"has 1 {kind}.*virsh {kind}-delete web1"):
        ours.undefine(UUID)
    assert names(connection) == {"web1"}


@pytest.mark.parametrize(
    ("xml", "started"),
    [(definition(firmware=UEFI), True), (definition(firmware=UEFI), False), (definition(), True)],
    ids=["uefi", "uefi, never started", "bios"],
)
def test_at_qemu_the_variables_of_a_firmware_go_with_its_domain(
    connection: libvirt.virConnect, tmp_path: Path, xml: str, started: bool
) -> None:
    ours = Libvirt(URI, connect=Qemu(tmp_path), wait_s=0)
    ours.define(xml, UUID)
    if started:
        ours.start(UUID)
        assert len(list(tmp_path.iterdir())) == ("firmware" in xml)
        connection.lookupByUUIDString(UUID).destroy()
    ours.undefine(UUID)
    assert (names(connection), list(tmp_path.iterdir())) == (set(), [])


def test_variables_that_the_definition_names_go_too(connection: libvirt.virConnect, tmp_path: Path) -> None:
    (tmp_path / "web1_VARS.fd").touch()
    ours = Libvirt(URI, connect=Qemu(tmp_path), wait_s=0)
    ours.define(definition(extra=VARIABLES), UUID)
    ours.undefine(UUID)
    assert (names(connection), list(tmp_path.iterdir())) == (set(), [])


@pytest.mark.parametrize(
    "xml", [definition(firmware=UEFI), definition(extra=VARIABLES)], ids=["efi", "nvram"]
)
def test_other_hypervisors_are_not_told_of_variables(
    ours: Libvirt, connection: libvirt.virConnect, xml: str
) -> None:
    """Xen's driver refuses the flag, and so does this one."""
    ours.define(xml, UUID)
    ours.undefine(UUID)
    assert names(connection) == set()


def test_start_starts_once_and_says_what_runs(ours: Libvirt, connection: libvirt.virConnect) -> None:
    assert not ours.is_running(UUID)
    ours.define(definition(), UUID)
    assert not ours.is_running(UUID)
    ours.start(UUID)
    ours.start(UUID)
    assert ours.is_running(UUID)
    assert connection.lookupByUUIDString(UUID).isActive()


def test_a_domain_that_is_gone_is_not_started(ours: Libvirt, connection: libvirt.virConnect) -> None:
    with pytest.raises(DomainGone, match=UUID):
        ours.start(UUID)


def test_a_domain_that_p2vd_did_not_define_is_not_started(
    ours: Libvirt, connection: libvirt.virConnect
) -> None:
    connection.defineXML(definition(mark=None))
    with pytest.raises(DomainNotOurs):
        ours.start(UUID)
    assert not connection.lookupByUUIDString(UUID).isActive()


def test_a_definition_of_another_uuid_is_a_mistake(ours: Libvirt) -> None:
    with pytest.raises(ValueError, match="not of"):
        ours.define(definition(), OTHER)


def test_libvirts_own_words_are_kept(ours: Libvirt) -> None:
    broken = definition().replace("<memory unit='KiB'>65536</memory>", "")
    with pytest.raises(LibvirtFailed) as caught:
        ours.define(broken, UUID)
    assert caught.value.code
    assert "memory" in caught.value.message
    assert "defining domain web1" in str(caught.value)
    assert "p2vctl cutover web1 --with-present-policy" in str(caught.value)


class Flaky:
    """A libvirtd that is not there for the first `failures` connections."""

    def __init__(self, failures: int, code: int, domain: int) -> None:
        self.failures = failures
        self.attempts = 0
        self._error = refusal(code, domain, "Failed to connect socket: Connection refused")

    def connect(self, uri: str) -> libvirt.virConnect:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self._error
        return libvirt.open(uri)


def test_a_libvirtd_that_restarts_is_waited_for(connection: libvirt.virConnect) -> None:
    flaky = Flaky(3, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    Libvirt(URI, connect=flaky.connect, wait_s=0).define(definition(), UUID)
    assert flaky.attempts == 4
    assert names(connection) == {"web1"}


def test_a_libvirtd_that_stays_away_is_named() -> None:
    flaky = Flaky(99, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    with pytest.raises(LibvirtUnreachable, match="Connection refused"):
        Libvirt(URI, connect=flaky.connect, wait_s=0).define(definition(), UUID)
    assert flaky.attempts == 5


def test_what_is_not_about_the_definition_is_not_told_as_its_policys_fault() -> None:
    flaky = Flaky(99, libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_RPC)
    with pytest.raises(LibvirtFailed, match="defining domain web1") as caught:
        Libvirt(URI, connect=flaky.connect, wait_s=0).define(definition(), UUID)
    assert type(caught.value) is LibvirtFailed
    assert flaky.attempts == 1


def test_where_there_is_no_libvirt_its_package_is_named() -> None:
    nobody = Libvirt("qemu+unix:///system?socket=/nowhere/libvirt-sock", wait_s=0)
    for ask in (nobody.reach, lambda: nobody.is_running(UUID)):
        with pytest.raises(LibvirtUnreachable, match=r"No such file.*apt-get install libvirt-daemon-system"):
            ask()


def test_to_reach_it_is_one_attempt(ours: Libvirt) -> None:
    ours.reach()
    flaky = Flaky(99, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    with pytest.raises(LibvirtUnreachable, match=r"Start it \(systemctl start libvirtd\)"):
        Libvirt(URI, connect=flaky.connect).reach()
    assert flaky.attempts == 1


def test_other_errors_are_not_repeated() -> None:
    flaky = Flaky(99, libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_RPC)
    with pytest.raises(LibvirtFailed):
        Libvirt(URI, connect=flaky.connect, wait_s=0).define(definition(), UUID)
    assert flaky.attempts == 1


def test_a_stop_ends_the_waiting() -> None:
    stop = threading.Event()
    stop.set()
    flaky = Flaky(99, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    with pytest.raises(LibvirtUnreachable):
        Libvirt(URI, stop, flaky.connect, wait_s=3600).define(definition(), UUID)
    assert flaky.attempts == 1


def test_nothing_is_printed(ours: Libvirt, capfd: pytest.CaptureFixture[str]) -> None:
    ours.undefine(UUID)  # libvirt would say by itself that there is none
    assert capfd.readouterr() == ("", "")


def test_the_definition_of_the_domain_package_is_taken(connection: libvirt.virConnect, ours: Libvirt) -> None:
    from p2vd.domain.define import define
    from p2vd.domain.definition import DomainDisk
    from p2vd.domain.libvirt_xml import libvirt_xml
    from p2vd.model.plan import DomainOptions

    disks = (DomainDisk("/dev/san/web1", "36001405a9"),)
    xml = libvirt_xml(define("web1", UUID, None, disks, DomainOptions()))
    root = ET.fromstring(xml)
    root.set("type", "test")  # the driver knows no kvm, nor its machine types
    kind = root.find("os/type")
    assert kind is not None
    kind.attrib.clear()
    ours.define(ET.tostring(root, encoding="unicode"), UUID)
    assert names(connection) == {"web1"}
