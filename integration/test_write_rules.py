"""What p2vd refuses, and what takes hold of nothing: the write rules on a hostile host."""

import contextlib
import functools
import re
from pathlib import Path

import pytest

from integration.content import fill, fill_lun, require_same
from integration.host import JOB, CallFailed, Host, Properties
from integration.lab.san import Lun
from integration.lab.shell import GuestError
from integration.lab.vm import Vm
from integration.portals import Portals
from integration.second_array import SECRET, SECRET_IN, USER, USER_IN, SecondArray

pytestmark = pytest.mark.lab

MIB = 1 << 20
# Two minutes a copy: it still runs when something is done to it, on a machine of any speed.
SLOW = "256 KiB"


def refusal(host: Host, source_id: str) -> str:
    """Plan a source that must be refused; return the sentence."""
    with pytest.raises(GuestError) as raised:
        host.plan(source_id, "refused")
    return str(raised.value)


def lvs(vm: Vm) -> set[str]:
    return set(vm.out("lvs --noheadings -o vg_name,lv_name --separator /").split())


def traces(vm: Vm) -> dict[str, str]:
    """Return what must not change when something is refused."""
    return {
        "lvs": vm.out("lvs --noheadings -o vg_name,lv_name,lv_tags,lv_uuid"),
        "domains": vm.out("virsh -q list --all --name"),
        "read-only": vm.out("cat /sys/block/*/ro"),
    }


# ---- the source is in use --------------------------------------------------------------------


def mounted(host: Host) -> str:
    lun = host.san["boot1"]
    host.vm.run(f"mkfs.ext4 -q -F {lun.device} && mkdir -p /mnt/x && mount {lun.device} /mnt/x")
    return lun.wwid


def active_vg(host: Host) -> str:
    lun = host.san["boot1"]
    host.vm.run(f"vgcreate -q -y vg_guest {lun.device} && lvcreate -q -y -L 8M -n root vg_guest")
    return lun.wwid


def path_of_map(host: Host) -> str:
    return "/dev/" + host.san.paths("boot1")[0]


def pv_of_target(host: Host) -> str:
    return host.san["pv1"].wwid


USED = {
    "a mounted filesystem": (mounted, r"mounted .*/mnt/x.*umount", "umount /mnt/x; wipefs -qa {boot1}"),
    "an active VG on it": (active_vg, r"vg_guest.*vgchange -an vg_guest", "vgremove -q -y vg_guest"),
    "a path of a multipath map": (path_of_map, r"path of .*36001405", "true"),
    "a PV of the target VG": (pv_of_target, r"vg_san", "true"),
}


def test_a_source_in_use_and_a_target_that_cannot_be_are_refused_with_the_remedy(vm: Vm) -> None:
    host = Host.ready(vm, provisioning="thick")
    wwid = host.san["boot1"].wwid
    for prepare, says, undo in USED.values():
        expect_refusal(host, prepare(host), says)
        vm.run(undo.format(boot1=host.san["boot1"].device))
    vm.run("lvcreate -q -y -l 100%FREE -n hog vg_san")
    expect_refusal(host, wwid, r"vg_san.* free")
    vm.run("lvremove -q -y vg_san/hog; lvcreate -q -y -L 40M -n refused vg_san")
    expect_refusal(host, wwid, r"vg_san/refused")


def test_a_volume_group_that_the_hosts_filter_hides_is_no_target(vm: Vm) -> None:
    """By name, where p2vd's own commands see it past the filter, and as one that is not there where not."""
    host = Host.ready(vm, provisioning="thick")
    wwid, pv = host.san["boot1"].wwid, host.san["pv1"].device
    local = "/etc/lvm/lvmlocal.conf"
    vm.run(f"touch {local}; cp -a {local} /root/lvmlocal.conf")
    vm.run(f"""echo 'devices {{ global_filter = [ "r|^{pv}$|" ] }}' >> {local}""")
    assert "vg_san" not in vm.out("vgs --noheadings -o vg_name").split()
    expect_refusal(host, wwid, r"global_filter of its lvm.conf rejects|There is no volume group vg_san")
    vm.run(f"cp -a /root/lvmlocal.conf {local}")
    host.rescan()
    assert host.plan(wwid, "seen")


