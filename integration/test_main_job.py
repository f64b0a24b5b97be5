"""The main job on real storage: disks become LVs, proven and registered, whatever is killed meanwhile."""

import json
import random
import time
from pathlib import Path

import pytest

from integration.content import fill, fill_lun, require_same
from integration.host import ENDED, JOB, Host, Properties
from integration.lab.shell import GuestError
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

MIB = 1 << 20

RULE = """
[[rule]]
name = "{name}"
match.{key} = ["{value}"]
target.volume_groups = ["{vg}"]
target.provisioning = "{provisioning}"
target.single_host = true
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""

LOCAL512, LOCAL4K = "virtio-LAB-DISK512", "virtio-LAB-DISK4K"


def test_thin_and_thick_both_sector_sizes_lun_and_local_disk(vm: Vm) -> None:
    """Four disks at once: each identical to its source, zero beyond, the sources as they were."""
    host = Host(vm)
    luns, locals_ = ("boot1", "boot2"), {LOCAL512: 512, LOCAL4K: 4096}
    before = {name: fill_lun(host.san, name, seed) for seed, name in enumerate(luns, 1)}
    for seed, (source, sector) in enumerate(locals_.items(), 10):
        fill(vm, f"/dev/disk/by-id/{source}", seed, sector)
        before[source] = vm.out(f"sha256sum < /dev/disk/by-id/{source}")
    vm.write(
        "/etc/p2vd/policy.d/50-lab.toml",
        "".join(
            RULE.format(name=name, key=key, value=value, vg=vg, provisioning=provisioning)
            for name, key, value, vg, provisioning in (
                ("a", "wwid", host.san["boot1"].wwid, "vg_san", "thin"),
                ("b", "wwid", host.san["boot2"].wwid, "vg_san4k", "thick"),
                ("c", "serial", "LAB-DISK512", "vg_san", "thick"),
                ("d", "serial", "LAB-DISK4K", "vg_san4k", "thin"),
            )
        ),
    )
    vm.run("systemctl start p2vd")
    sources = {host.san[name].wwid: host.san[name].backing for name in luns}
    sources |= {source: f"/dev/disk/by-id/{source}" for source in locals_}
    jobs = {source: host.migrate(source, f"m{number}") for number, source in enumerate(sources)}
    for source, job in jobs.items():
        done = host.wait_registered(job, 600)
        require_same(vm, sources[source], done["Target"], done["Bytes"])
        assert done["BytesCopied"] + done["BytesZero"] == done["Bytes"]
        # Disks this small lie within the sample of 1,024 MiB.
        assert done["SourceStable"] == "proven"
    for name in luns:
        assert host.san.digest(name) == before[name]
    for source in locals_:
        assert vm.out(f"sha256sum < /dev/disk/by-id/{source}") == before[source]
    assert len(vm.out("virsh -q list --all --name").split()) == len(jobs)
    assert "p2vd.incomplete" not in vm.out("lvs --noheadings -o lv_tags")
    xml = vm.out("virsh dumpxml m1")
    assert "logical_block_size='4096'" in xml
    assert "<source dev='/dev/vg_san4k/m1'" in xml
    # QEMU opens the volume through the definition.
    vm.run("virsh start m0 && virsh domstate m0 | grep -q running && virsh destroy m0")


# ---- killed at any moment ----------------------------------------------------------------------

BANDWIDTH = 2 * MIB
RATE = "2 MiB"
# Two minutes a copy, and as long again to read the source once more: what is to be done meanwhile, is.
SLOW = "256 KiB"
VICTIMS = ("worker", "daemon", "both")


def start_slow_copy(
    vm: Vm, *, provisioning: str = "thin", seed: int = 5, rate: str = RATE
) -> tuple[Host, Properties, str]:
    host = Host.ready(vm, provisioning=provisioning, bandwidth=rate)
    digest = fill_lun(host.san, "boot1", seed)
    job = host.migrate(host.san["boot1"].wwid, "victim")
    return host, job, digest


def require_good_end(host: Host, job: Properties, digest: str) -> None:
    done = host.wait_registered(job, 600)
    require_same(host.vm, host.san["boot1"].backing, done["Target"], done["Bytes"])
    assert host.san.digest("boot1") == digest
    assert host.vm.out("virsh -q list --all --name").split() == ["victim"]


def kills(request: pytest.FixtureRequest, sample: int) -> int:
    return 20 if request.config.getoption("--full") else sample


@pytest.mark.campaign
@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_at_random_moments(
    vm: Vm, victim: str, request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    """kill -9: the job goes on by itself, and copies again at most two commit intervals and a flush."""
    choose = random.Random(f"{campaign_seed}-{victim}")
    left = kills(request, 3)
    host, job, digest = start_slow_copy(vm, provisioning=choose.choice(["thin", "thick"]))
    committed, fruitless = 0, 0
    while left:
        # Three workers in a row that committed nothing fail the job, as they should: after one of these
        # (p2vd may count one more, whose last words it did not hear) the next is left alone for a while.
        wait_for_worker(host, job, committed + 1 if fruitless else 0)
        time.sleep(choose.uniform(0, 8))
        before = host.at(job["path"])
        uncommitted_s = float(vm.out("date +%s.%N")) - before["LastCheckpoint"] / 1e6
        if before["Stage"] == "proven":
            require_good_end(host, job, digest)
            host.forget("victim", job)
            job = host.migrate(host.san["boot1"].wwid, "victim")
            committed, fruitless = 0, 0
            continue
        old = host.worker()
        kill_now(host, victim)
        left -= 1
        wait_for_new_worker(host, job, old)
        latest = host.at(job["path"])["BytesCommitted"]
        fruitless = fruitless + 1 if latest <= committed else 0
        committed = latest
        if before["Stage"] == "copying" and before["BytesCommitted"] > before["ResumedFrom"]:
            require_little_lost(host, job, before, uncommitted_s)
    require_good_end(host, job, digest)


def wait_for_worker(host: Host, job: Properties, committed: int) -> None:
    host.wait_job(
        job,
        "a worker that makes progress",
        lambda now: (
            now["Stage"] == "proven" or (now["Activity"] == "running" and now["BytesCommitted"] >= committed)
        ),
    )


def wait_for_copying(host: Host, job: Properties) -> None:
    host.wait_job(
        job,
        "a worker that copies",
        lambda now: (
            now["Stage"] in ("verifying", "proven")
            or now["BytesCopied"] + now["BytesZero"] > now["ResumedFrom"]
        ),
    )


def wait_for_new_worker(host: Host, job: Properties, old: int) -> None:
    host.wait(
        lambda: host.worker() not in (0, old) or host.at(job["path"])["Stage"] == "proven", "a new worker"
    )


def require_little_lost(host: Host, job: Properties, before: Properties, uncommitted_s: float) -> None:
    """What was told as committed is kept; copied again is what came after that commit began.

    `uncommitted_s`: how old the last checkpoint was. A flush takes seconds on the emulated machine.
    """
    after = host.wait_job(
        job,
        "the copy resumed",
        lambda now: now["ResumedFrom"] >= before["BytesCommitted"] or now["Stage"] != "copying",
    )
    if after["Stage"] == "copying":
        again = before["BytesCopied"] + before["BytesZero"] - after["ResumedFrom"]
        assert again <= (uncommitted_s + 4) * BANDWIDTH, f"{again} bytes are copied again"


def kill_now(host: Host, victim: str) -> None:
    pids = []
    if victim in ("worker", "both"):
        pids.append(host.worker())
    if victim in ("daemon", "both"):
        pids.append(host.daemon())
    host.vm.run("kill -9 " + " ".join(str(pid) for pid in pids if pid), check=False)


@pytest.mark.campaign
@pytest.mark.parametrize("provisioning", ["thick", "thin"])
def test_power_cut_at_random_moments(
    power_vm: Vm, provisioning: str, request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    """The power of the whole VM, array included, is cut: what was not flushed is lost, and nothing else."""
    if not request.config.getoption("--full") and provisioning == "thin":
        pytest.skip("the sample of this run has a thick LV: dm-thin flushes its data device by itself")
    choose = random.Random(f"{campaign_seed}-power")
    host, job, digest = start_slow_copy(power_vm, provisioning=provisioning)
    power_vm.run("systemctl enable p2vd libvirtd; sync")
    for _ in range(kills(request, 1)):
        # Before the worker has begun too, but mostly while it copies.
        if choose.random() < 0.75:
            wait_for_copying(host, job)
        if cut(host, job, choose.uniform(0, 10))["Stage"] == "proven":
            require_good_end(host, job, digest)
            host.forget("victim", job)
            job = host.migrate(host.san["boot1"].wwid, "victim")
    require_good_end(host, job, digest)


def cut(host: Host, job: Properties, after_s: float) -> Properties:
    """Cut the power so many seconds from now; return the job as it is once p2vd is back."""
    time.sleep(after_s)
    host.vm.kill()
    host.vm.boot_again()
    return host.wait_back(job)


# Commits first and flushes afterwards, on an array that takes its time.
SWAPPED = """
import sys
from p2vd.copying import ledger
text = open(ledger.__file__).read()
right = "        flush()\\n        with guard:"
assert text.count(right) == 1
text = text.replace(right, "        with guard:")
committed = "                ledger.commit(batch)\\n"
assert text.count(committed) == 1
wrong = committed + "        __import__('time').sleep(30)\\n        flush()\\n"
open(ledger.__file__, "w").write(text.replace(committed, wrong))
"""


@pytest.mark.campaign
def test_the_power_cut_test_finds_flush_and_commit_swapped(power_vm: Vm) -> None:
    """A test that cannot fail proves nothing: with the order swapped, lost bytes are found.

    On a thick LV: dm-thin flushes the pool's data device each second in which it allocated, before it
    commits its own metadata (drivers/md/dm-thin.c, metadata_pre_commit_callback), and so hides the swap.
    """
    power_vm.run("python3 -", stdin=SWAPPED)
    host, job, _ = start_slow_copy(power_vm, provisioning="thick", rate="512 KiB")
    power_vm.run("systemctl enable p2vd libvirtd; sync")
    # Each commit is half a minute before its flush: when the power is cut, the second is not flushed. The
    # first is, and with it what LVM wrote when it made the volume.
    first = host.wait_copied(job, MIB)
    host.wait_copied(job, first["BytesCommitted"] + MIB)
    for _ in range(8):
        cut(host, job, 3)
        now = host.wait(
            lambda: (
                (
                    (seen := host.at(job["path"]))["Stage"] in ENDED
                    or seen["BytesCopied"] > seen["ResumedFrom"]
                )
                and seen
            ),
            "the end of the proof at resume",
        )
        if now["Stage"] in ENDED:
            break
    assert now["Stage"] == "failed"
    assert now["Error"][0] == "TargetMismatch"


# ---- stuck, stopped ----------------------------------------------------------------------------


def test_a_worker_stuck_in_the_kernel_holds_the_job_and_never_two_write(vm: Vm) -> None:
    host, job, digest = start_slow_copy(vm, rate=SLOW)
    host.wait_copied(job, MIB)
    map_name = Path(host.san["boot1"].device).name
    vm.run(f"dmsetup suspend --noflush {map_name}")
    worker = host.worker()
    host.wait_job(job, "the stall reported", lambda now: now["Activity"] == "stalled")
    vm.run("systemctl restart p2vd")
    held = host.wait_held(job, "old-worker", str(worker))
    assert held["Holds"] == ["old-worker"]
    assert host.worker() == worker
    vm.run(f"dmsetup resume {map_name}")
    host.full_speed(job)
    require_good_end(host, job, digest)
    assert host.at(job["path"])["Holds"] == []


def test_a_lost_path_a_stop_and_a_pause_that_outlives_a_restart(vm: Vm) -> None:
    """One copy's long day: each time it goes on from its checkpoint, by itself or when told."""
    host, job, digest = start_slow_copy(vm, rate=SLOW)
    path = host.san.paths("boot1")[0]
    host.wait_copied(job, MIB)
    assert read_only(host) == {"1"}
    host.san.path_state(path, "offline")
    committed = host.wait_copied(job, host.at(job["path"])["BytesCommitted"] + MIB)["BytesCommitted"]
    host.san.path_state(path, "running")
    stopped(host)
    vm.run("systemctl start p2vd")
    resumed = host.wait_job(job, "the copy resumed", lambda now: now["ResumedFrom"] > 0)
    assert resumed["ResumedFrom"] >= committed
    host.verb(job, "Pause")
    host.wait_job(job, "the pause", lambda now: now["Holds"] == ["user"] and now["Activity"] == "idle")
    stopped(host)
    vm.run("systemctl start p2vd")
    assert host.wait_back(job)["Holds"] == ["user"]
    assert host.worker() == 0
    host.verb(job, "Resume")
    host.full_speed(job)
    require_good_end(host, job, digest)
    assert read_only(host) == {"0"}


