"""Fibre Channel ports, from a tree of the lab (FCoE VN2VN, two fabrics) and from odd ones."""

from pathlib import Path

import pytest

from p2vd.discovery.fc import Fabric, read_hbas
from p2vd.model.disk import PathState, Transport
from p2vd.model.errors import OutputUnclear
from p2vd.model.fc import format_wwn, plain_wwn
from tests.discovery.host import Host, codes, empty_host, recorded_host

FC1 = "36001405942dd26dab18af7d4a73fde5a"
CLONED, CLONE = "3600140567d551b078d939f1a67a504e3", "36001405d329fd777726c300d7a044e48"
HBA = ("20:00:02:fc:00:00:00:01", "20:00:02:fc:00:00:01:01")
ARRAY = ("20:00:02:fc:00:00:00:02", "20:00:02:fc:00:00:01:02")


def test_a_lun_of_the_lab_with_the_ports_at_both_ends(tmp_path: Path) -> None:
    source = recorded_host("fc", tmp_path).discovery.scan().source(FC1)
    assert (source.transport, source.device, source.size_bytes) == (Transport.FC, "dm-10", 24 << 20)
    assert (source.reasons, source.paths_ready) == ((), 2)
    seen = {(path.hctl, path.hba_wwpn, path.target_wwpn, path.port_state) for path in source.paths}
    assert seen == {("10:0:0:0", HBA[0], ARRAY[0], "Online"), ("11:0:0:0", HBA[1], ARRAY[1], "Online")}
    assert {path.target_wwnn for path in source.paths} == {
        "10:00:02:fc:00:00:00:02",
        "10:00:02:fc:00:00:01:02",
    }


def test_the_fabrics_of_the_lab(tmp_path: Path) -> None:
    hbas = {hba.wwpn: hba for hba in recorded_host("fc", tmp_path).discovery.scan().hbas}
    assert hbas.keys() == {*HBA, *ARRAY}  # the array is in the same machine
    assert all(hba.online for hba in hbas.values())
    (port,) = hbas[HBA[0]].remote_ports
    assert (port.wwpn, port.target, port.roles) == (ARRAY[0], "10:0:0", ("FCP Target", "FCP Initiator"))
    (port,) = hbas[ARRAY[0]].remote_ports
    assert (port.wwpn, port.target, port.roles) == (HBA[0], "", ("FCP Initiator",))


def test_a_link_of_the_lab_that_is_down(tmp_path: Path) -> None:
    inventory = recorded_host("fc-faults", tmp_path).discovery.scan()
    hbas = {hba.wwpn: hba for hba in inventory.hbas}
    assert (hbas[HBA[0]].state, hbas[HBA[0]].remote_ports[0].state) == ("Linkdown", "Blocked")
    source = inventory.source(FC1)
    states = {path.hba_wwpn: (path.state, path.port_state) for path in source.paths}
    assert states == {HBA[0]: (PathState.FAULTY, "Blocked"), HBA[1]: (PathState.READY, "Online")}
    assert source.reasons == ()


