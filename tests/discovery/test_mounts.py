"""Mounts and swap: whose they are."""

from pathlib import Path

import pytest

from p2vd.discovery.mounts import read_mounts
from p2vd.discovery.sysfs import read_block_tree
from tests.discovery.host import Host, codes, empty_host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One disk with two partitions."""
    host = empty_host(tmp_path)
    host.disk("vda", "devices/pci/virtio0/block/vda", "254:0", 1 << 30, serial="x")
    for number in ("1", "2"):
        host.write(f"block/vda/vda{number}/partition", number)
        host.write(f"block/vda/vda{number}/dev", f"254:{number}")
        host.write(f"block/vda/vda{number}/size", "2048")
    return host


def mount(host: Host, line: str, process: str = "1") -> None:
    file = host.proc / process / "mountinfo"
    file.parent.mkdir(exist_ok=True)
    file.write_text(line + "\n")


def test_a_mounted_partition_is_its_disks_reason(host: Host) -> None:
    mount(host, r"28 1 254:2 / /mnt/a\040b rw shared:1 - ext4 /dev/vda2 rw")
    (source,) = host.discovery.scan().sources
    assert codes(source.reasons) == ["mounted"]
    assert "/dev/vda2 on /mnt/a b" in source.reasons[0].text


def test_a_btrfs_is_found_by_its_source(host: Host) -> None:
    mount(host, "28 1 0:45 / /data rw - btrfs /dev/vda1 rw")
    assert codes(host.discovery.scan().sources[0].reasons) == ["mounted"]


def test_another_member_of_a_btrfs_is_found_by_the_kernels_list(host: Host) -> None:
    host.write("fs/btrfs/1234-5678/devices/vda2", "")
    host.write("fs/btrfs/features/x", "")
    assert codes(host.discovery.scan().sources[0].reasons) == ["mounted"]


def test_mounts_of_other_things_are_none(host: Host) -> None:
    mount(
        host, "22 1 0:21 / /proc rw - proc proc rw\n23 1 8:1 / /x rw - ext4 /dev/sda1 rw\nodd line 0:1 / /y"
    )
    assert host.discovery.scan().sources[0].reasons == ()


def test_swap_on_a_partition(host: Host) -> None:
    (host.proc / "swaps").write_text(
        "Filename Type Size Used Priority\n/dev/vda1 partition 1 0 -2\n/swap file 1 0 -3\n"
    )
    source = host.discovery.scan().sources[0]
    assert codes(source.reasons) == ["swap"]
    assert "swapoff /dev/vda1" in source.reasons[0].text


def test_the_own_mounts_stand_in_where_those_of_process_1_are_hidden(host: Host) -> None:
    (host.proc / "1/mountinfo").unlink()
    mount(host, "28 1 254:1 / /mnt rw - ext4 /dev/vda1 rw", process="self")
    assert read_mounts(read_block_tree(host.sysfs), host.proc).points == {"vda1": ("/mnt",)}


def test_without_any_list_of_mounts_nothing_counts_as_unmounted(host: Host) -> None:
    (host.proc / "1/mountinfo").unlink()
    with pytest.raises(FileNotFoundError):
        host.discovery.scan()
