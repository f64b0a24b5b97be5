"""p2vd on a host that lacks something: another p2vd has its state, or the disk of that is full."""

import pytest

from integration.host import MANAGER, Host
from integration.lab.vm import Vm
from p2vd.bus.names import ROOT

pytestmark = pytest.mark.lab

SMALL = "mkdir -p /var/lib/p2vd && mount -t tmpfs -o size=16m,mode=700 none /var/lib/p2vd"


def test_a_second_p2vd_by_hand_names_the_first(vm: Vm) -> None:
    host = Host.ready(vm)
    pid = vm.out("systemctl show -P MainPID p2vd").strip()
    second = vm.run("p2vd", check=False)
    assert second.returncode == 1
    assert f"Another p2vd (process {pid}) uses /var/lib/p2vd" in second.stderr
    vm.run("systemctl kill -s KILL p2vd")  # however it ends, its lock goes with it
    host.wait(lambda: vm.out("systemctl show -P MainPID p2vd").strip() not in ("0", pid), "the next p2vd")
    host.wait(lambda: vm.run("systemctl is-active p2vd", check=False).returncode == 0, "it is ready")
    assert host.property("Version")


def test_on_a_full_state_disk_it_starts_and_refuses_what_changes_something(vm: Vm) -> None:
    host = Host(vm)
    host.policy()
    vm.run(f"systemctl stop p2vd; {SMALL}")
    vm.run("systemctl start p2vd")
    try:
        vm.run("systemctl stop p2vd; cat /dev/zero > /var/lib/p2vd/fill", check=False)
        vm.run("systemctl start p2vd")
        assert host.property("Version")
        reload = f"busctl call org.p2vd1 {ROOT} {MANAGER} Reload 'a{{sv}}' 0"
        # The last page of the audit may have room for a few.
        host.wait(lambda: vm.run(reload, check=False).returncode != 0, "a reload that cannot be recorded")
        vm.run("rm /var/lib/p2vd/fill")
        vm.run(reload)
    finally:
        vm.run("rm -f /var/lib/p2vd/fill; systemctl stop p2vd; umount /var/lib/p2vd", check=False)
