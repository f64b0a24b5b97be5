"""Targets that are no volumes, on real storage, and sources that are no devices: images, NBD exports."""

import pytest

from integration.content import fill, fill_lun, require_same
from integration.host import SOURCE, Host, Properties
from integration.lab.san import Lun
from integration.lab.shell import GuestError
from integration.lab.vm import Vm
from p2vd.model.size import GIB, MIB

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
    vm.run(f"qemu-img compare -f raw -F {form} {lun.backing} {job['Target']}")


def test_a_lun_becomes_an_empty_lun_and_no_other_one(vm: Vm) -> None:
    host = Host(vm)
    lun = source(host, "disk0", 1)
    used, spare = host.san.add("used", "64M"), host.san.add("spare", "80M")
    vm.run(f"mkfs.ext4 -q -F {used.backing}")  # behind the initiator's back: it may be another host's
    wanted = ", ".join(f'"{each.wwid}"' for each in (used, spare))
    rules(vm, ("lun", lun, f"target.lun.wwid = [{wanted}]\n"))
    before = host.san.digest("used")
    vm.run("systemctl start p2vd")
    # Looked at before: what a plan cannot wait for is left to its job, which fails where a LUN is not empty.
    for each in (used, spare):
        host.source(each.wwid)
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
    host.wait_held(job, "pool", "The filesystem of /srv/images lets copies take")
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
    # Three minutes at that limit: it is not over when the filesystem goes.
    vm.run("sed -i 's/1 GiB/256 KiB/' /etc/p2vd/policy.d/50-lab.toml && systemctl start p2vd")
    job = host.wait_copied(host.migrate(lun.wwid, "erp1"), MIB)
    vm.run("systemctl stop p2vd")
    host.wait(lambda: host.worker() == 0, "the end of the worker, which has the file open")
    vm.run("umount /srv/images && systemctl start p2vd")
    back = host.wait_back(job)
    host.wait_job(back, "the hold", lambda now: "target-absent" in now["Holds"])
    assert vm.out("ls -A /srv/images") == ""
    vm.run("mount -o loop /var/tmp/images.fs /srv/images")
    host.full_speed(back)
    done = host.wait_registered(back)
    assert done["ResumedFrom"] > 0
    require_identical(vm, lun, done, "raw")


# ---- sources that are no devices ----------------------------------------------------------------