def test_the_other_kinds_of_the_lab(tmp_path: Path) -> None:
    host = recorded_host("fc", tmp_path)
    host.image_directories = (Path("/srv/images"),)
    inventory = host.discovery.scan()
    nvme = inventory.source("uuid.cf218995-7b99-4418-a1fa-73f955f51a25")
    assert (nvme.transport, nvme.device, nvme.model) == (Transport.NVME, "nvme0n1", "Linux")
    array = inventory.source("md-16e8f887:bebe450a:a5d648aa:e70e072c")
    assert (array.transport, array.device, array.reasons) == (Transport.MD, "md0", ())
    assert codes(inventory.source("vdc").reasons) == ["md-member"]
    loop = inventory.source("/srv/luns/nv1.img")
    assert (loop.transport, loop.reasons, loop.file_id.count("@")) == (Transport.LOOP, (), 1)
    # The files themselves are not in the recording: what is in them cannot be looked at.
    images = [source for source in inventory.sources if source.transport is Transport.IMAGE]
    assert [image.id for image in images] == ["/srv/images/a.img", "/srv/images/b.img"]
    assert {code for image in images for code in codes(image.reasons)} == {"image-unreadable"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An HBA, an array's port behind it, and another host's."""
    host = empty_host(tmp_path)
    for name, value in {
        "fc_host/host7/port_name": "0x200002fc00000001",
        "fc_host/host7/node_name": "0x100002fc00000001",
        "fc_host/host7/port_state": "Online",
        "fc_host/host7/speed": "16 Gbit",
        "fc_remote_ports/rport-7:0-0/port_name": "0x200002fc00000002",
        "fc_remote_ports/rport-7:0-0/node_name": "0x100002fc00000002",
        "fc_remote_ports/rport-7:0-0/port_state": "Blocked",
        "fc_remote_ports/rport-7:0-0/roles": "FCP Target, FCP Initiator",
        "fc_remote_ports/rport-7:0-0/scsi_target_id": "3",
        "fc_remote_ports/rport-7:0-1/port_name": "0x2000",
        "fc_remote_ports/rport-7:0-1/node_name": "0x1",
        "fc_remote_ports/rport-7:0-1/port_state": "Not Present",
        "fc_remote_ports/rport-7:0-1/roles": "unknown",
        "fc_remote_ports/rport-7:0-1/scsi_target_id": "-1",
    }.items():
        host.write(f"class/{name}", value + "\n")
    return host


def test_an_hba_and_what_it_sees(host: Host) -> None:
    (hba,) = read_hbas(host.sysfs)
    assert (hba.host, hba.wwpn, hba.online, hba.speed) == (
        "host7",
        "20:00:02:fc:00:00:00:01",
        True,
        "16 Gbit",
    )
    array, other = hba.remote_ports
    assert (array.wwpn, array.wwnn) == ("20:00:02:fc:00:00:00:02", "10:00:02:fc:00:00:00:02")
    assert (array.state, array.online, array.target) == ("Blocked", False, "7:0:3")
    assert array.roles == ("FCP Target", "FCP Initiator")
    assert (other.wwpn, other.state, other.target) == ("00:00:00:00:00:00:20:00", "Not Present", "")


def test_a_path_knows_both_its_ends(host: Host) -> None:
    fabric = Fabric(read_hbas(host.sysfs))
    hba, port = fabric.ends("7:0:3:12")
    assert hba is not None
    assert port is not None
    assert (hba.host, port.name) == ("host7", "rport-7:0-0")
    assert fabric.ends("7:0:4:0") == (hba, None)
    assert fabric.ends("8:0:3:0") == (None, None)
    assert fabric.ends("") == (None, None)


@pytest.mark.parametrize("gone", ["port_name", "node_name", "port_state"])
def test_a_port_that_goes_while_it_is_read_is_left_out(host: Host, gone: str) -> None:
    host.write(f"class/fc_remote_ports/rport-7:0-0/{gone}", "")
    (hba,) = read_hbas(host.sysfs)
    assert [port.name for port in hba.remote_ports] == ["rport-7:0-1"]
    host.write(f"class/fc_host/host7/{gone}", "")
    assert read_hbas(host.sysfs) == ()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("fc_host/host7/port_name", "what"), ("fc_remote_ports/rport-7:0-0/scsi_target_id", "x")],
)
def test_what_is_no_name_and_no_number_is_told(host: Host, attribute: str, value: str) -> None:
    host.write(f"class/{attribute}", value)
    with pytest.raises(OutputUnclear, match=attribute):
        read_hbas(host.sysfs)


@pytest.mark.parametrize(
    "text",
    ["20:00:02:fc:00:00:00:02", "0x200002FC00000002", "200002fc00000002", " 20:00:02:FC:00:00:00:02\n"],
)
def test_names_are_written_in_many_ways(text: str) -> None:
    assert format_wwn(text) == "20:00:02:fc:00:00:00:02"
    assert plain_wwn(text) == "200002fc00000002"


@pytest.mark.parametrize(
    "text", ["", "20:00", "iqn.2026-01.org.example:t1", "g" * 16, "1" * 17, "0x" + "1" * 17]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no Fibre Channel name"):
        format_wwn(text)
