"""Disks of kinds that the recordings do not hold."""

from pathlib import Path

import pytest

from p2vd.discovery.identity import scsi_wwid, vpd_serial
from p2vd.discovery.iscsi import read_sessions
from p2vd.discovery.multipath import MultipathdUnclear, PathReport, read_paths
from p2vd.model.disk import PathState, Portal, Transport
from tests.discovery.host import Host, codes, empty_host, recording
from tests.fakes import FakeCommands

SATA = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"
FC = "devices/pci0000:00/0000:00:07.0/host7/rport-7:0-0/target7:0:0/7:0:0:0/block/sda"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return empty_host(tmp_path)


@pytest.mark.parametrize(
    ("sysfs", "wwid"),
    [
        ("naa.6001405a9e26254e651465c89ff715d5\n", "36001405a9e26254e651465c89ff715d5"),
        ("eui.0025385991b00a3d\n", "20025385991b00a3d"),
        (
            "t10.ATA     QEMU HARDDISK                           QM00003             \n",
            "1ATA_QEMU_HARDDISK_QM00003",
        ),
        ("t10.LAB\0 a(b)\n", "1LAB_a_b_"),
        ("", ""),
        ("uuid.1234\n", ""),
    ],
)
def test_wwids_as_multipath_writes_them(sysfs: str, wwid: str) -> None:
    assert scsi_wwid(sysfs) == wwid


@pytest.mark.parametrize(
    ("page", "serial"),
    [
        (b"\0\x80\0\x05ab \0c\0rest", "ab c"),
        (b"\0\x80\0\0", ""),
        (b"", ""),
        (b"\0\x80\0\x02\xffz", "\ufffdz"),
    ],
)
def test_serial_numbers_are_cleaned(page: bytes, serial: str) -> None:
    assert vpd_serial(page) == serial


def test_a_sata_disk(host: Host) -> None:
    attributes = {"device__wwid": "naa.5000c500a1b2c3d4\n", "device__state": "running\n"}
    host.disk("sda", SATA, "8:0", 1 << 30, device__vendor="ATA\xff  \0\n".encode("latin-1"), **attributes)
    (source,) = host.discovery.scan().sources
    assert (source.id, source.transport, source.reasons) == ("35000c500a1b2c3d4", Transport.LOCAL, ())
    assert source.vendor == "ATA\ufffd"
    assert [path.state for path in source.paths] == [PathState.READY]


def test_a_fibre_channel_path_without_a_map(host: Host) -> None:
    host.disk("sda", FC, "8:0", 1 << 30, device__wwid="naa.6001405a\n", device__state="blocked\n")
    (source,) = host.discovery.scan().sources
    assert (source.transport, source.paths[0].hctl) == (Transport.FC, "7:0:0:0")
    assert source.paths[0].state is PathState.FAULTY


def test_a_usb_stick_without_identity(host: Host) -> None:
    host.disk("sda", SATA, "8:0", 1 << 30)
    (source,) = host.discovery.scan().sources
    assert codes(source.reasons) == ["no-identity"]


def test_a_card_reader_without_a_card(host: Host) -> None:
    host.disk("sda", SATA, "8:0", 0, device__wwid="naa.5000\n")
    assert codes(host.discovery.scan().sources[0].reasons) == ["no-medium"]


def test_virtual_disks_by_their_serial_numbers(host: Host) -> None:
    for name, number, serial in (
        ("vda", "254:0", "root"),
        ("vdb", "254:16", "same"),
        ("vdc", "254:32", "same"),
    ):
        host.disk(name, f"devices/pci/virtio{number[4]}{name}/block/{name}", number, 1 << 30, serial=serial)
    sources = {source.device: source for source in host.discovery.scan().sources}
    assert (sources["vda"].id, sources["vda"].reasons) == ("virtio-root", ())
    assert codes(sources["vdb"].reasons) == ["duplicate-identity"]
    assert sources["vdb"].id != sources["vdc"].id


