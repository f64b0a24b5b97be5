"""From copied disks to a registered machine, and back: on real storage, with a real libvirtd."""

import random
from collections.abc import Callable, Sequence

import pytest

from integration.content import fill_lun, require_same
from integration.host import Host, Properties
from integration.lab.san import Lun
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

SIZE = "32M"
LIBVIRTD = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service"


def prepare(
    vm: Vm,
    disks: int,
    *,
    manual: bool = False,
    bandwidth: str = "1 GiB",
    max_jobs: int = 4,
    more: str = "",
) -> tuple[Host, list[Lun]]:
    """p2vd, started, and so many LUNs that differ in every MiB; `more`: of the policy."""
    host = Host(vm)
    host.policy(bandwidth=bandwidth, more=more)
    vm.run(f"sed -i 's/^#max_jobs = .*/max_jobs = {max_jobs}/' /etc/p2vd/p2vd.toml")
    if manual:
        vm.run("sed -i 's/^name = .*/&\\ncutover = \"manual\"/' /etc/p2vd/policy.d/50-lab.toml")
    for number in range(disks):
        host.san.add(f"disk{number}", SIZE)
        fill_lun(host.san, f"disk{number}", number + 1)
    vm.run("systemctl start p2vd")
    return host, [host.san[f"disk{number}"] for number in range(disks)]


def domains(vm: Vm) -> list[str]:
    return vm.out("virsh -q list --all --name").split()


def volumes(vm: Vm, domain: str) -> list[str]:
    """The sources of a domain's disks, in its order."""
    return [line.split()[1] for line in vm.out(f"virsh -q domblklist {domain}").splitlines()]


def jobs_of(host: Host, machine: Properties) -> list[Properties]:
    return [host.at(path) for path in machine["Jobs"]]


def wwids(luns: Sequence[Lun]) -> list[str]:
    return [lun.wwid for lun in luns]


# ---- six disks, and the way back -----------------------------------------------------------------