THIN = """
[[rule]]
name = "outside"
match.transport = ["nbd", "image"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
copy.verify = "both"
copy.bandwidth = "256 KiB"
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""
EXPORT = "nbd://127.0.0.1:10809/"
DISK_BYTES = 24 * MIB + 512


def raw_disk(vm: Vm, path: str, seed: int) -> None:
    """A disk whose every MiB differs, as a file."""
    vm.run(f"truncate -s {DISK_BYTES} {path}")
    fill(vm, path, seed)


def serve(vm: Vm, path: str) -> None:
    """Serve a disk as a rescue system does, to whoever comes, until it is killed."""
    words = f"qemu-nbd -r -t -f raw --shared=8 -b 127.0.0.1 -p 10809 {path}"
    vm.run(f"systemd-run -q --unit=lab-export --property=CollectMode=inactive-or-failed {words}")


def drop(vm: Vm, port: int) -> None:
    """Drop every SYN to a port from now on, as a firewall does, until its unit is stopped.

    Its queue has one place, which it takes itself (or who tries just now), and nobody is let out of it.
    """
    script = (
        "import signal, socket; "
        f"server = socket.create_server(('127.0.0.1', {port}), backlog=0); "
        "peer = socket.socket(); peer.setblocking(False); peer.connect_ex(server.getsockname()); "
        "signal.pause()"
    )
    vm.run(
        f"systemd-run -q --unit=lab-drop-{port} --property=CollectMode=inactive-or-failed"
        f' /usr/bin/python3 -c "{script}"'
    )


def usable(host: Host, source_id: str) -> Properties:
    """Wait until p2vd has seen a source and learned how large it is."""

    def seen() -> Properties | None:
        found = (each for each in host.of(SOURCE) if each["Id"] == source_id and each["Usable"])
        return next(found, None)

    source: Properties = host.wait(seen, f"the source {source_id}")
    return source


def test_an_nbd_export_is_cut_comes_back_and_is_proven(vm: Vm) -> None:
    raw_disk(vm, "/var/tmp/erp1.raw", 5)
    serve(vm, "/var/tmp/erp1.raw")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", f'[[nbd]]\nuri = "{EXPORT}"\n{THIN}')
    vm.run("systemctl start p2vd")
    host = Host(vm)
    source = usable(host, EXPORT)
    assert (source["Transport"], source["Size"], source["Format"]) == ("nbd", DISK_BYTES, "raw")
    job = host.wait_copied(host.migrate(EXPORT, "erp1"), MIB)
    vm.run("systemctl kill -s KILL lab-export")
    host.wait_job(job, "the hold", lambda now: "source-absent" in now["Holds"])
    host.wait(lambda: not [each for each in host.of(SOURCE) if each["Id"] == EXPORT], "the export to go")
    assert "does not answer" in vm.run("p2vctl sources", check=False).stdout
    serve(vm, "/var/tmp/erp1.raw")
    host.full_speed(job)
    done = host.wait_registered(job, 600)
    assert done["ResumedFrom"] > 0
    assert done["SourceStable"] == "proven"
    require_same(vm, "/var/tmp/erp1.raw", done["Target"], DISK_BYTES)


def test_a_filesystem_that_hangs_takes_its_own_images_away_until_it_answers(vm: Vm) -> None:
    """The one image that has to be read to its end on it; the other, elsewhere, is read meanwhile."""
    raw_disk(vm, "/var/tmp/erp1.raw", 6)
    vm.run(
        "truncate -s 256M /var/tmp/old.fs && loop=$(losetup -f --show /var/tmp/old.fs)"
        ' && dmsetup create old --table "0 $(blockdev --getsz $loop) linear $loop 0"'
        " && mkfs.ext4 -q -m 0 /dev/mapper/old"
        " && mkdir -p /srv/old /srv/images && mount /dev/mapper/old /srv/old"
        " && for place in old images; do gzip -1 < /var/tmp/erp1.raw > /srv/$place/erp.gz; done"
        " && chmod 0644 /srv/*/erp.gz && sync",
        timeout_s=300,
    )
    vm.write("/etc/p2vd/p2vd.toml", 'image_directories = ["/srv/images", "/srv/old"]\n')
    vm.run("systemctl start p2vd")
    host = Host(vm)

    def unusable(words: str) -> bool:
        reasons = [each["Reasons"] for each in host.of(SOURCE) if each["Id"] == "/srv/old/erp.gz"]
        return any(words in reason for each in reasons for reason in each)

    host.wait(lambda: unusable("Nothing in /srv/old/erp.gz tells how large its disk is"), "the look into it")
    # What is cached would be read all the same.
    vm.run("echo 1 > /proc/sys/vm/drop_caches && dmsetup suspend --noflush --nolockfs old")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", THIN)
    vm.run("p2vctl reload")
    assert usable(host, "/srv/images/erp.gz")["Size"] == DISK_BYTES
    host.wait(lambda: unusable("no answer in 90 s from /srv/old (ext4, /dev/mapper/old)"), "its silence", 240)
    assert vm.out("pgrep -fc p2vd.copying.asker") == "1"
    vm.run("dmsetup resume old")
    host.wait(lambda: usable(host, "/srv/old/erp.gz"), "the image to be read", 240)


def test_a_stop_is_heard_by_a_worker_whose_server_drops_every_packet(vm: Vm) -> None:
    """Another such server is named from the beginning, and keeps p2vd from nothing."""
    raw_disk(vm, "/var/tmp/erp1.raw", 6)
    serve(vm, "/var/tmp/erp1.raw")
    drop(vm, 10810)
    named = f'[[nbd]]\nuri = "{EXPORT}"\n[[nbd]]\nuri = "nbd://127.0.0.1:10810/"\n'
    vm.write("/etc/p2vd/policy.d/50-lab.toml", f"{named}{THIN}")
    vm.run("systemctl start p2vd")
    host = Host(vm)
    usable(host, EXPORT)
    job = host.wait_copied(host.migrate(EXPORT, "erp1"), 4 * MIB)
    worker = host.worker()
    vm.run("systemctl stop lab-export")
    drop(vm, 10809)
    dialled = "ss -Htnp state syn-sent dst 127.0.0.1:10809"
    host.wait(lambda: f"pid={worker}," in vm.out(dialled), "the worker to dial", 25)
    began, ended = (
        float(moment) for moment in vm.out("date +%s.%N; systemctl stop p2vd; date +%s.%N").split()
    )
    assert ended - began < 10
    assert host.worker() == 0  # else it would hold the target, and the next one would have to wait for it
    vm.run("systemctl stop lab-drop-10809; systemctl start p2vd")
    host.wait_job(host.wait_back(job), "the hold", lambda now: "source-absent" in now["Holds"])
    serve(vm, "/var/tmp/erp1.raw")
    done = host.wait_registered(job, 600)
    assert done["ResumedFrom"] > 0
    require_same(vm, "/var/tmp/erp1.raw", done["Target"], DISK_BYTES)
    assert "10810" in vm.run("p2vctl sources", check=False).stdout


# A disk made to boot by UEFI, whose swap holds the memory of a machine that sleeps (mm/swap: "S1SUSPEND").
SLEEPS = """
set -e
truncate -s 24M $1 && sgdisk -n1:1M:+4M -t1:ef00 -n2:0:0 -t2:8200 $1 > /dev/null
truncate -s 8M $1.swap && mkswap -q $1.swap
dd if=$1.swap of=$1 bs=1M seek=5 conv=notrunc status=none
printf 'S1SUSPEND\\0' | dd of=$1 bs=1 seek=$((5 * 1048576 + 4086)) conv=notrunc status=none
"""


def test_a_machine_that_sleeps_behind_a_server_is_refused_until_it_was_shut_down(vm: Vm) -> None:
    """What is on an export is looked at for each plan, though its first and last MiB stay as they were."""
    disk = "/var/tmp/erp1.raw"
    vm.run(f"sh -s {disk}", stdin=SLEEPS)
    serve(vm, disk)
    vm.write("/etc/p2vd/policy.d/50-lab.toml", f'[[nbd]]\nuri = "{EXPORT}"\n{THIN}')
    vm.run("systemctl start p2vd")
    host = Host(vm)
    host.source(EXPORT)
    with pytest.raises(GuestError, match=r"is hibernated .swsuspend on partition 2"):
        host.plan_page(EXPORT, "erp1")
    # Not by another file: the server has this one open.
    vm.run(f"dd if={disk}.swap of={disk} bs=1M seek=5 conv=notrunc status=none")
    page = host.plan_page(EXPORT, "erp1")
    assert page["Firmware"] == "uefi"
    found = host.source(EXPORT)["Contents"]
    assert [part["Holds"] for part in found["Partitions"]] == ["", "swap"]


def test_a_zst_and_a_qcow2_become_volumes(vm: Vm) -> None:
    """The daemon is restarted in the middle: both go on."""
    vm.run("mkdir -p /srv/images")
    raw_disk(vm, "/var/tmp/erp1.raw", 7)
    raw_disk(vm, "/var/tmp/erp2.raw", 8)
    vm.run(
        "p2vd-copy /var/tmp/erp1.raw /srv/images/erp1.raw.zst --target-format raw.zst"
        " --checkpoint /var/tmp/erp1.checkpoint"
        " && qemu-img convert -f raw -O qcow2 -c /var/tmp/erp2.raw /srv/images/erp2.qcow2"
        " && qemu-img create -q -f qcow2 -b /srv/images/erp2.qcow2 -F qcow2 /srv/images/on-top.qcow2"
        " && chmod 0644 /srv/images/*"
    )
    vm.write("/etc/p2vd/p2vd.toml", 'image_directories = ["/srv/images"]\n')
    vm.write("/etc/p2vd/policy.d/50-lab.toml", THIN)
    vm.run("systemctl start p2vd")
    host = Host(vm)
    paths = {"erp1": "/srv/images/erp1.raw.zst", "erp2": "/srv/images/erp2.qcow2"}
    seen = {name: usable(host, path) for name, path in paths.items()}
    assert {name: each["Format"] for name, each in seen.items()} == {"erp1": "zst", "erp2": "qcow2"}
    assert seen["erp1"]["Size"] == DISK_BYTES
    host.wait_source(
        "/srv/images/on-top.qcow2", "refused", lambda now: "backing file" in " ".join(now["Reasons"])
    )
    jobs = {name: host.migrate(path, name) for name, path in paths.items()}
    for job in jobs.values():
        host.wait_copied(job, MIB)
    # A minute and a half at their limit: both still copy.
    assert {host.at(job["path"])["Stage"] for job in jobs.values()} == {"copying"}
    vm.run("systemctl restart p2vd")
    for name, job in jobs.items():
        host.full_speed(host.wait_back(job))
        done = host.wait_registered(job)
        assert done["ResumedFrom"] > 0
        require_same(vm, f"/var/tmp/{name}.raw", done["Target"], DISK_BYTES)


# Runs in the guest: 64 places of a sparse disk of 100 GiB hold 16 MiB each, and no two MiB are alike.
_PLACES = """
import os, random, struct, sys
path, other = sys.argv[1], sys.argv[2]
noise, mib = random.Random(9).randbytes(1 << 20), 1 << 20
disk = os.open(path, os.O_RDWR | os.O_CREAT if not other else os.O_RDONLY)
if not other:
    os.truncate(disk, 100 << 30)
