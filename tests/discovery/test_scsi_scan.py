"""Where the kernel is asked to look for LUNs, and where it is left alone."""

import sys
from pathlib import Path

import pytest

from p2vd.discovery.scsi_scan import Place, ScsiScanFailed, look_for_luns, places
from p2vd.model.errors import InvalidArgument, NotFound
from p2vd.model.fc import Hba, RemotePort
from p2vd.system.attribute import main as write_attribute
from p2vd.system.command import CommandFailed, CommandTimedOut
from tests.discovery.host import Host, empty_host

ARRAY = "20:00:02:fc:00:00:00:02"
PORTS = (
    RemotePort("rport-7:0-0", ARRAY, ARRAY, "0x1", "Online", ("FCP Target",), "7:0:0"),
    RemotePort("rport-7:0-1", "20:00:02:fc:00:00:00:09", "x", "0x2", "Online", ("FCP Initiator",)),
)
HBAS = (
    Hba("host7", "w", "n", "0x0", "Online", remote_ports=PORTS),
    Hba(
        "host8",
        "w",
        "n",
        "0x0",
        "Online",
        remote_ports=(RemotePort("r", ARRAY, "", "", "Online", (), "8:0:3"),),
    ),
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Three SCSI hosts, and two LUNs of one array port."""
    host = empty_host(tmp_path)
    for name in ("host0", "host7", "host10"):
        host.write(f"class/scsi_host/{name}/scan", "")
    for name in ("7:0:0:0", "7:0:0:3", "7:0:1:0", "0:0:0:0"):
        host.write(f"class/scsi_device/{name}/device/rescan", "")
    return host


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7:0:0", [("7", "0", "0", "-")]),
        ("7:0:0:12", [("7", "0", "0", "12")]),
        ("7:-:-:-", [("7", "-", "-", "-")]),
        ("7", [("7", "-", "-", "-")]),
        (ARRAY, [("7", "0", "0", "-"), ("8", "0", "3", "-")]),
        ("0x200002FC00000002", [("7", "0", "0", "-"), ("8", "0", "3", "-")]),
        ("all", [("0", "-", "-", "-"), ("7", "-", "-", "-"), ("10", "-", "-", "-")]),
    ],
)
def test_a_place_is_meant_in_many_ways(host: Host, text: str, meant: list[tuple[str, ...]]) -> None:
    assert places(text, HBAS, host.sysfs) == tuple(Place(*each) for each in meant)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", InvalidArgument),
        ("- - -", InvalidArgument),
        ("7:0", InvalidArgument),
        ("7:0:0:0:0", InvalidArgument),
        ("sda", InvalidArgument),
        ("20:00:02:fc:00:00:00", InvalidArgument),
        ("9:0:0", NotFound),
        ("20:00:02:fc:00:00:00:09", NotFound),
        ("20:00:02:fc:00:00:00:33", NotFound),
    ],
)
def test_a_place_that_is_none_is_refused(host: Host, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        places(text, HBAS, host.sysfs)


def writes(host: Host) -> list[tuple[str, str]]:
    assert all(argv[:3] == (sys.executable, "-m", "p2vd.system.attribute") for argv in host.commands.queries)
    return [(str(Path(argv[3]).relative_to(host.sysfs)), argv[4]) for argv in host.commands.queries]


def test_one_target_is_scanned_and_nothing_else(host: Host) -> None:
    host.commands.on(sys.executable)
    look_for_luns(host.commands, "7:0:0", host.sysfs)
    assert writes(host) == [
        ("class/scsi_device/7:0:0:0/device/rescan", "1"),
        ("class/scsi_device/7:0:0:3/device/rescan", "1"),
        ("class/scsi_host/host7/scan", "0 0 -"),
    ]


def test_one_lun_is_scanned_and_nothing_else(host: Host) -> None:
    host.commands.on(sys.executable)
    look_for_luns(host.commands, "7:0:0:3", host.sysfs)
    assert writes(host) == [
        ("class/scsi_device/7:0:0:3/device/rescan", "1"),
        ("class/scsi_host/host7/scan", "0 0 3"),
    ]


def test_everything_is_scanned_only_by_that_name(host: Host) -> None:
    host.commands.on(sys.executable)
    look_for_luns(host.commands, "all", host.sysfs)
    scans = [write for write in writes(host) if write[0].endswith("/scan")]
    assert scans == [(f"class/scsi_host/host{number}/scan", "- - -") for number in (0, 7, 10)]
    assert len(host.commands.queries) == 3 + 4


def test_a_sick_lun_does_not_keep_the_others_from_being_found(host: Host) -> None:
    sick = str(host.sysfs / "class/scsi_device/7:0:0:0/device/rescan")
    argv = (sys.executable, "-m", "p2vd.system.attribute", sick)
    host.commands.on(sys.executable).on(argv, CommandTimedOut(argv, 60))
    with pytest.raises(ScsiScanFailed, match="7:0:0:0"):
        look_for_luns(host.commands, "7:0:0", host.sysfs)
    assert writes(host)[-1] == ("class/scsi_host/host7/scan", "0 0 -")


def test_a_refused_write_says_what_the_kernel_says(host: Host) -> None:
    host.commands.on(sys.executable, CommandFailed((sys.executable,), 1, "host7/scan: Invalid argument"))
    with pytest.raises(ScsiScanFailed, match="Invalid argument"):
        look_for_luns(host.commands, "7:0:1:9", host.sysfs)


def test_an_attribute_is_written_in_one_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scan").write_text("")
    assert write_attribute(str(tmp_path / "scan"), "0 0 -") == 0
    assert (tmp_path / "scan").read_text() == "0 0 -"
    assert write_attribute(str(tmp_path / "none"), "1") == 1
    assert "No such file" in capsys.readouterr().err