@pytest.mark.campaign
def test_six_disks_one_fails_retried_registered_and_rolled_back(
    vm: Vm, request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    """Of the six three as a sample: with two jobs at a time instead of four."""
    disks, max_jobs = (6, 4) if request.config.getoption("--full") else (3, 2)
    host, luns = prepare(vm, disks, bandwidth="256 KiB", max_jobs=max_jobs)
    order = random.Random(campaign_seed).sample(luns, disks)
    before = {lun.name: host.san.digest(lun.name) for lun in luns}
    machine = host.migrate_machine(wwids(order), "erp1")
    # So many jobs run at a time that the last disk's has not begun, and for minutes, by their limit;
    # meanwhile somebody takes its source.
    victim = order[-1]
    sectors = victim.size_bytes // 512
    vm.run(f"dmsetup create taken --table '0 {sectors} linear {victim.device} 0'")
    *others, job = jobs_of(host, machine)
    for each in (job, *others):  # the last one first: it fails as soon as the others are over
        host.full_speed(each)
    host.wait_stage(job, "failed")
    for other in others:
        host.wait_stage(other, "proven")
    says = f"Disk {disks} of {disks} ({victim.wwid}) failed:"
    stuck = host.wait_machine(machine, says, lambda now: now["Error"][1].startswith(says))
    assert stuck["State"] == "copying"
    assert domains(vm) == []
    vm.run("udevadm settle; dmsetup remove taken")
    host.verb(job, "Retry")
    done = host.wait_state(machine, "registered")
    assert domains(vm) == ["erp1"]
    targets = [each["Target"] for each in jobs_of(host, machine)]
    assert volumes(vm, "erp1") == targets == [f"/dev/vg_san/erp1-{number}" for number in range(1, disks + 1)]
    for lun, target in zip(order, targets, strict=True):
        require_same(vm, lun.backing, target, lun.size_bytes)

    vm.run("virsh start erp1")
    host.machine_verb(machine, "Rollback")
    refused = host.wait_machine(machine, "the refusal", lambda now: bool(now["Error"][0]))
    assert (refused["State"], refused["Error"][0]) == ("registered", "DomainRunning")
    assert domains(vm) == ["erp1"]
    vm.run("virsh destroy erp1")
    assert "is rolled back" in vm.out(f"p2vctl rollback {done['Uuid']}")
    assert domains(vm) == []
    kept = vm.out("lvs --noheadings -o lv_name vg_san").split()
    assert {f"erp1-{number}" for number in range(1, disks + 1)} <= set(kept)
    for lun in luns:
        assert host.san.digest(lun.name) == before[lun.name]
        assert vm.out(f"blockdev --getro {lun.device}") == "0"
    vm.run(f"dd if=/dev/zero of={luns[0].device} bs=4096 count=1 oflag=direct conv=fsync status=none")
    again = vm.run(f"p2vctl plan {' '.join(wwids(order))} --source-offline --name erp1", check=False)
    assert again.returncode == 1
    assert "vg_san/erp1-1 is there already: it is what the job" in again.stderr
    assert "lvremove vg_san/erp1-1" in again.stderr


def test_a_uefi_machine_that_policy_starts_is_taken_back_with_its_variables(vm: Vm) -> None:
    """libvirt makes their file at the start, and undefines no domain that has one without being told."""
    variables = "ls /var/lib/libvirt/qemu/nvram"
    host, (lun,) = prepare(vm, 1, more='domain.firmware = "uefi"\ndomain.start = true\n')
    machine = host.migrate_machine([lun.wwid], "erp1")
    done = host.wait_state(machine, "registered")
    assert done["Error"][0] == ""
    assert vm.out("virsh domstate erp1") == "running"
    vm.run("virsh destroy erp1")
    assert "erp1_VARS" in vm.out(variables)
    assert "is rolled back" in vm.out("p2vctl rollback erp1")
    assert domains(vm) == []
    assert "erp1_VARS" not in vm.out(variables)
    require_same(vm, lun.backing, "/dev/vg_san/erp1", lun.size_bytes)


# ---- after a reboot -------------------------------------------------------------------------------


def test_after_a_reboot_of_the_host_the_domain_starts(power_vm: Vm) -> None:
    """Nobody activates its volume but the host's own boot: p2vd does not run."""
    host, (lun,) = prepare(power_vm, 1)
    machine = host.migrate_machine([lun.wwid], "erp1")
    host.wait_state(machine, "registered")
    power_vm.run("systemctl disable p2vd; sync")
    power_vm.kill()
    power_vm.boot_again()
    assert power_vm.out("systemctl is-active p2vd || true") == "inactive"
    # The lab has libvirtd not enabled.
    power_vm.run("systemctl start libvirtd")
    # Event-based activation goes on beside the boot.
    there = "udevadm settle; test -b /dev/vg_san/erp1"
    host.wait(
        lambda: power_vm.run(there, check=False).returncode == 0, "the volume active, by the host itself"
    )
    power_vm.run("virsh start erp1")
    assert power_vm.out("virsh domstate erp1") == "running"
    require_same(power_vm, host.san["disk0"].backing, "/dev/vg_san/erp1", lun.size_bytes)
    power_vm.run("systemctl start p2vd")
    host.wait(lambda: host.machine("erp1")["State"] == "registered", "the machine after the reboot")
    said = power_vm.run("p2vctl boot-test erp1", check=False)
    assert (said.returncode, "runs" in said.stderr) == (1, True), said
    power_vm.run("virsh destroy erp1")


# ---- for good ------------------------------------------------------------------------------------


def test_accepting_removes_the_sources_cleanly_and_names_them(vm: Vm) -> None:
    host, luns = prepare(vm, 2)
    machine = host.migrate_machine(wwids(luns), "erp1")
    host.wait_state(machine, "registered")
    paths = [path for lun in luns for path in host.san.paths(lun.name)]
    assert len(paths) == 4
    sectors = luns[1].size_bytes // 512
    vm.run(f"dmsetup create taken --table '0 {sectors} linear {luns[1].device} 0'")
    host.machine_verb(machine, "Accept")
    refused = host.wait_machine(machine, "the refusal", lambda now: bool(now["Error"][0]))
    assert (refused["State"], refused["Error"][0], refused["Unmap"]) == ("registered", "SourcesInUse", [])
    assert all(vm.run(["test", "-b", f"/dev/{path}"], check=False).returncode == 0 for path in paths)
    vm.run("udevadm settle; dmsetup remove taken; udevadm settle; dmesg --clear")
    said = vm.run("p2vctl accept erp1 < /dev/null", check=False)
    assert said.returncode == 2
    said = vm.run("p2vctl accept erp1 --yes")
    assert "The array may unmap:" in said.stdout
    assert all(lun.wwid in said.stdout for lun in luns)
    accepted = host.machine_at(machine["path"])
    assert (accepted["State"], sorted(accepted["Unmap"])) == ("accepted", sorted(wwids(luns)))
    for path in paths:
        assert vm.run(["test", "-e", f"/sys/block/{path}"], check=False).returncode == 1
    left = vm.out("dmsetup ls --target multipath")
    assert not any(lun.device.rpartition("/")[2] in left.split() for lun in luns)
    assert "I/O error" not in vm.out("dmesg")
    # The volumes and the other LUNs are as they were.
    assert domains(vm) == ["erp1"]
    assert host.san.paths("boot1")
    for number, lun in enumerate(luns, 1):
        require_same(vm, lun.backing, f"/dev/vg_san/erp1-{number}", lun.size_bytes)
    refused_now = vm.run("p2vctl rollback erp1", check=False)
    assert refused_now.returncode == 1


# ---- libvirtd stopped ----------------------------------------------------------------------------


def stop_libvirtd(vm: Vm) -> None:
    vm.run(f"systemctl stop {LIBVIRTD}")


def start_libvirtd(vm: Vm) -> None:
    vm.run("systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket")


def pid(vm: Vm) -> str:
    return vm.out("virsh -q list >/dev/null; systemctl show -P MainPID libvirtd")


def stopped_before_the_definition(host: Host, machine: Properties) -> None:
    """The machine says so, and is tried again."""
    stop_libvirtd(host.vm)
    host.machine_verb(machine, "Cutover")
    host.wait_machine(machine, "the error", lambda now: now["Error"][0] == "LibvirtUnreachable")
    start_libvirtd(host.vm)


def killed_with_the_call_under_way(host: Host, machine: Properties) -> None:
    """It was asked, and never answers."""
    server = pid(host.vm)
    host.vm.run(f"kill -STOP {server}")
    host.machine_verb(machine, "Cutover")
    host.wait_state(machine, "registering")
    host.vm.run(f"kill -KILL {server}")


def stopped_and_p2vd_restarted_meanwhile(host: Host, machine: Properties) -> None:
    stop_libvirtd(host.vm)
    host.machine_verb(machine, "Cutover")
    # It is registering for a moment only, again and again: between two attempts its error says that it was.
    host.wait_machine(
        machine,
        "the registration begun",
        lambda now: now["State"] == "registering" or now["Error"][0] == "LibvirtUnreachable",
    )
    host.vm.run("systemctl restart p2vd")
    start_libvirtd(host.vm)


def killed_again_and_again(host: Host, machine: Properties) -> None:
    """At whatever moment that is."""
    kills = (
        "for _ in 1 2 3 4 5 6 7 8; do systemctl kill -s KILL libvirtd; systemctl reset-failed libvirtd; "
        "sleep 0.5; done"
    )
    host.vm.run(["systemd-run", "-q", "--unit=lab-kills", "--collect", "sh", "-c", kills])
    host.machine_verb(machine, "Cutover")
    over = "systemctl is-active -q lab-kills"
    host.wait(lambda: host.vm.run(over, check=False).returncode, "the last kill")


MOMENTS: list[Callable[[Host, Properties], None]] = [
    stopped_before_the_definition,
    killed_with_the_call_under_way,
    stopped_and_p2vd_restarted_meanwhile,
    killed_again_and_again,
]


@pytest.mark.campaign
def test_libvirtd_stopped_at_each_moment_of_a_registration(
    vm: Vm, request: pytest.FixtureRequest, campaign_seed: int
) -> None:
    """The machine ends registered without being asked again, with one domain and nothing left over.

    Of the moments two as a sample.
    """
    count = len(MOMENTS) if request.config.getoption("--full") else 2
    moments = random.Random(campaign_seed).sample(MOMENTS, count)
    host, luns = prepare(vm, count, manual=True)
    machines = [host.migrate_machine([lun.wwid], f"m{number}") for number, lun in enumerate(luns)]
    for machine in machines:
        ready = host.wait_state(machine, "ready")
        assert (ready["CutoverMode"], ready["Error"][0]) == ("manual", "")
    assert domains(vm) == []
    for moment, machine in zip(moments, machines, strict=True):
        moment(host, machine)
        host.wait_state(machine, "registered")

    assert sorted(domains(vm)) == sorted(f"m{number}" for number in range(count))
    for number, machine in enumerate(machines):
        now = host.machine_at(machine["path"])
        assert (now["State"], now["Error"][0]) == ("registered", "")
        assert vm.out(f"virsh domuuid m{number}") == now["Domain"] == now["Uuid"]
        assert volumes(vm, f"m{number}") == [f"/dev/vg_san/m{number}"]