def expect_refusal(host: Host, source: str, says: str) -> None:
    """The plan is refused with that sentence; nothing was written, nothing is left behind."""
    host.vm.run("udevadm settle")
    before = traces(host.vm)
    host.rescan()
    host.wait(lambda: re.search(says, refusal(host, source), re.DOTALL), f"a refusal like {says}")
    assert traces(host.vm) == before


def test_a_source_that_changed_at_resume_is_refused(vm: Vm) -> None:
    host = Host.ready(vm, bandwidth=SLOW)
    fill_lun(host.san, "boot1", 4)
    job = host.migrate(host.san["boot1"].wwid, "changed")
    host.wait_copied(job, MIB)
    vm.run("systemctl stop p2vd")
    host.san.write_elsewhere("boot1", 512, "the disk has another beginning now")
    vm.run("systemctl start p2vd")
    failed = ended(host, job)
    assert failed["Stage"] == "failed"
    assert failed["Error"][0] == "SourceChanged"


# In lvcreate's stead, which is a link to lvm: the first volume is made, and who asked does not hear of it.
LVCREATE = """#!/bin/sh
/usr/sbin/lvm lvcreate "$@"; made=$?
[ -e /run/lab-killed ] || { touch /run/lab-killed; kill -9 $(systemctl show -P MainPID p2vd); }
exit $made
"""


def test_a_crash_between_lvcreate_and_the_first_byte_leaves_no_orphan(vm: Vm) -> None:
    """The LV that a dead daemon's lvcreate made is adopted by its tag, not made twice."""
    host = Host.ready(vm)
    digest = fill_lun(host.san, "boot1", 2)
    host.source(host.san["boot1"].wwid)
    vm.run("rm /usr/sbin/lvcreate")
    vm.write("/usr/sbin/lvcreate", LVCREATE, mode="755")
    plan_id = host.plan(host.san["boot1"].wwid, "adopted")
    with contextlib.suppress(CallFailed):  # it may be killed before its answer is here
        host.call_until_looked_at("Migrate", "sa{sv}", plan_id, {})
    job = host.wait(lambda: host.of(JOB) and host.job(), "the job, also after the crash")
    done = host.wait_registered(job, 600)
    assert int(vm.out("systemctl show -P NRestarts p2vd")) >= 1
    assert len([lv for lv in lvs(vm) if "pool0" not in lv]) == 1
    require_same(vm, host.san["boot1"].backing, done["Target"], done["Bytes"])
    assert host.san.digest("boot1") == digest


# ---- the target is touched from outside -------------------------------------------------------


def ended(host: Host, job: Properties) -> Properties:
    found: Properties = host.wait(
        lambda: (now := host.at(job["path"]))["Stage"] in ("failed", "proven") and now, "the end of the job"
    )
    return found


TOUCHED = {
    "another process has it open to write": (
        "systemd-run -q --unit=lab-holds --collect sh -c 'exec sleep infinity > {target}'",
        {"TargetInUse"},
    ),
    # All of it: what is not copied yet is written over again, and nothing tells which blocks these are.
    "another process writes to it": (
        "dd if=/dev/urandom of={target} bs=1M count=32 oflag=direct conv=notrunc status=none",
        {"TargetInUse", "TargetMismatch"},
    ),
    "it is shrunk": ("lvreduce -q -f -y -L 16M {target}", {"TargetChanged"}),
}


