"""Thin pools that run short, and machines that start by themselves, in the lab."""

import json

import pytest

from integration.content import fill_lun, require_same
from integration.host import JOB, Host
from integration.lab.vm import GuestError, Vm
from p2vd.model.size import MIB

pytestmark = pytest.mark.lab

RATE = "4 MiB"
SMALL = 'target.thin_pool = "small"\npool.over_commit = 20\n'


def pool_size(vm: Vm) -> int:
    return int(vm.out("lvs --noheadings --units b --nosuffix -o lv_size vg_san/small"))


def data_percent(vm: Vm) -> float:
    return float(vm.out("lvs --noheadings -o data_percent vg_san/small"))


def test_three_copies_share_a_pool_that_is_too_small_until_it_is_extended(vm: Vm) -> None:
    host = Host(vm)
    vm.run("lvcreate -q -y --type thin-pool -Zy -L 48M -n small vg_san")
    host.policy(bandwidth=RATE, more=SMALL)
    luns = {name: host.san.add(name, "32M") for name in ("d1", "d2", "d3")}
    for number, name in enumerate(luns):
        fill_lun(host.san, name, 60 + number)
    vm.run("systemctl start p2vd")
    jobs = [host.migrate(lun.wwid, name) for name, lun in luns.items()]

    def held() -> bool:
        seen = [host.at(job["path"]) for job in jobs]
        return any(
            "pool" in now["Holds"] and "lvextend -L +SIZE vg_san/small" in now["Stalled"] for now in seen
        )

    host.wait(held, "a copy that is held for the pool, and says what helps")
    assert data_percent(vm) <= 96
    vm.run("lvextend -q -y -L +128M vg_san/small")
    for job, lun in zip(jobs, luns.values(), strict=True):
        done = host.wait_stage(job, "proven")
        require_same(vm, lun.backing, done["Target"], lun.size_bytes)


def test_who_else_writes_to_a_pool_is_seen_before_it_is_full_and_the_policy_extends_it(vm: Vm) -> None:
    """Another writer first holds the copy; a policy that extends lets the next copy through by itself."""
    host = Host(vm)
    vm.run(
        "lvcreate -q -y --type thin-pool -Zy -L 64M -n small vg_san; "
        "lvcreate -q -y -Wy --type thin -V 64M --thinpool small -n other vg_san"
    )
    # So slow that it takes little of the pool while the other one fills it, however long that takes.
    host.policy(bandwidth="256 KiB", more=SMALL)
    lun, next_lun = host.san.add("d1", "32M"), host.san.add("d2", "32M")
    fill_lun(host.san, "d1", 70)
    fill_lun(host.san, "d2", 71)
    vm.run("systemctl start p2vd")
    job = host.migrate(lun.wwid, "victim")
    host.wait_copied(job, MIB)
    vm.run("dd if=/dev/urandom of=/dev/vg_san/other bs=1M count=52 oflag=direct")
    host.wait_held(job, "pool", "lvextend")
    assert data_percent(vm) <= 96

    def taken() -> bool:
        (group,) = (one for one in json.loads(vm.out("p2vctl vgs --json")) if one["Name"] == "vg_san")
        (pool,) = (one for one in group["ThinPools"] if one["Name"] == "small")
        return int(pool["TakenByOthers"]) >= 32 * MIB

    host.wait(taken, "what the other one took")
    vm.run("lvextend -q -y -L +16M vg_san/small")
    host.full_speed(job)
    done = host.wait_stage(job, "proven")
    require_same(vm, lun.backing, done["Target"], lun.size_bytes)
    # From here the policy extends the pool: half of each disk is zeros, so of 80 MiB 68 are taken, and 16
    # more are to come.
    before = pool_size(vm)
    extend = f'pool.extend = {{ step = "16 MiB", max = "{(before >> 20) + 64} MiB" }}\n'
    host.policy(more=SMALL + extend)
    vm.run("p2vctl reload")
    second = host.wait_stage(host.migrate(next_lun.wwid, "through"), "proven")
    require_same(vm, next_lun.backing, second["Target"], next_lun.size_bytes)
    assert before < pool_size(vm) <= before + 64 * MIB
    assert "the thin pool vg_san/small: extended" in vm.out("p2vctl audit")


def test_a_sample_of_all_blocks_tells_to_the_chunk_what_a_copy_takes(vm: Vm) -> None:
    """Of a disk with fewer chunks than a sample has blocks all is read: then there is no range."""
    host = Host(vm)
    vm.run("lvcreate -q -y --type thin-pool -Zy -c 64K -L 64M -n small vg_san")
    host.policy(more=SMALL)
    lun = host.san.add("d1", "32M")
    digest = fill_lun(host.san, "d1", 90)
    vm.run("systemctl start p2vd")
    host.source(lun.wwid)
    page = json.loads(vm.out(f"p2vctl plan {lun.wwid} --source-offline --name sampled --sample --json"))
    assert page["SampledBlocks"] == 32 * MIB // (64 << 10)
    expected = page["ExpectedBytes"]
    assert page["ExpectedLeastBytes"] == expected == page["ExpectedMostBytes"]
    assert MIB < expected < 32 * MIB
    (fill,) = page["PoolFills"]
    assert (fill["Used"], fill["OtherJobs"], fill["WorstCaseUsed"]) == (0, 0, 32 * MIB)
    assert fill["WorstCasePercent"] == 50
    job = host.migrate(lun.wwid, "sampled")
    host.wait_stage(job, "proven")
    # LVM tells hundredths of a percent.
    assert data_percent(vm) == pytest.approx(fill["ExpectedPercent"], abs=0.02)
    assert host.san.digest("d1") == digest


def test_metadata_near_full_is_refused_by_name_and_auto_picks_up_a_lun_that_is_mapped(vm: Vm) -> None:
    host = Host(vm)
    vm.run("echo 'auto_settle_s = 5' > /etc/p2vd/p2vd.toml")
    # Some blocks of 2 MiB of metadata are used from the beginning: more than the tenth that this leaves.
    vm.run("lvcreate -q -y --type thin-pool -Zy --poolmetadatasize 2M -L 64M -n small vg_san")
    host.policy(more=SMALL + "pool.reserve_percent = 90\n")
    lun = host.san["boot1"]
    vm.run("systemctl start p2vd")
    host.source(lun.wwid)
    with pytest.raises(GuestError, match="metadata of the thin pool vg_san/small"):
        host.plan(lun.wwid, "refused")
    vm.run("lvremove -q -y vg_san/small")
    host.policy()
    auto = "auto = true\nsource.offline = true\n"
    text = vm.out("cat /etc/p2vd/policy.d/50-lab.toml")
    vm.write("/etc/p2vd/policy.d/50-lab.toml", text.replace("[[rule]]\n", f"[[rule]]\n{auto}", 1))
    vm.run("p2vctl reload")
    late = host.san.add("late", "32M")
    fill_lun(host.san, "late", 80)
    record = f'name = "late1"\n[[disks]]\nname = "sda"\nsize_bytes = "32 MiB"\nwwid = "{late.wwid}"\n'
    vm.write("/root/late1.toml", record)
    vm.run("p2vctl machine import /root/late1.toml")
    job = host.wait(
        lambda: next((one for one in host.of(JOB) if one["SourceId"] == late.wwid), None), "a job by itself"
    )
    host.wait_stage(job, "proven")
    vm.run("systemctl restart p2vd")
    host.wait_source(late.wwid, "said of it", lambda now: "not started by itself again" in str(now["Auto"]))
    assert len(host.of(JOB)) == 1
