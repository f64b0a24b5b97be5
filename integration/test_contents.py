"""What is on a source is read and nothing else happens to it; and the doctor, on a hostile host."""

import re
from typing import Any

import pytest

from integration.host import MANAGER, Host, Properties
from integration.lab.shell import GuestError
from integration.lab.vm import Vm
from p2vd.bus.names import ROOT

pytestmark = pytest.mark.lab

MIB = 1 << 20

# A server's disk, made in the array's own file: an ESP, and a volume group with a volume in it.
SERVER = """
set -e
file=$1
udevadm control --stop-exec-queue  # the host would activate what it sees on a loop device
sgdisk -n1:1M:+4M -t1:ef00 -n2:0:0 -t2:8e00 $file > /dev/null
loop=$(losetup --find --show --offset 5M --sizelimit 24M $file)
pvcreate -q --devices $loop $loop
vgcreate -q --devices $loop guestvg $loop
lvcreate -q --devices $loop -an -Zn -Wn -L 4M -n root guestvg
losetup -d $loop
udevadm control --start-exec-queue
sync $file
"""


def write_server(host: Host) -> str:
    """Lay a server's disk into the LUN boot1 behind this host's back; return its WWID."""
    lun = host.san["boot1"]
    host.vm.run(f"sh -s {lun.backing}", stdin=SERVER)
    return lun.wwid


def contents(host: Host, wwid: str, table: str) -> Properties:
    """What p2vd shows of a disk, once that is of a look which found this partition table."""
    source = host.wait_source(wwid, f"table {table}", lambda now: now["Contents"].get("Table") == table)
    found: Properties = source["Contents"]
    return found


def partitions(found: Properties) -> list[Properties]:
    listed: list[Properties] = found["Partitions"]
    return listed


def devices(vm: Vm) -> str:
    """All block devices and what is stacked on them."""
    return vm.out("ls /sys/block /sys/block/*/holders; dmsetup ls | sort; pvs --noheadings -o pv_name")


def test_a_servers_disk_is_read_and_left_alone(vm: Vm) -> None:
    """A volume group in a partition of a source: said in the plan; no event, no partition, no volume."""
    host = Host.ready(vm)
    wwid = host.san["boot1"].wwid
    host.source(wwid)
    write_server(host)
    vm.run("udevadm settle")
    before = devices(vm)
    vm.run("setsid udevadm monitor --kernel --udev --subsystem-match=block > /tmp/events 2>&1 &")
    vm.run("until grep -q KERNEL /tmp/events; do sleep 0.1; done")
    page = host.plan_page(wwid, "server")
    found = contents(host, wwid, "gpt")
    vm.run("udevadm settle; pkill udevadm")
    events = [line for line in vm.out("cat /tmp/events").splitlines() if re.match(r"(KERNEL|UDEV) *\[", line)]
    assert events == []
    assert devices(vm) == before

    assert (found["State"], found["Boot"]) == ("done", "uefi")
    esp, pv = partitions(found)
    assert (esp["Start"], esp["Size"]) == (MIB, 4 * MIB)
    assert (pv["Holds"], pv["VolumeGroup"]) == ("LVM2_member", "guestvg")
    assert page["Firmware"] == "uefi"
    assert [warning for warning in page["Warnings"] if "the volume group guestvg of the machine" in warning]

    # Not even an event of udev makes the host take hold of it.
    vm.run(f"udevadm trigger --action=change --settle {host.san['boot1'].device}")
    assert devices(vm) == before
    assert "guestvg" not in vm.out("dmsetup ls; vgs --noheadings -o vg_name")


def test_sectors_of_4096_bytes(vm: Vm) -> None:
    """A 4Kn LUN's GPT is found; one that was written for 512-byte sectors is named, not misread."""
    host = Host.ready(vm, vg="vg_san4k")
    lun = host.san["boot2"]
    host.source(lun.wwid)
    gpt = f"sgdisk -n1:1M:+4M -t1:ef00 -n2:0:0 -t2:8300 %s > /dev/null; sync {lun.backing}"
    vm.run(f"D=$(losetup --find --show --sector-size 4096 {lun.backing}); {gpt % '$D'}; losetup -d $D")
    page = host.plan_page(lun.wwid, "modern")
    found = contents(host, lun.wwid, "gpt")
    assert (found["Boot"], found["PhysicalSectorSize"]) == ("uefi", 4096)
    assert [part["Start"] for part in partitions(found)] == [MIB, 5 * MIB]
    assert page["Firmware"] == "uefi"

    vm.run(f"dd if=/dev/zero of={lun.backing} bs=1M count=24 conv=notrunc; {gpt % lun.backing}")
    page = host.plan_page(lun.wwid, "modern")
    contents(host, lun.wwid, "gpt-other-sectors")
    assert [warning for warning in page["Warnings"] if "512-byte sectors" in warning]


