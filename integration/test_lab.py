"""The lab keeps its promises: a fresh machine each time, a SAN as asked for, a power cut that hurts."""

from pathlib import Path

import pytest

from integration.lab import layers
from integration.lab.san import San
from integration.lab.shell import GuestError
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

MIB = 1 << 20


def test_a_clone_knows_nothing_of_another(vm: Vm, installed: Path) -> None:
    """What a test does to disks and files is gone for the next."""
    lun = San.of(vm)["boot1"]
    assert vm.run("test -e /root/trace", check=False).returncode
    vm.run(f"touch /root/trace; yes | dd of={lun.device} bs=1M count=1 iflag=fullblock oflag=direct; sync")
    digest = San.of(vm).digest("boot1")
    vm.down()
    other = layers.restore(vm.name, installed)
    assert other.run("test -e /root/trace", check=False).returncode
    assert San.of(other).digest("boot1") != digest


@pytest.mark.parametrize(("size", "sector"), [("24M", 512), ("32M", 4096)])
def test_luns_of_chosen_size_and_sector_size_come_and_go(vm: Vm, size: str, sector: int) -> None:
    san = San.of(vm)
    lun = san.add("extra", size, sector)
    seen = vm.out(f"blockdev --getss --getsize64 {lun.device}").split()
    assert seen == [str(sector), str(int(size.rstrip("M")) * MIB)]
    assert len(san.paths("extra")) == 2
    assert vm.out(f"/lib/udev/scsi_id -g -u -d /dev/{san.paths('extra')[0]}") == lun.wwid
    san.remove("extra")
    assert lun.wwid not in vm.out("multipath -ll; lsblk -o WWN")


def test_another_initiators_write_is_what_this_host_reads_next(vm: Vm) -> None:
    san = San.of(vm)
    san.write_elsewhere("boot1", 3 * MIB, "written elsewhere")
    read = f"dd if={san['boot1'].device} bs=4K skip={3 * MIB // 4096} count=1 iflag=direct status=none"
    assert vm.out(f"{read} | head -c 17") == "written elsewhere"


def test_chap_is_wanted(vm: Vm) -> None:
    """The target refuses an initiator without the secret."""
    vm.run(
        "iscsiadm -m node -u; iscsiadm -m node -o update -n node.session.auth.password -v wrong", check=False
    )
    with pytest.raises(GuestError, match="authorization failure"):
        vm.run("iscsiadm -m node -l")


def test_a_power_cut_loses_what_was_not_flushed_and_only_that(power_vm: Vm) -> None:
    lun = San.of(power_vm)["boot1"]
    write = f"dd of={lun.device} bs=1M count=2 iflag=fullblock oflag=direct status=none"
    power_vm.run(f"yes flushed | {write} seek=8 conv=fdatasync")
    power_vm.run(f"yes lost | {write} seek=16")
    read = f"dd if={lun.device} bs=1M count=1 iflag=direct status=none"
    assert power_vm.out(f"{read} skip=16 | head -c 4") == "lost"
    power_vm.kill()
    power_vm.boot_again()
    lun = San.of(power_vm)["boot1"]
    read = f"dd if={lun.device} bs=1M count=1 iflag=direct status=none"
    assert power_vm.out(f"{read} skip=8 | head -c 7") == "flushed"
    assert power_vm.out(f"{read} skip=16 | tr -d '\\0' | head -c 4") == ""
    assert power_vm.out("vgs --noheadings -o vg_name").split() == ["vg_san", "vg_san4k"]
