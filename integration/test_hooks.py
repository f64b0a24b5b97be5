"""Hooks within the sandbox of p2vd.service: held, killed with the daemon, run again, and told of."""

import json

import pytest

from integration.content import fill_lun, require_same
from integration.host import Host
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

HOOKS = "/etc/p2vd/hooks.d"
TOLD = "/var/lib/p2vd/told"  # of what a hook can write within the sandbox


def put(vm: Vm, step: str, text: str) -> None:
    vm.run(f"mkdir -p -m 0755 {HOOKS}/{step}")
    vm.write(f"{HOOKS}/{step}/10-lab", f"#!/bin/sh\n{text}\n", mode="755")


def test_hooks_hold_a_migration_run_again_after_a_kill_and_are_told_of_each_step(vm: Vm) -> None:
    """The same disk passes all four steps; nothing of it is written before its hook has ended well."""
    put(vm, "before-copy", "echo the array is busy >&2; exit 5")
    for step in ("after-proven", "before-register", "after-register"):
        put(vm, step, f"cat >> {TOLD}")
    # Longer than the hook that is killed is waited for.
    vm.write("/etc/p2vd/p2vd.toml", "hook_timeout_s = 1800\n")
    host = Host.ready(vm)
    digest = fill_lun(host.san, "boot1", 41)
    job = host.migrate(host.san["boot1"].wwid, "hooked")
    held = host.wait_job(job, "the hold hook", lambda now: now["Holds"] == ["hook"] and now["Stalled"])
    assert f"{HOOKS}/before-copy/10-lab failed with exit status 5: the array is busy" in held["Stalled"]
    assert "hooked" not in vm.out("lvs --noheadings -o lv_name vg_san")

    vm.run(f"chown nobody {HOOKS}/before-copy/10-lab")
    host.verb(job, "Retry")
    host.wait_job(job, "the refusal", lambda now: "belongs to uid" in now["Stalled"])

    # The second time it is the daemon that dies in the middle of it.
    vm.run(f"chown root {HOOKS}/before-copy/10-lab")
    put(vm, "before-copy", f"cat >> {TOLD}; [ $(wc -l < {TOLD}) -gt 1 ] || exec sleep 1800")
    host.verb(job, "Resume")
    host.wait(lambda: vm.out(f"cat {TOLD} 2>/dev/null; true"), "the hook")
    vm.run("systemctl kill --kill-whom=all -s KILL p2vd")
    done = host.wait_registered(job, 600)
    require_same(vm, host.san["boot1"].backing, done["Target"], done["Bytes"])
    assert host.san.digest("boot1") == digest
    told = [json.loads(line) for line in vm.out(f"cat {TOLD}").splitlines()]
    steps = ["before-copy", "before-copy", "after-proven", "before-register", "after-register"]
    assert [one["step"] for one in told] == steps
    assert told[2]["jobs"][0]["target"]["path"] == "/dev/vg_san/hooked"
    assert "after-register/10-lab: ended" in vm.out("p2vctl audit")