def test_a_reserved_lun_is_refused_by_the_plan(vm: Vm) -> None:
    host = Host.ready(vm)
    lun = host.san["boot1"]
    host.source(lun.wwid)
    path = f"/dev/{host.san.paths('boot1')[0]}"
    persist = "sg_persist --no-inquiry --out"
    vm.run(f"{persist} --register --param-sark=0xabc {path}")
    assert "keys are registered" in " ".join(host.plan_page(lun.wwid)["Warnings"])

    vm.run(f"{persist} --reserve --param-rk=0xabc --prout-type=1 {path}")
    with pytest.raises(GuestError, match=r"reserved by a host with the key 0xabc \(Write Exclusive\)"):
        host.plan(lun.wwid)
    source = host.wait_source(lun.wwid, "reserved", lambda now: bool(now["Contents"].get("Reservation")))
    assert not source["Usable"]
    assert source["Contents"]["Reservation"] == "0xabc (Write Exclusive)"

    vm.run(f"{persist} --release --param-rk=0xabc --prout-type=1 {path}")
    vm.run(f"{persist} --register --param-rk=0xabc --param-sark=0 {path}")
    assert host.plan(lun.wwid)
    host.wait_source(lun.wwid, "usable again", lambda now: bool(now["Usable"]))


# The array shows a second LUN with the identity of boot1 and another size, as a wrong mapping does.
TWIN = """
import importlib.machinery, importlib.util, os, subprocess, time
from pathlib import Path
loader = importlib.machinery.SourceFileLoader("lab_san", "/usr/local/sbin/lab-san")
lab = importlib.util.module_from_spec(importlib.util.spec_from_loader("lab_san", loader))
loader.exec_module(lab)
real = lab.serial
lab.serial = lambda name: real("boot1" if name == "twin" else name)
before = len(list(Path("/sys/block").glob("sd*")))
group = lab.TARGET / "iscsi" / lab.IQN / "tpgt_1"
lab.export(group, {"name": "twin", "size_bytes": 48 << 20, "sector_size": 512})
subprocess.run(["iscsiadm", "-m", "session", "-R"], check=True, capture_output=True)
while len(list(Path("/sys/block").glob("sd*"))) < before + 2:
    time.sleep(0.2)
subprocess.run(["udevadm", "settle"], check=True)
"""


def test_one_wwid_with_two_sizes_is_refused(vm: Vm) -> None:
    host = Host.ready(vm)
    wwid = host.san["boot1"].wwid
    assert host.source(wwid)["Usable"]
    vm.run("python3 -", stdin=TWIN)
    host.rescan()
    # multipathd may be busy with the new path, which is a reason of its own.
    host.wait_source(
        wwid,
        "two sizes",
        lambda now: any("32 MiB" in reason and "48 MiB" in reason for reason in now["Reasons"]),
    )
    with pytest.raises(GuestError, match="differ in size"):
        host.plan(wwid)


def doctor(host: Host) -> dict[str, str]:
    """What the doctor finds: severity by code."""

    def asked() -> Any:
        try:
            return host.call(ROOT, MANAGER, "Doctor", "a{sv}", {})
        except GuestError as error:
            if "still looks" not in str(error):
                raise
            return None

    (found,) = host.wait(asked, "the doctor")
    return {finding["Code"]: finding["Severity"] for finding in found}


def wait_for_findings(host: Host, wanted: dict[str, str]) -> None:
    """Wait until the doctor finds just that: multipathd and the doctor take their time with what is new."""
    host.wait(lambda: doctor(host) == wanted, f"the doctor's findings {wanted}")


# multipathd's overrides: the setting of the array's kind would hide one among the defaults. The sessions'
# timeouts are multipathd's too: it writes its own over any that was there, at the end of a reconfigure.
BAD_MULTIPATH = """
overrides {
  recheck_wwid yes
  no_path_retry queue
  fast_io_fail_tmo 120
}
"""


def test_the_doctor_finds_what_is_wrong_and_only_that(vm: Vm) -> None:
    host = Host.ready(vm)
    host.source(host.san["boot1"].wwid)
    # Debian's defaults: multipathd does not look again.
    wait_for_findings(host, {"recheck-wwid": "wrong", "unknown-luns": "advice"})
    told = vm.run("p2vctl doctor", check=False)
    assert told.returncode == 6
    assert told.stdout.startswith("wrong: recheck-wwid\n")

    package = "/usr/lib/udev/rules.d/59-p2vd-quarantine.rules"
    own = "/etc/udev/rules.d/59-p2vd-quarantine.rules"
    vm.run("cat >> /etc/multipath.conf; multipathd reconfigure", stdin=BAD_MULTIPATH)
    vm.run(f"sed s/nowatch/watch/ {package} > {own}")
    vm.run("vgchange -q -y --systemid '' vg_san")
    vm.run("echo 0 > /sys/module/dm_thin_pool/parameters/no_space_timeout")
    vm.run("systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service")
    host.rescan()
    wait_for_findings(
        host,
        {
            "rule-overridden": "exposed",
            "no-path-retry-queue": "wrong",
            "iscsi-timeout": "wrong",
            "no-space-timeout": "wrong",
            "hypervisor-unreachable": "wrong",
            "no-system-id": "advice",
            "unknown-luns": "advice",
        },
    )

    vm.run(f"rm {own}; mv {package} /tmp; systemctl stop multipathd.socket multipathd")
    exposed = {"rule-missing", "kpartx", "mdadm", "event-activation"}

    def missed() -> bool:
        found = doctor(host)
        return "multipathd-silent" in found and exposed == {
            code for code, severity in found.items() if severity == "exposed"
        }

    host.wait(missed, f"multipathd missed, and {exposed}")
