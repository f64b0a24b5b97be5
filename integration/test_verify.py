"""A receipt proven again on real storage, by a process that cannot write; and the support bundle."""

import json

import pytest

from integration.content import fill_lun
from integration.host import Host, Properties
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

MIB = 1 << 20
SECRET = "planted-chap-secret-1"


SLOW = "64 KiB"
"""At this limit a verification takes eight minutes: longer than all that is done meanwhile."""


def registered(vm: Vm, bandwidth: str = "1 GiB") -> tuple[Host, Properties]:
    """p2vd with one machine, erp1, registered; its job. SLOW limits verifications, not the copy."""
    host = Host(vm)
    host.policy(bandwidth=bandwidth)
    host.san.add("disk0", "32M")
    fill_lun(host.san, "disk0", 1)
    vm.run("systemctl start p2vd")
    job = host.migrate(host.san["disk0"].wwid, "erp1")
    if bandwidth == SLOW:
        host.full_speed(job)
    return host, host.wait_registered(job)


def verify(vm: Vm) -> tuple[int, Properties]:
    """By p2vctl, as an administrator does; its exit status and the result."""
    done = vm.run("p2vctl verify erp1 --json", check=False)
    assert done.stdout, done.stderr
    (result,) = json.loads(done.stdout)
    return done.returncode, result


def overwrite(vm: Vm, device: str, offset: int) -> None:
    """Change some bytes of a volume past p2vd."""
    vm.run(f"printf 'not what was copied' | dd of={device} bs=1 seek={offset} conv=notrunc,fsync status=none")
    vm.run("udevadm settle")


def test_a_receipt_is_proven_again_until_the_machine_has_run(vm: Vm) -> None:
    host, job = registered(vm)
    directory = f"/var/lib/p2vd/jobs/{job['Uuid']}"
    receipt, checkpoint = vm.out(f"sha256sum {directory}/receipt.json {directory}/checkpoint").splitlines()
    status, same = verify(vm)
    assert (status, same["State"], same["Against"]) == (0, "unchanged", "digests"), same
    assert same["BytesRead"] >= 32 * MIB

    overwrite(vm, job["Target"], 5 * MIB + 17)
    status, used = verify(vm)
    assert (status, used["State"], used["Differing"]) == (6, "used-since", [[5 * MIB, MIB]]), used
    assert any("has counted" in each for each in used["Since"])

    # Another activation counts anew: by then nothing is known of that write.
    vm.run(f"udevadm settle; lvchange -an {job['Target']}")
    status, other = verify(vm)
    assert (status, other["State"], other["Differing"]) == (5, "differs", [[5 * MIB, MIB]]), other
    assert vm.out(f"lvs --noheadings -o lv_active {job['Target']}").strip() == ""  # as it was found

    vm.run(f"lvchange -ay {job['Target']}; udevadm settle; virsh start erp1")
    status, runs = verify(vm)
    assert (status, runs["State"], runs["Error"]) == (1, "failed", "VerifyMachineRuns"), runs
    vm.run("virsh destroy erp1; udevadm settle")
    status, ran = verify(vm)
    assert (status, ran["State"]) == (6, "used-since"), ran
    assert any("The machine erp1 has run since" in each for each in ran["Since"])

    now = vm.out(f"sha256sum {directory}/receipt.json {directory}/checkpoint").splitlines()
    assert now == [receipt, checkpoint]
    kept = vm.out(f"p2vctl receipt {job['Uuid']}")
    assert kept.count("by uid 0: ") == 4
    # The audit hears of an end just after p2vctl does.
    kind = '"kind": "verification"'
    host.wait(lambda: vm.out("p2vctl audit --json").count(kind) >= 5, "five verifications in the audit")
    assert vm.out("p2vctl audit --json").count(kind) == 5


def test_without_its_checkpoint_the_whole_is_compared(vm: Vm) -> None:
    _, job = registered(vm)
    vm.run(f"rm /var/lib/p2vd/jobs/{job['Uuid']}/checkpoint")
    status, same = verify(vm)
    assert (status, same["State"], same["Against"]) == (0, "unchanged", "whole-digest"), same
    overwrite(vm, job["Target"], 9 * MIB)
    status, used = verify(vm)
    assert (status, used["State"], used["Differing"]) == (6, "used-since", []), used


