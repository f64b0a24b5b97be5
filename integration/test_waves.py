"""A wave of three machines on real LUNs, one of which is refused, and the report afterwards."""

import json

import pytest

from integration.content import fill_lun, require_same
from integration.host import JOB, MACHINE, Host
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

RULE = """
[[rule]]
name = "wave"
match.wwid = ["{first}", "{second}"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
domain.memory = "64 MiB"
domain.vcpus = 1
domain.type = "qemu"
"""


def test_a_wave_of_three_of_which_one_is_refused(vm: Vm) -> None:
    """Two machines end registered and identical, the third is told and made nothing of."""
    host = Host(vm)
    first, second = host.san["boot1"], host.san.add("disk2", "32M")
    for seed, name in enumerate(("boot1", "disk2"), 1):
        fill_lun(host.san, name, seed)
    vm.write("/etc/p2vd/policy.d/50-lab.toml", RULE.format(first=first.wwid, second=second.wwid))
    vm.write(
        "/root/wave.csv",
        "machine,sources,name,source_offline,priority\n"
        f",{first.wwid},w1,yes,\n"
        f",{second.wwid},w2,yes,5\n"
        ",virtio-LAB-DISK512,w3,yes,\n",
    )
    vm.run("systemctl start p2vd")
    for lun in (first, second):
        host.source(lun.wwid)
    planned = vm.run(["p2vctl", "plan", "--wave", "/root/wave.csv", "--json"], check=False)
    assert planned.returncode == 6, planned.stderr
    page = json.loads(planned.stdout)
    assert [(one["Name"], one["Fate"]) for one in page["Machines"]] == [
        ("w2", "ready"),
        ("w1", "ready"),
        ("w3", "refused"),
    ]
    assert "No policy matches" in page["Machines"][2]["Reasons"][0]
    assert host.of(JOB) == []
    begun = vm.run(["p2vctl", "waves", "start", page["Id"], "--json"], check=False)
    assert begun.returncode == 6, begun.stderr

    def registered() -> bool:
        states = {machine["Name"]: machine["State"] for machine in host.of(MACHINE)}
        return states == {"w1": "registered", "w2": "registered"}

    host.wait(registered, "both machines registered", 600)
    sources = {first.wwid: first.backing, second.wwid: second.backing}
    for job in host.of(JOB):
        require_same(vm, sources[job["SourceId"]], job["Target"], job["Bytes"])
    report = json.loads(vm.out("p2vctl report --since 1h --json"))
    assert {(job["Machine"], job["Outcome"]) for job in report["Jobs"]} == {("w1", "done"), ("w2", "done")}

    def done() -> bool:
        (wave,) = json.loads(vm.out("p2vctl waves --json"))
        return str(wave["State"]) == "done"

    host.wait(done, "the wave done, too")
