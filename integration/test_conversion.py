"""A guest's conversion on real LVM: what fails or is cut off leaves the bytes that were copied and proven."""

import json

import pytest

from integration.content import fill_lun, require_same
from integration.host import Host, Properties
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

RULE = """
[[rule]]
name = "{name}"
match.wwid = ["{wwid}"]
target.volume_groups = ["{vg}"]
target.provisioning = "{provisioning}"
target.single_host = true
domain.memory = "64 MiB"
domain.type = "qemu"
"""

# In virt-v2v-in-place's stead: writes to every disk of the definition, and ends as it is told to.
CONVERTER = """#!/bin/sh
for disk in $(grep -o '/dev/vg_[A-Za-z0-9_./-]*' "$5" | sort -u); do
    dd if=/dev/zero of=$disk bs=1M count=16 oflag=direct conv=fsync status=none || exit 9
done
touch /run/converter-wrote
[ -e /run/converter-hangs ] && sleep 600
[ ! -e /run/converter-fails ] || { echo "virt-v2v: error: no operating systems found" >&2; exit 1; }
"""

# What an administrator does to a converter that hangs, as soon as it has written.
STOP = """#!/bin/sh
until [ -e /run/converter-wrote ]; do sleep 0.2; done
systemctl stop "p2vd-change-*-$1.service"
"""

# Changes whose success nobody reads again, each ended by a signal: prints how each one ended.
ENDED = """
import json
from p2vd.system.command import CommandFailed, SystemCommands
commands, ended = SystemCommands(), {}
may_be_ended = ("KillSignal=SIGTERM", "SendSIGKILL=yes")
for name in ("TERM", "INT", "HUP", "KILL"):
    for whom in ("$$", "$PPID"):
        # A shell that runs a command (-c) answers SIGINT when that has ended.
        argv = ["sh", "-c", f"kill -s {name} {whom}; sleep 5"]
        try:
            commands.change(argv, unit="lab-ended", properties=may_be_ended, must_exit=True)
            ended[f"{name} {whom}"] = "well"
        except CommandFailed as error:
            ended[f"{name} {whom}"] = type(error).__name__
said = commands.change(["sh", "-c", 'echo "$1"', "sh", "a b"], unit="lab-ended", must_exit=True)
print(json.dumps({"ended": ended, "said": said.stdout, "running": sorted(commands.running_changes())}))
"""

# What the machine's step of registration does, over the daemon's own parts.
CONVERT = """
import json, sys, threading
from pathlib import Path
from p2vd.config import load
from p2vd.daemon import build, real_doors
from p2vd.jobs.conversion import GuestConversion
from p2vd.model.errors import P2vdError
from p2vd.registration.conversion import Converter
config = load(Path("/etc/p2vd/p2vd.toml"))
_, services = build(config, real_doors(config))
(machine,) = [m for m in services.board.machines() if m.name == sys.argv[1]]
(job,) = services.board.machine_jobs(machine)
target = job.plan.target
xml = f"<domain><disk><source dev='/dev/{target.vg_name}/{target.lv_name}'/></disk></domain>"
converter = Converter(services.commands, ["/opt/lab"])
try:
    GuestConversion(services, machine, converter, threading.Event()).convert(xml)
except P2vdError as error:
    sys.exit(f"{error.name}: {error}")
"""

FIELDS = "lv_name,lv_uuid,lv_tags,lv_autoactivation,lv_skip_activation,lv_active,lv_size"


def volumes(vm: Vm, vg: str) -> list[Properties]:
    report = json.loads(vm.out(f"lvs --reportformat json -o {FIELDS} {vg}"))
    return [lv for lv in report["report"][0]["lv"] if "p2vd" in lv["lv_tags"]]


def digest(vm: Vm, device: str) -> str:
    vm.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return vm.out(f"sha256sum < {device}")


KINDS = [("thin", "boot1", "vg_san"), ("thick", "boot2", "vg_san4k")]


def test_a_change_that_a_signal_ends_is_no_success_where_its_exit_is_believed(vm: Vm) -> None:
    """For systemd a service that SIGTERM, SIGINT or SIGHUP ends has ended well: systemd-run exits with 0."""
    vm.write("/opt/lab/ended.py", ENDED)
    told = json.loads(vm.out("cd / && python3 /opt/lab/ended.py", timeout_s=600))
    assert len(told["ended"]) == 8
    assert set(told["ended"].values()) == {"CommandFailed"}, told
    assert (told["said"], told["running"]) == ("a b\n", [])