def test_a_volume_that_somebody_has_open_is_not_verified(vm: Vm) -> None:
    _, job = registered(vm)
    hold = f"StandardInput=file:{job['Target']}"
    # Type=exec: it has begun, and so has the volume open, when this returns.
    begun = ["systemd-run", "--quiet", "--unit=holds", "--property=Type=exec", f"--property={hold}"]
    vm.run([*begun, "sleep", "infinity"])
    status, busy = verify(vm)
    vm.run("systemctl stop holds")
    assert (status, busy["Error"]) == (1, "VolumeBusy"), busy


def test_who_reads_may_not_write_and_the_daemons_end_ends_it(vm: Vm) -> None:
    host, _ = registered(vm, SLOW)
    vm.run("p2vctl verify erp1 --no-wait")
    find = "pgrep -f [p]2vd.copying.verifier"  # not the shell that runs this
    pid = host.wait(lambda: vm.run(find, check=False).stdout.strip(), "the process that reads").split()[0]
    host.wait(lambda: vm.out(f"ps -o user= -p {pid}").strip() != "root", "that it is not root")
    assert vm.out(f"grep CapEff /proc/{pid}/status").split()[1] == "0" * 16
    volume = vm.out(f"ls -l /proc/{pid}/fd | grep -o '[0-9]* -> /dev/dm-[0-9]*'").split()[0]
    flags = int(vm.out(f"grep flags: /proc/{pid}/fdinfo/{volume}").split()[1], 8)
    assert flags & 3 == 0  # O_RDONLY
    vm.run("systemctl restart p2vd")
    ended = host.wait(
        lambda: (found := host.job()["Verification"])["State"] != "running" and found, "its end"
    )
    assert (ended["State"], ended["Error"]) == ("failed", "VerifyInterrupted")
    host.wait(lambda: vm.run(find, check=False).stdout == "", "the end of the process that read")


def test_a_volume_that_was_activated_for_it_is_at_rest_after_a_kill(vm: Vm) -> None:
    host, job = registered(vm, SLOW)
    active = f"lvs --noheadings -o lv_active {job['Target']}"
    vm.run(f"udevadm settle; lvchange -an {job['Target']}")
    vm.run("p2vctl verify erp1 --no-wait")
    find = "pgrep -f [p]2vd.copying.verifier"  # not the shell that runs this
    host.wait(lambda: vm.run(find, check=False).stdout.strip(), "the process that reads")
    assert vm.out(active).strip() == "active"
    vm.run("kill -9 $(systemctl show --value -p MainPID p2vd)")
    host.wait(lambda: vm.out(active).strip() == "", "the volume's rest")
    told = f"{job['Target'].removeprefix('/dev/')}, which was activated to be read, is at rest again"
    host.wait(lambda: told in vm.out("journalctl -u p2vd"), "that p2vd says so")
    # Which it does before it is back on the bus.
    error = host.wait(lambda: host.job()["Verification"]["Error"], "p2vd back, and how it ended")
    assert error == "VerifyInterrupted"


@pytest.mark.parametrize("daemon", ["active", "stopped"])
def test_a_support_bundle_has_all_but_secrets(vm: Vm, daemon: str) -> None:
    host, _ = registered(vm)
    node = "/etc/iscsi/nodes/iqn.2026-01.org.example:planted/10.0.0.1,3260,1"
    vm.run(f"mkdir -p {node}")
    vm.write(f"{node}/default", f"node.session.auth.password = {SECRET}\n")
    vm.run(f"logger -t p2vd 'a log with {SECRET}'")
    host.wait(lambda: SECRET in vm.out("journalctl -q -t p2vd -o cat"), "the line in the journal")
    vm.run(f"echo '# {SECRET}' >> /etc/p2vd/policy.d/50-lab.toml")
    if daemon == "stopped":
        vm.run("systemctl stop p2vd")
    vm.run("p2vctl support-bundle -o /tmp/bundle.tar.gz")
    vm.run("mkdir /tmp/bundle; tar -C /tmp/bundle -xzf /tmp/bundle.tar.gz")
    assert vm.out("stat -c %a /tmp/bundle.tar.gz").strip() == "600"
    assert vm.run(f"grep -r {SECRET} /tmp/bundle", check=False).returncode == 1
    manifest = json.loads(vm.out("cat /tmp/bundle/*/MANIFEST.json"))
    failed = {note["part"] for note in manifest["parts"] if "failed" in note}
    away = {note["part"] for note in manifest["parts"] if note["part"].startswith("p2vd/")}
    assert failed == (away if daemon == "stopped" else set()), manifest
    kept = json.loads(vm.out("cat /tmp/bundle/*/state/job-store.json"))
    assert [job["stage"] for job in kept["job"]] == ["proven"]
    assert "vg_san" in vm.out("cat /tmp/bundle/*/lvm/volume-groups.json")