def read_only(host: Host) -> set[str]:
    """Return what the kernel says of the source's map and of each of its paths."""
    paths = " ".join(f"/dev/{path}" for path in host.san.paths("boot1"))
    return set(host.vm.out(f"blockdev --getro {host.san['boot1'].device} {paths}").split())


def stopped(host: Host) -> None:
    """Stop p2vd; its worker has ended, too. After its unit's ten seconds systemd kills it, and says so."""
    assert host.vm.out("systemctl show -P TimeoutStopUSec p2vd") == "10s"
    host.vm.run("systemctl stop p2vd")
    assert host.vm.out("systemctl show -P Result p2vd") == "success"
    assert host.worker() == 0


# ---- the source and the pool change under the copy ------------------------------------------------


def test_what_a_second_initiator_writes_is_found_when_both_are_verified(vm: Vm) -> None:
    host = Host.ready(vm, verify="both", bandwidth=SLOW)
    fill_lun(host.san, "boot1", 6)
    host.source(host.san["boot1"].wwid)
    with pytest.raises(GuestError, match="source-offline"):
        host.plan(host.san["boot1"].wwid, offline=False)
    job = host.migrate(host.san["boot1"].wwid, "changing")
    host.wait_copied(job, MIB)
    # All of it: what is not copied yet is copied as it is now, and nothing tells which blocks are.
    host.vm.run(f"dd if=/dev/urandom of={host.san['boot1'].backing} bs=1M count=32 conv=notrunc status=none")
    host.full_speed(job)
    failed = host.wait(
        lambda: (now := host.at(job["path"]))["Stage"] in ("failed", "proven") and now, "the end of the job"
    )
    assert failed["Stage"] == "failed"
    assert failed["Error"][0] == "SourceChanged"
    assert vm.out("virsh -q list --all --name") == ""