copy = os.open(other, os.O_RDONLY) if other else -1
for place in range(64):
    for part in range(16):
        offset = place * (100 << 30) // 64 + part * mib
        data = struct.pack("<Q", offset) + noise[8:]
        if not other:
            os.pwrite(disk, data, offset)
        elif not data == os.pread(disk, mib, offset) == os.pread(copy, mib, offset):
            sys.exit(f"they differ in the MiB at {offset}")
os.fsync(disk)
"""
GUEST_DISK = "/srv/images/erp1.raw"


@pytest.mark.campaign
def test_a_disk_of_100_gib_takes_as_much_of_its_pool_as_it_has_data(vm: Vm) -> None:
    """And no more: its places begin at multiples of the pool's chunks. What is not mapped reads as zero."""
    host = Host(vm)
    host.san.add("pv3", "3G")
    device = host.san["pv3"].device
    vm.run(f"vgcreate -q -y vg_big {device} && lvcreate -q -y --type thin-pool -Zy -L 2G -n pool0 vg_big")
    vm.run(f"mkdir -p /srv/images && python3 - {GUEST_DISK} ''", stdin=_PLACES, timeout_s=600)
    vm.write("/etc/p2vd/p2vd.toml", 'image_directories = ["/srv/images"]\n')
    rule = THIN.replace("vg_san", "vg_big").replace('"both"', '"read-back"').replace("1 MiB", "10 GiB")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", f"{rule}pool.over_commit = 60.0\n")
    vm.run("systemctl start p2vd")
    usable(host, GUEST_DISK)
    done = host.wait_registered(host.migrate(GUEST_DISK, "erp1"), 3600)
    assert done["Bytes"] == 100 * GIB
    size, percent = vm.out(
        "lvs --noheadings --units b --nosuffix -o lv_size,data_percent vg_big/pool0"
    ).split()
    assert round(int(size) * float(percent) / 100 / MIB) == 1024
    vm.run(f"python3 - {GUEST_DISK} {done['Target']}", stdin=_PLACES, timeout_s=1200)