@pytest.mark.parametrize(("provisioning", "lun", "vg"), KINDS)
def test_failed_cut_off_and_done(vm: Vm, provisioning: str, lun: str, vg: str) -> None:
    host = Host(vm)
    fill_lun(host.san, lun, 5)
    wwid = host.san[lun].wwid
    vm.write(
        "/etc/p2vd/policy.d/50-lab.toml", RULE.format(name="c", wwid=wwid, vg=vg, provisioning=provisioning)
    )
    vm.run("systemctl start p2vd")
    job = host.wait_registered(host.migrate(wwid, "guest"), 600)
    vm.run("systemctl stop p2vd")
    vm.write("/opt/lab/virt-v2v-in-place", CONVERTER, "755")
    vm.write("/opt/lab/convert.py", CONVERT)
    device, copied, before = job["Target"], digest(vm, job["Target"]), volumes(vm, vg)

    vm.run("touch /run/converter-fails")
    failed = vm.run("cd / && python3 /opt/lab/convert.py guest", check=False, timeout_s=600)
    assert "ConversionFailed" in failed.stderr, failed
    assert "no operating systems found" in failed.stderr
    vm.run("test -e /run/converter-wrote && rm /run/converter-wrote /run/converter-fails")
    assert digest(vm, device) == copied
    assert volumes(vm, vg) == before

    # The converter is stopped by hand, which systemd calls a clean end.
    vm.write("/opt/lab/stop.sh", STOP, "755")
    vm.run("touch /run/converter-hangs; (setsid /opt/lab/stop.sh convert > /dev/null 2>&1 &)")
    stopped = vm.run("cd / && python3 /opt/lab/convert.py guest", check=False, timeout_s=600)
    assert "ConversionFailed" in stopped.stderr, stopped
    assert "It was ended by a signal before it was done" in stopped.stderr
    vm.run("rm /run/converter-wrote /run/converter-hangs")
    assert digest(vm, device) == copied
    assert volumes(vm, vg) == before

    # The daemon is killed while the converter has written and goes on; then the converter is, too.
    vm.run("touch /run/converter-hangs")
    vm.run("cd / && (setsid python3 /opt/lab/convert.py guest > /dev/null 2>&1 & echo $! > /run/convert.pid)")
    host.wait(lambda: vm.run("test -e /run/converter-wrote", check=False).returncode == 0, "the converter")
    vm.run("kill -9 $(cat /run/convert.pid)")
    assert vm.out("systemctl list-units --plain --no-legend 'p2vd-change-*-convert.service'") != ""
    vm.run("systemctl stop 'p2vd-change-*-convert.service'; rm /run/converter-hangs /run/converter-wrote")
    assert len(volumes(vm, vg)) == 2
    assert digest(vm, device) != copied

    # Taken back first, then converted.
    vm.run("cd / && python3 /opt/lab/convert.py guest", timeout_s=600)
    assert volumes(vm, vg) == before
    converted = digest(vm, device)
    assert converted != copied
    vm.run("cd / && rm /run/converter-wrote && python3 /opt/lab/convert.py guest", timeout_s=600)
    assert vm.run("test -e /run/converter-wrote", check=False).returncode != 0
    assert digest(vm, device) == converted


def test_a_guest_that_cannot_be_converted_is_registered_as_it_was_copied(vm: Vm) -> None:
    """The converter has written to the volume, and failed: the bytes are the copy's, made once."""
    host = Host(vm)
    lun = host.san["boot1"]
    fill_lun(host.san, "boot1", 5)
    # Where p2vd looks first: a real one, if there is any, is not asked.
    vm.write("/usr/local/bin/virt-v2v-in-place", CONVERTER, "755")
    vm.run("touch /run/converter-fails")
    host.policy(more='domain.conversion = "virt-v2v-in-place"\n')
    vm.run("systemctl start p2vd")
    job = host.migrate(lun.wwid, "guest")
    machine = host.machine_at(job["Machine"])
    failed = host.wait_machine(machine, "the failed conversion", lambda now: bool(now["Error"][0]))
    assert (failed["State"], failed["Error"][0]) == ("ready", "ConversionFailed"), failed
    assert "p2vctl cutover guest --no-conversion" in failed["Error"][1]
    vm.run("test -e /run/converter-wrote && rm /run/converter-wrote")
    copied = host.at(job["path"])

    shown = vm.out("p2vctl cutover guest --no-conversion --dry-run")
    assert "Nothing was done." in shown
    assert host.machine_at(job["Machine"])["State"] == "ready"
    assert "guest is registered" in vm.out("p2vctl cutover guest --no-conversion")
    assert vm.run("test -e /run/converter-wrote", check=False).returncode != 0, "it was converted again"
    done = host.at(job["path"])
    unchanged = ("Stage", "StartTime", "EndTime", "BytesCopied", "BytesZero", "TargetUuid", "Digest")
    assert [done[name] for name in unchanged] == [copied[name] for name in unchanged]
    require_same(vm, lun.backing, done["Target"], lun.size_bytes)
    assert [lv["lv_name"] for lv in volumes(vm, "vg_san")] == ["guest"], "an undo point is left"
    domain = vm.out("virsh dumpxml guest")
    assert done["Target"] in domain
    assert "bus='sata'" in domain
    asked = vm.out("p2vctl audit --machine guest")
    assert "Machine.Cutover" in asked