def test_a_target_touched_from_outside_fails_the_job_by_name_and_cancel_removes_it(vm: Vm) -> None:
    host = Host.ready(vm, provisioning="thick", bandwidth=SLOW)
    digest = fill_lun(host.san, "boot1", 9)
    vm.run("lvcreate -q -y -L 8M -n foreign vg_san")
    for how, (touch, names) in TOUCHED.items():
        job = host.migrate(host.san["boot1"].wwid, "touched")
        host.wait_copied(job, MIB)
        vm.run(touch.format(target=job["Target"]))
        if "TargetMismatch" in names:  # who is gone again within seconds is found when the target is read
            host.full_speed(job)
        failed = ended(host, job)
        vm.run("systemctl stop lab-holds", check=False)
        assert failed["Stage"] == "failed", how
        assert failed["Error"][0] in names, how
        host.verb(job, "Cancel", target="remove")
        host.wait_stage(job, "cancelled")
        host.rescan()
    assert vm.out("lvs --noheadings -o lv_name vg_san").split() == ["foreign", "pool0"]
    assert host.san.digest("boot1") == digest
    assert vm.out("virsh -q list --all --name") == ""
    assert vm.out(f"blockdev --getro {host.san['boot1'].device}") == "0"


# Has it open until it is stopped.
WRITES = "exec 3> {target}; head -c 1M /dev/urandom >&3; exec sleep infinity"


def test_who_writes_to_a_target_that_is_read_back_ends_it_and_a_retry_finds_what_he_wrote(vm: Vm) -> None:
    """It may lie behind the place that is read: what was read before proves nothing."""
    host = Host.ready(vm, provisioning="thick", verify="both", bandwidth="1 MiB")
    digest = fill_lun(host.san, "boot1", 9)
    job = host.migrate(host.san["boot1"].wwid, "opened")
    host.wait_stage(job, "verifying")
    host.call(job["path"], JOB, "SetBandwidth", "ta{sv}", 64 << 10, {})
    shell = WRITES.format(target=job["Target"])
    vm.run(["systemd-run", "-q", "--unit=lab-holds", "--collect", "sh", "-c", shell])
    failed = ended(host, job)
    vm.run("systemctl stop lab-holds; udevadm settle")
    assert failed["Stage"] == "failed"
    assert failed["Error"][0] == "TargetInUse"
    host.verb(job, "Retry")
    host.full_speed(job)
    failed = ended(host, job)
    assert failed["Stage"] == "failed"
    assert failed["Error"][0] == "TargetMismatch"
    assert host.san.digest("boot1") == digest
    assert vm.out("virsh -q list --all --name") == ""


# ---- a path becomes another disk ----------------------------------------------------------------


def test_a_path_that_comes_back_as_another_lun_ends_the_copy_for_good(vm: Vm) -> None:
    """While it was away its LUN number was given to a disk of the same size: multipathd takes that for it."""
    array, apart = SecondArray(vm), "10.98.4.1"
    array.build()
    wwid, other = array.add("first", 64, 1), array.add("second", 64, 2)
    array.serve(apart=apart)
    array.map(1, "first", apart=True)
    fill(vm, "/srv/second/first.img", 11)
    # Nine minutes a copy: a path takes its time to go and to come back.
    host = Host.ready(vm, bandwidth="128 KiB")
    own = Portals(host)
    for portal in ("10.98.3.1", apart):
        own.add(portal, user=USER, secret=SECRET, user_in=USER_IN, secret_in=SECRET_IN)
        own.wait(f"{portal}:3260", "connected")

    def paths(ready: int) -> None:
        host.wait_source(
            wwid, f"{ready} paths", lambda now: (now["PathsReady"], now["PathsTotal"]) == (ready, 2)
        )

    paths(2)
    job = host.migrate(wwid, "elsewhere")
    host.wait_copied(job, MIB)
    array.portal_down(apart)
    paths(1)
    array.remap(1, "second", apart=True)
    array.portal_up(apart)
    failed = ended(host, job)
    assert failed["Stage"] == "failed"
    assert failed["Error"][0] == "IdentityChanged"
    assert f"a path of {wwid}, leads to {other} by now" in failed["Error"][1]
    # What was read through it is in the volume, whatever the path leads to by then.
    host.verb(job, "Retry")
    assert ended(host, job)["Error"] == failed["Error"]
    host.verb(job, "Cancel", target="remove")
    host.wait_stage(job, "cancelled")
    assert vm.out("lvs --noheadings -o lv_name vg_san").split() == ["pool0"]