def test_a_pool_that_runs_full_holds_the_job_until_it_is_extended(vm: Vm) -> None:
    host = Host(vm)
    vm.run("lvcreate -q -y --type thin-pool -Zy -L 16M -n small vg_san")
    host.policy(more='target.thin_pool = "small"\npool.over_commit = 4\n')
    vm.run("systemctl start p2vd")
    digest = fill_lun(host.san, "boot1", 7)
    job = host.migrate(host.san["boot1"].wwid, "victim")
    host.wait_held(job, "pool", "lvextend")
    assert float(vm.out("lvs --noheadings -o data_percent vg_san/small")) <= 96
    vm.run("lvextend -q -y -L +128M vg_san/small")
    require_good_end(host, job, digest)


# ---- installed as an administrator would -------------------------------------------------------------


def test_installed_introspected_refused_by_polkit_and_uninstalled(vm: Vm) -> None:
    host = Host.ready(vm)
    fill_lun(host.san, "boot1", 8)
    assert "org.p2vd1.Manager" in vm.out("busctl introspect org.p2vd1 /org/p2vd1")
    wwid = host.san["boot1"].wwid
    host.source(wwid)
    plan_id = host.plan(wwid, "byhand")
    as_operator = "setpriv --reuid operator --regid operator --clear-groups"
    refused = vm.run(f"{as_operator} p2vctl migrate {plan_id}", check=False)
    assert refused.returncode == 4
    assert "org.p2vd1.migrate" in refused.stderr
    assert host.of(JOB) == []
    listed = json.loads(vm.out("p2vctl sources --json"))
    assert wwid in json.dumps(listed)
    assert plan_id in vm.out(f"p2vctl plan {wwid} --source-offline --name byhand --json")
    vm.run(f"p2vctl migrate {plan_id} --wait")
    (job,) = host.of(JOB)
    assert job["Stage"] == "proven"
    assert "byhand" in vm.out("virsh -q list --all --name")
    vm.run("systemctl stop p2vd; cd /usr/src/p2vd && python3 setup.py -q uninstall_host")
    for gone in (
        "/usr/bin/p2vctl",
        "/usr/lib/systemd/system/p2vd.service",
        "/usr/share/dbus-1/system.d/org.p2vd1.conf",
    ):
        assert vm.run(["test", "-e", gone], check=False).returncode == 1
    assert vm.run(["test", "-d", "/var/lib/p2vd"], check=False).returncode == 0
