"""p2vd on a real system bus, with a real polkitd: who may do what, and a caller that vanishes."""

import json
import re

import pytest

from integration.host import JOB, MACHINE, MANAGER, Host
from integration.lab.shell import Completed
from integration.lab.vm import Vm
from p2vd.bus.names import INTERFACES, ROOT

pytestmark = pytest.mark.lab

# polkit 122 of Debian 12 reads JavaScript; it sees a new file by itself.
RULE = """
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.p2vd1.") == 0 && action.id != "org.p2vd1.remove-target" &&
        subject.isInGroup("movers")) {
        return polkit.Result.YES;
    }
});
"""

# What a user's program does; busctl does not tell the names of errors.
ASK = """#!/usr/bin/python3 -I
import sys

import dbus

path, interface, method, *arguments = sys.argv[1:]
options = dbus.Dictionary({}, signature="sv")
if method == "Cancel":
    options["target"], arguments = arguments[0], []
proxy = dbus.SystemBus().get_object("org.p2vd1", path)
try:
    print(proxy.get_dbus_method(method, interface)(*arguments, options) or "")
except dbus.DBusException as error:
    sys.exit(f"{error.get_dbus_name()} {error.get_dbus_message()}")
"""

# A caller that dies in its call. p2vd reads what one connection says in its order: once the second call is
# answered, the first is being decided.
VANISH = """#!/usr/bin/python3 -I
import os
import signal
import sys

import dbus
import dbus.lowlevel

bus, (plan_id,) = dbus.SystemBus(), sys.argv[1:]
call = dbus.lowlevel.MethodCallMessage("org.p2vd1", "/org/p2vd1", "org.p2vd1.Manager", "Migrate")
call.append(plan_id, dbus.Dictionary({}, signature="sv"), signature="sa{sv}")
bus.send_message(call)
properties, version = "org.freedesktop.DBus.Properties", ("org.p2vd1.Manager", "Version")
bus.call_blocking("org.p2vd1", "/org/p2vd1", properties, "Get", "ss", version)
os.kill(os.getpid(), signal.SIGKILL)
"""

OPERATOR = "setpriv --reuid operator --regid users --init-groups"
NOBODY = "setpriv --reuid nobody --regid nogroup --clear-groups"
NOT_AUTHORIZED = "org.p2vd1.Error.NotAuthorized"


def ask(vm: Vm, who: str, *words: str) -> Completed:
    """Call a method as a user."""
    return vm.run(f"{who} /usr/local/bin/ask {' '.join(words)}", check=False)


def refusals(vm: Vm) -> int:
    """How many calls to migrate p2vd says that it refused."""
    journal = vm.out("journalctl -q -u p2vd -o cat")
    return len(re.findall(r"Migrate by uid \d+ refused: org\.p2vd1\.migrate", journal))


def test_polkit_decides_who_may_and_a_caller_that_vanishes_has_done_nothing(vm: Vm) -> None:
    """In one machine: a refused user, a group that a rule lets in, a caller killed in its call, busctl."""
    # It takes a quarter of an hour: longer than all that is asked of it meanwhile.
    host = Host.ready(vm, bandwidth="64 KiB")
    vm.write("/usr/local/bin/ask", ASK, mode="755")
    vm.write("/usr/local/bin/vanish", VANISH, mode="755")
    lun = host.san["boot1"]
    host.source(lun.wwid)
    plan_id = host.plan(lun.wwid, "erp1")
    daemon = host.daemon()

    # Nobody has said that this user may: the name says what is missing, the sentence what to do.
    refused = ask(vm, OPERATOR, ROOT, MANAGER, "Migrate", plan_id)
    assert refused.returncode == 1
    assert NOT_AUTHORIZED in refused.stderr
    assert "polkit action org.p2vd1.migrate" in refused.stderr
    assert host.of(JOB) == []

    a_caller_that_vanishes(host, plan_id)
    assert host.daemon() == daemon

    # A rule of the site lets a group do it, but for what ends data.
    vm.run("groupadd movers && usermod -aG movers operator")
    vm.write("/etc/polkit-1/rules.d/40-p2vd.rules", RULE)
    begun = host.wait(
        lambda: (asked := ask(vm, OPERATOR, ROOT, MANAGER, "Migrate", plan_id)).returncode == 0 and asked,
        "polkit to have read its rule",
    )
    assert "/org/p2vd1/machine/" in begun.stdout
    job = host.job()
    assert job["StartedByUID"] == int(vm.out("id -u operator"))
    removal = ask(vm, OPERATOR, job["path"], JOB, "Cancel", "remove")
    assert NOT_AUTHORIZED in removal.stderr
    assert "org.p2vd1.remove-target" in removal.stderr
    other = ask(vm, NOBODY, job["path"], JOB, "Pause")
    assert NOT_AUTHORIZED in other.stderr
    assert host.at(job["path"])["Stage"] not in ("cancelling", "cancelled")
    assert ask(vm, OPERATOR, job["path"], JOB, "Pause").returncode == 0
    assert "user" in host.at(job["path"])["Holds"]

    busctl(host, lun.wwid)
    assert ask(vm, OPERATOR, job["path"], JOB, "Cancel", "keep").returncode == 0
    host.wait_stage(job, "cancelled")
    assert host.daemon() == daemon


def a_caller_that_vanishes(host: Host, plan_id: str) -> None:
    """polkitd stands still while somebody asks; the asker is killed, and then polkitd goes on."""
    vm = host.vm
    # One was refused before; journald may still be on its way with that line.
    before = host.wait(lambda: refusals(vm), "the journal to have the first refusal")
    assert before == 1
    vm.run("systemctl kill --signal=SIGSTOP polkit")
    try:
        vm.run(f"{OPERATOR} /usr/local/bin/vanish {plan_id}; test $? = 137")  # killed by SIGKILL
        # Meanwhile p2vd answers: root is not asked about, and reading needs no polkit.
        assert host.property("Version")
        vm.run(f"{NOBODY} busctl get-property org.p2vd1 {ROOT} {MANAGER} Version")
    finally:
        vm.run("systemctl kill --signal=SIGCONT polkit")
    host.wait(lambda: refusals(vm) > before, "the call of the caller that has gone to be refused")
    assert refusals(vm) == before + 1
    assert host.of(JOB) == []
    assert host.of(MACHINE) == []


def busctl(host: Host, wwid: str) -> None:
    """What systemd's own tool shows of p2vd, for a user without any right."""
    vm = host.vm
    tree = vm.out(f"{NOBODY} busctl --no-pager --list tree org.p2vd1")
    assert f"{ROOT}/source/_{ord(wwid[0]):02x}{wwid[1:]}" in tree.split()
    shown = vm.out(f"{NOBODY} busctl --no-pager introspect org.p2vd1 {ROOT}")
    assert "org.p2vd1.Manager" in shown
    assert ".Migrate" in shown
    installed = vm.out("ls /usr/share/dbus-1/interfaces").split()
    assert {f"{interface}.xml" for interface in INTERFACES} <= set(installed)
    call = f"busctl call org.p2vd1 {ROOT} {MANAGER} Plan 'asa{{sv}}' 1 {wwid} 1 source-offline b false"
    said = vm.run(call, check=False)
    assert said.returncode != 0
    assert "is refused" in said.stderr
    version = json.loads(vm.out(f"busctl --json=short get-property org.p2vd1 {ROOT} {MANAGER} Version"))
    assert version == {"type": "s", "data": host.property("Version")}