# ---- a hostile host ----------------------------------------------------------------------------

# Made on the array, past this host: a PV in a partition, a whole-disk PV, an md member; each with
# something that the host's rules would activate. udev rests meanwhile, or it would do so here already.
CONTENT = {
    "part": """
        parted -s $file mklabel msdos mkpart primary 1MiB 100% set 1 lvm on
        loop=$(losetup --show -f -o 1048576 $file)
        pvcreate -q -y $loop; vgcreate -q -y vg_part $loop; lvcreate -q -y -Zn -Wn -L 8M -n data vg_part
        vgchange -q -an vg_part""",
    "whole": """
        loop=$(losetup --show -f $file)
        pvcreate -q -y $loop; vgcreate -q -y vg_whole $loop; lvcreate -q -y -Zn -Wn -L 8M -n data vg_whole
        vgchange -q -an vg_whole""",
    "md": """
        loop=$(losetup --show -f $file)
        mdadm -q --create /dev/md77 --run --level=1 --raid-devices=1 --force $loop
        mdadm -q --stop /dev/md77""",
}
PREPARE = """
file=/srv/luns/{name}.img
truncate -s 32M $file
udevadm settle; udevadm control --stop-exec-queue
trap '[ -z "$loop" ] || losetup -d $loop; udevadm control --start-exec-queue; udevadm settle' EXIT
export DM_DISABLE_UDEV=1
{content}
"""


def held(vm: Vm) -> dict[str, str]:
    """Return what has been activated on guest content: nothing, if p2vd does its work."""
    found = {
        "dm": vm.out("dmsetup ls 2>/dev/null | grep -E 'vg_part|vg_whole|part[0-9]|data$' || true"),
        "md": vm.out("grep -E '^md' /proc/mdstat || true"),
    }
    return {kind: text for kind, text in found.items() if text}


def flushed(vm: Vm, lun: Lun) -> bool:
    """Remove a LUN's map, which fails while p2vd has another look at it; return whether it is gone."""
    return vm.run(f"multipath -f {Path(lun.device).name}", check=False).returncode == 0


def test_nothing_takes_hold_of_source_or_target_on_a_hostile_host(vm: Vm) -> None:
    """mdadm's rules, kpartx and event-based activation are installed; before, during and after the copy."""
    vm.run("test -e /usr/lib/udev/rules.d/60-kpartx.rules -o -e /lib/udev/rules.d/60-kpartx.rules")
    vm.write("/etc/p2vd/p2vd.toml", 'quarantine = "unknown"\n')
    host = Host.ready(vm, bandwidth=SLOW)
    for name in CONTENT:
        # Prepared away from the initiator, then mapped: the first sight of the LUN is with its content.
        vm.run("bash -es", stdin=PREPARE.format(name=name, content=CONTENT[name]))
    assert held(vm) == {}
    luns = [host.san.add(name, "32M") for name in CONTENT]
    digests = {lun.name: host.san.digest(lun.name) for lun in luns}
    assert held(vm) == {}
    jobs = [host.migrate(lun.wwid, f"m-{lun.name}") for lun in luns]
    for job in jobs:
        host.wait_copied(job, MIB)
        assert held(vm) == {}
    for job in jobs:
        host.full_speed(job)
    targets = [host.wait_registered(job, 600)["Target"] for job in jobs]
    assert held(vm) == {}
    for target in targets:
        vm.run("udevadm settle")
        vm.run(f"lvchange -q -an {target} && lvchange -q -ay {target} && udevadm trigger --settle {target}")
    for lun in luns:
        host.wait(functools.partial(flushed, vm, lun), f"{lun.device} flushed")
    vm.run("multipath -r; udevadm settle; udevadm trigger --settle --subsystem-match=block")
    assert held(vm) == {}
    for lun, target in zip(luns, targets, strict=True):
        require_same(vm, lun.backing, target, lun.size_bytes)
        assert host.san.digest(lun.name) == digests[lun.name]
