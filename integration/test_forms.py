"""Targets that are no volumes, on real storage: a whole LUN, raw and qcow2 files, full directories."""

import pytest

from integration.content import fill_lun, require_same
from integration.host import Host, Properties
from integration.lab.san import Lun
from integration.lab.vm import Vm
from p2vd.model.size import MIB

pytestmark = pytest.mark.lab

SIZE = "48M"
RULE = """
[[rule]]
name = "{name}"
match.wwid = "{wwid}"
{target}
copy.bandwidth = "1 GiB"
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""
FILE = """target.directory = "/srv/images"
target.require_mount = "/srv/images"
target.format = "{form}"
target.mode = "0644"
"""


def rules(vm: Vm, *each: tuple[str, Lun, str]) -> None:
    """Write the policy: of each disk the name of its rule, and where it goes."""
    text = "".join(RULE.format(name=name, wwid=lun.wwid, target=target) for name, lun, target in each)
    vm.write("/etc/p2vd/policy.d/50-lab.toml", text)


def filesystem(vm: Vm, size: str) -> None:
    """Mount a filesystem of its own at /srv/images, as an administrator's store is."""
    vm.run(
        f"mkdir -p /srv/images && truncate -s {size} /var/tmp/images.fs"
        " && mkfs.ext4 -q -m 0 /var/tmp/images.fs && mount -o loop /var/tmp/images.fs /srv/images"
    )


def source(host: Host, name: str, seed: int, size: str = SIZE) -> Lun:
    """A LUN whose every MiB differs."""
    lun = host.san.add(name, size)
    fill_lun(host.san, name, seed)
    return lun


def require_identical(vm: Vm, lun: Lun, job: Properties, form: str) -> None:
    """Have QEMU judge: what a guest reads of the target is the source."""
    vm.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    vm.run(f"qemu-img compare -f raw -F {form} {lun.backing} {job['Target']}", timeout_s=300)


def test_a_lun_becomes_an_empty_lun_and_no_other_one(vm: Vm) -> None:
    host = Host(vm)
    lun = source(host, "disk0", 1)
    used, spare = host.san.add("used", "64M"), host.san.add("spare", "80M")
    vm.run(f"mkfs.ext4 -q -F {used.backing}")  # behind the initiator's back: it may be another host's
    wanted = ", ".join(f'"{each.wwid}"' for each in (used, spare))
    rules(vm, ("lun", lun, f"target.lun.wwid = [{wanted}]\n"))
    before = host.san.digest("used")
    vm.run("systemctl start p2vd")
    done = host.wait_registered(host.migrate(lun.wwid, "erp1"))
    assert done["TargetKind"] == "lun"
    assert spare.wwid in done["Target"]
    require_same(vm, lun.backing, spare.backing, lun.size_bytes)
    assert host.san.digest("used") == before
    assert vm.out("virsh -q domblklist erp1").split()[1] == done["Target"]
    vm.run(f"test $(readlink -f {done['Target']}) = $(readlink -f {spare.device})")
    refused = vm.run(f"p2vctl plan {spare.wwid} --source-offline --name other", check=False)
    assert "is what job" in refused.stderr + refused.stdout


def test_luns_become_raw_and_qcow2_files_that_qemu_starts(vm: Vm) -> None:
    host = Host(vm)
    filesystem(vm, "400M")
    luns = {"raw": source(host, "disk0", 1), "qcow2": source(host, "disk1", 2)}
    rules(vm, *((form, lun, FILE.format(form=form)) for form, lun in luns.items()))
    vm.run("systemctl start p2vd")
    jobs = {form: host.migrate(lun.wwid, f"erp-{form}") for form, lun in luns.items()}
    for form, lun in luns.items():
        done = host.wait_registered(jobs[form])
        assert done["Target"] == f"/srv/images/erp-{form}.{form}"
        require_identical(vm, lun, done, form)
        xml = vm.out(f"virsh dumpxml erp-{form}")
        assert f"type='{form}'" in xml
        assert f"file='{done['Target']}'" in xml
        vm.run(
            f"virsh start erp-{form} && virsh domstate erp-{form} | grep -q running"
            f" && virsh destroy erp-{form}"
        )
    assert sorted(vm.out("ls -A /srv/images").split()) == ["erp-qcow2.qcow2", "erp-raw.raw", "lost+found"]


def test_a_directory_that_runs_full_holds_the_copy_and_harms_nobody(vm: Vm) -> None:
    host = Host(vm)
    filesystem(vm, "128M")
    lun = source(host, "disk0", 3, "96M")
    rules(vm, ("raw", lun, FILE.format(form="raw")))
    free = int(vm.out("df --output=avail -B1 /srv/images | tail -1"))
    vm.run(f"fallocate -l {free - 40 * MIB} /srv/images/others && sha256sum /srv/images/others > /tmp/others")
    vm.run("systemctl start p2vd")
    job = host.migrate(lun.wwid, "erp1")
    held = host.wait_job(job, "the hold", lambda now: "pool" in now["Holds"])
    assert "The filesystem of /srv/images lets copies take" in held["Stalled"]
    # The reserve of five per cent is left, less what the filesystem keeps of its own books.
    assert int(vm.out("df --output=avail -B1 /srv/images | tail -1")) > 3 * MIB
    vm.run("sha256sum -c /tmp/others && rm /srv/images/others")
    done = host.wait_registered(job)
    require_same(vm, lun.backing, done["Target"], lun.size_bytes)


def test_a_filesystem_that_is_not_mounted_is_waited_for(vm: Vm) -> None:
    """The directory beneath the mount point is never written to."""
    host = Host(vm)
    filesystem(vm, "200M")
    lun = source(host, "disk0", 4)
    rules(vm, ("raw", lun, FILE.format(form="raw")))
    vm.run("sed -i 's/1 GiB/2 MiB/' /etc/p2vd/policy.d/50-lab.toml && systemctl start p2vd")
    job = host.wait_copied(host.migrate(lun.wwid, "erp1"), 4 * MIB)
    vm.run("systemctl stop p2vd && umount /srv/images && systemctl start p2vd")
    back = host.wait_back(job)
    host.wait_job(back, "the hold", lambda now: "target-absent" in now["Holds"])
    assert vm.out("ls -A /srv/images") == ""
    vm.run("mount -o loop /var/tmp/images.fs /srv/images")
    done = host.wait_registered(back, 400)
    assert done["ResumedFrom"] > 0
    require_identical(vm, lun, done, "raw")
