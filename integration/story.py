"""Runs the main job in the lab and tells each thing that happens, in plain words."""

import os
import random
import sys
import time

from integration.content import fill_lun, require_same
from integration.host import Host, Properties
from integration.lab import layers
from integration.lab.vm import Vm
from p2vd.model.size import format_size

POLICY = """\
# /etc/p2vd/policy.d/10-erp.toml
[[rule]]
name = "erp-array"
match.transport = ["iscsi"]
match.vendor = ["LIO-ORG"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
copy.bandwidth = "1536 KiB"       # slow, so that there is time to kill the worker
domain.memory = "64 MiB"
domain.type = "qemu"
"""


def tell(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def shown(vm: Vm, command: str) -> str:
    """Run a command in the guest, show it as an administrator would see it, and return what it said."""
    print(f"# {command}", flush=True)
    said = vm.out(command)
    print(said, flush=True)
    return said


def main() -> int:
    """Tell the story; returns 0 when it ended well."""
    started = time.monotonic()
    tell("The lab: a virtual machine with a SAN (built the first time, restored afterwards)")
    vm = layers.up(f"quickstart-{os.getpid()}", "p2vd")
    try:
        story(vm)
    finally:
        vm.down()
    print(f"\nThe main job ran in {time.monotonic() - started:.0f} s, lab included.")
    return 0


def story(vm: Vm) -> None:
    """The main job, killed half-way, in a machine of layer `p2vd`."""
    host = Host(vm)
    lun = host.san["boot1"]
    tell(
        "The SAN: two iSCSI portals; a LUN that a physical machine boots from; a volume group on another LUN"
    )
    shown(vm, f"multipath -ll {lun.wwid}")
    shown(vm, "vgs -o vg_name,vg_size,vg_free; lvs -o lv_name,lv_size,pool_lv,data_percent vg_san")
    digest = fill_lun(host.san, "boot1", random.randrange(1 << 30))

    tell("The policy: where disks of this array go")
    vm.write("/etc/p2vd/policy.d/10-erp.toml", POLICY)
    print(POLICY)
    vm.run("systemctl start p2vd")

    tell("The source: its WWID, its paths, and the policy that matches")
    host.source(lun.wwid)
    shown(vm, f"p2vctl show {lun.wwid}")

    tell("The plan: what would be done, and its id")
    page = shown(vm, f"p2vctl plan {lun.wwid} --source-offline --name erp1")
    plan_id = page.split()[1]

    tell("The migration, and the worker killed half-way")
    shown(vm, f"p2vctl migrate {plan_id}")
    job = killed_half_way(host, lun.size_bytes)

    tell("Proven: every byte was read back and compared")
    done = host.wait_registered(job)
    shown(vm, f"p2vctl show {done['Uuid']}")
    require_same(vm, lun.backing, done["Target"], lun.size_bytes)
    unchanged = "bit-identical before and after" if host.san.digest("boot1") == digest else "CHANGED"
    print(
        f"Checked here once more, past p2vd: the LV is the source, byte for byte; the source is {unchanged}."
    )
    if unchanged == "CHANGED":
        sys.exit(1)

    tell("The virtual machine, registered in libvirt with the LV as its disk")
    shown(vm, "virsh dominfo erp1")
    shown(vm, "virsh domblklist erp1")


def killed_half_way(host: Host, size_bytes: int) -> Properties:
    """Kill -9 the worker at half the disk, and tell where the job goes on."""
    # Asked for early: by the time that the answer is here and the worker dead, half is copied.
    job = host.wait_copied(host.job(), size_bytes // 4)
    worker = host.worker()
    host.vm.run(f"kill -9 {worker}")
    print(
        f"kill -9 {worker} with {format_size(job['BytesCopied'] + job['BytesZero'])} of "
        f"{format_size(size_bytes)} copied, {format_size(job['BytesCommitted'])} of it in the checkpoint."
    )
    resumed = host.wait_job(job, "the copy resumed", lambda now: now["ResumedFrom"] > 0)
    print(f"A new worker went on by itself from {format_size(resumed['ResumedFrom'])}.")
    host.full_speed(resumed)
    print("The job's limit is taken away (SetBandwidth): there is nothing left to be killed.", flush=True)
    return resumed


if __name__ == "__main__":
    sys.exit(main())