def test_nvme_disks_and_not_their_hidden_paths(host: Host) -> None:
    wwid = "nvme.1b36-6162-51454d55-00000001\n"
    host.disk(
        "nvme0n1", "devices/pci/nvme/nvme0/nvme0n1", "259:0", 1 << 30, wwid=wwid, device__model="QEMU NVMe \n"
    )
    host.disk("nvme0c0n1", "devices/pci/nvme/nvme0/nvme0c0n1", "259:1", 1 << 30, wwid=wwid, hidden="1\n")
    (source,) = host.discovery.scan().sources
    assert (source.id, source.transport, source.model) == (wwid.strip(), Transport.NVME, "QEMU NVMe")


@pytest.mark.parametrize("name", ["sr0", "ram0", "zram0", "fd0", "nbd0", "md0", "dm-7", "loop7", "xyz"])
def test_what_is_no_disk_is_no_source(host: Host, name: str) -> None:
    host.disk(name, f"devices/virtual/block/{name}", "11:0", 1 << 20)
    assert host.discovery.scan().sources == ()


def test_a_loop_over_a_block_device_holds_it(host: Host) -> None:
    host.disk("vda", "devices/pci/virtio0/block/vda", "254:0", 1 << 30, serial="x")
    host.disk("loop0", "devices/virtual/block/loop0", "7:0", 1 << 30, loop__backing_file="/dev/vda\n")
    (source,) = host.discovery.scan().sources
    assert codes(source.reasons) == ["holder"]
    assert "losetup -d /dev/loop0" in source.reasons[0].text


def test_a_crypt_mapping_holds_its_disk(host: Host) -> None:
    host.disk("vda", "devices/pci/virtio0/block/vda", "254:0", 1 << 30, serial="x", holders__dm="")
    (host.sysfs / "devices/pci/virtio0/block/vda/holders/dm").unlink()
    host.write("block/vda/holders/dm-0", "")
    host.disk(
        "dm-0", "devices/virtual/block/dm-0", "253:0", 1 << 29, dm__name="secret\n", dm__uuid="CRYPT-1\n"
    )
    (source,) = host.discovery.scan().sources
    assert codes(source.reasons) == ["holder"]
    assert "/dev/mapper/secret" in source.reasons[0].text


def test_a_device_that_goes_during_the_scan_is_left_out(host: Host) -> None:
    host.disk("vda", "devices/pci/virtio0/block/vda", "254:0", 1 << 30, serial="x")
    (host.sysfs / "block/vda/size").unlink()
    (host.sysfs / "block/vdb").symlink_to("../devices/gone")
    assert host.discovery.scan().sources == ()


def test_a_portal_by_ipv6_and_a_session_that_is_logging_in(host: Host) -> None:
    host.write("class/iscsi_session/session1/targetname", "iqn.x\n")
    host.write("class/iscsi_session/session2/targetname", "iqn.y\n")
    host.write("class/iscsi_connection/connection1:0/persistent_address", "(null)\n")
    host.write("class/iscsi_connection/connection1:0/address", "fd00::1\n")
    host.write("class/iscsi_connection/connection1:0/port", "3261\n")
    host.write("class/iscsi_connection/connection2:0/address", "(null)\n")
    sessions = read_sessions(host.sysfs)
    assert sessions["session1"].portal == Portal("fd00::1", 3261)
    assert sessions["session2"].portal is None


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "",
            "timeout\n",
            "{}",
            '{"maps": [',
            '{"maps": [{}',
            '{"maps": [{}]',
            '{"maps": []} x',
            '{"maps": [5]}',
        ),
        '{"maps": [{"path_groups": [{"paths": [{}]}]}]}',
    ],
)
def test_multipathd_that_does_not_report(answer: str) -> None:
    with pytest.raises(MultipathdUnclear, match="systemctl status multipathd"):
        read_paths(FakeCommands().on("multipathd", answer))


def test_a_recorded_report_cut_off_anywhere_is_none() -> None:
    answer = recording("base")["commands"][0]["stdout"]
    assert len(read_paths(FakeCommands().on("multipathd", answer))) == 6
    for end in range(0, len(answer.rstrip()), 97):
        with pytest.raises(MultipathdUnclear):
            read_paths(FakeCommands().on("multipathd", answer[:end]))


def test_a_state_that_is_neither_is_unknown() -> None:
    answer = '{"maps": [{"path_groups": [{"paths": [{"dev": "sda", "chk_st": "ghost"}]}]}, {}]}'
    assert read_paths(FakeCommands().on("multipathd", answer)) == {"sda": PathReport(PathState.UNKNOWN)}
