"""Discovery on real parts: what the host sees, how it reaches it, and what it never takes for another."""

import contextlib
import functools

import pytest

from integration.host import MANAGER, SOURCE, Host, Properties
from integration.lab import san
from integration.lab.shell import GuestError
from integration.lab.vm import Vm
from integration.portals import Portals
from integration.second_array import IQN, SECRET, SECRET_IN, USER, USER_IN, SecondArray
from integration.second_array import wwid as wwid_of
from p2vd.bus.names import ROOT

pytestmark = pytest.mark.lab

MIB = 1 << 20

# ---- iSCSI -----------------------------------------------------------------------------------------

A, B, SIX = "10.98.3.1:3260", "10.98.4.1:3260", "[fd98:5::1]:3260"
RIGHT = {"user": USER, "secret": SECRET, "user_in": USER_IN, "secret_in": SECRET_IN}
EXECS = "/run/p2vd/words"


def sessions(vm: Vm, iqn: str = IQN) -> list[str]:
    """Return the portals that the host has a session to at a target."""
    said = vm.run("iscsiadm -m session", check=False).stdout.splitlines()
    return sorted(line.split()[2].partition(",")[0] for line in said if f" {iqn} " in f"{line} ")


def record_words(vm: Vm, *programs: str) -> None:
    """Have every call of programs write down its arguments, which any user of a host could see."""
    for program in programs:
        vm.write(
            f"{program}.new", f'#!/bin/sh\necho "$0 $*" >> {EXECS}\nexec {program}.real "$@"\n', mode="755"
        )
        vm.run(f"mv {program} {program}.real; mv {program}.new {program}")


def records(vm: Vm) -> str:
    return vm.run(f"find /etc/iscsi/nodes/{IQN} /etc/iscsi/ifaces -type f 2>/dev/null", check=False).stdout


def source(host: Host, wwid: str) -> Properties | None:
    return next((found for found in host.of(SOURCE) if found["Id"] == wwid), None)


def wait_paths(host: Host, wwid: str, ready: int, total: int) -> Properties:
    """Wait until a LUN is one source with so many paths."""
    found: Properties = host.wait(
        lambda: (
            (now := source(host, wwid)) and (now["PathsReady"], now["PathsTotal"]) == (ready, total) and now
        ),
        f"{wwid} with {ready} of {total} paths",
    )
    return found


def connected(vm: Vm, *portals: str) -> tuple[Host, Portals, SecondArray]:
    """Return a host that is logged in to portals of an array with one disk, and sees it."""
    array = SecondArray(vm)
    array.up()
    wwid = array.add("first", 32, 1)
    host = Host.ready(vm)
    own = Portals(host)
    own.add(*portals, **RIGHT)  # a busy machine may need a second attempt, which p2vctl does not wait for
    for portal in portals:
        own.wait(f"{portal}:3260", "connected")
    wait_paths(host, wwid, len(portals), len(portals))
    return host, own, array


def added(own: Portals, says: str, *portals: str, **chap: str) -> tuple[int, str]:
    """Add portals by p2vctl until it ends with what is wanted: that it said so, or "" for success.

    On a busy machine an attempt may time out, which says nothing of CHAP.
    """

    def tried() -> tuple[int, str] | None:
        status, said = own.add(*portals, **chap)
        return (status, said) if (says in said if says else status == 0) else None

    ended: tuple[int, str] = own.host.wait(tried, says or "the login")
    return ended


def test_iscsi_mutual_chap_refuses_clearly_and_connects_by_every_portal(vm: Vm) -> None:
    array = SecondArray(vm)
    array.up()
    wwid = array.add("first", 32, 1)
    host = Host.ready(vm)
    own = Portals(host)
    record_words(vm, "/usr/sbin/iscsiadm", "/usr/bin/systemd-run")

    wrong = {**RIGHT, "secret": "not-the-host-secret"}
    assert own.add("10.98.3.1", **wrong)[0] == 1
    refused = own.wait(A, "refused")
    assert refused["Error"][0] == "LoginRefused"
    assert "CHAP user or secret" in refused["Error"][1]
    wrong_in = {**RIGHT, "secret_in": "not-the-arrays-secret"}
    status, said = added(own, "could not prove itself", "10.98.3.1", **wrong_in)
    assert status == 1
    assert sessions(vm) == []
    assert records(vm) == ""
    assert len(sessions(vm, san.IQN)) == 2

    status, said = added(own, "", "10.98.3.1", "10.98.4.1@isc4", "fd98:5::1", **RIGHT)
    assert status == 0, said
    for portal in (A, f"{B}@isc4", SIX):
        own.wait(portal, "connected")
    assert sessions(vm) == [A, B, SIX]
    disk = wait_paths(host, wwid, 3, 3)
    assert (disk["Transport"], disk["Size"]) == ("iscsi", 32 * MIB)
    assert "isc4" in vm.out("cat /sys/class/iscsi_session/*/ifacename")
    # Target and initiator are one host here: packets go by the loopback interface.
    ways = dict.fromkeys((A, f"{B}@isc4", SIX), ("lo", 65536, 1))
    host.wait(
        lambda: {n: (one["Nic"], one["Mtu"], one["Luns"]) for n, one in own.all().items()} == ways,
        f"the ways {ways}",
    )

    vm.run(f"grep -q iscsiadm.*--login {EXECS} && grep -q systemd-run.*BindReadOnlyPaths {EXECS}")
    hush = " ".join(f"-e {one}" for one in (SECRET, SECRET_IN, wrong["secret"], wrong_in["secret_in"]))
    assert vm.run(f"grep -rlF {hush} /var/lib/p2vd /run/p2vd /var/log", check=False).stdout == ""
    assert vm.run(f"journalctl -o cat | grep -F {hush}", check=False).stdout == ""
    modes = vm.out(f"find /etc/iscsi/nodes/{IQN} -type f -printf '%m %u\\n' | sort -u")
    assert modes == "600 root"
    # 15 s by the record; multipathd sets its fast_io_fail_tmo, 5 s in this lab, for the paths of maps.
    record = vm.out(f"cat /etc/iscsi/nodes/{IQN}/10.98.3.1,3260,1/default")
    assert "node.session.timeo.replacement_timeout = 15" in record
    assert "node.startup = automatic" in record


def test_iscsi_a_portal_is_removed_only_when_nobody_uses_its_disks(vm: Vm) -> None:
    host, own, _ = connected(vm, "10.98.3.1", "10.98.4.1")
    wwid = wwid_of("first")
    before = sessions(vm, san.IQN)
    device = vm.out(f"ls -d /dev/disk/by-id/dm-uuid-mpath-{wwid}")
    vm.run(f"mkfs.ext4 -q -F {device} && mkdir -p /mnt/x && mount {device} /mnt/x")
    host.rescan()
    remove(host, A)
    kept = host.wait(lambda: (now := own.all()[A]) and now["Error"][1] and now, "the refusal")
    assert (kept["State"], kept["Error"][0]) == ("connected", "PortalInUse")
    assert "mounted" in kept["Error"][1]
    assert "/mnt/x" in kept["Error"][1]
    assert sessions(vm) == [A, B]
    # udev has a look at what was open for writing: that is an open like any other.
    vm.run("umount /mnt/x && udevadm settle")
    for portal in (A, B):
        remove(host, portal)
        host.wait(functools.partial(gone, own, portal), f"{portal} gone")
    assert sessions(vm) == []
    assert records(vm) == ""
    host.wait(lambda: source(host, wwid) is None, "the disk gone")
    assert sessions(vm, san.IQN) == before
    host.wait(lambda: "faulty" not in vm.out("multipath -ll"), "no faulty path")


def remove(host: Host, portal: str) -> None:
    """Ask for it; what refuses it within a second comes back as an error, later as the portal's Error."""
    with contextlib.suppress(GuestError):
        host.call(ROOT, MANAGER, "RemovePortal", "sa{sv}", portal, {})


def gone(own: Portals, portal: str) -> bool:
    """Whether a portal is gone; removed again where udev or LVM had a look at its disk just then."""
    now = own.all().get(portal)
    if now is not None and now["State"] == "connected" and " is open " in now["Error"][1]:
        remove(own.host, portal)
    return now is None


def test_iscsi_a_portal_is_logged_in_again_after_a_restart_and_a_power_cut(power_vm: Vm) -> None:
    vm = power_vm
    host, own, array = connected(vm, "10.98.3.1")
    # Who logs in without p2vd: the host's own service, by the record.
    vm.run(f"systemctl stop p2vd; iscsiadm -m node -T {IQN} -u")
    assert sessions(vm) == []
    vm.run("systemctl start open-iscsi")
    assert sessions(vm) == [A]
    # And p2vd, where that one did not.
    vm.run(f"iscsiadm -m node -T {IQN} -u; systemctl start p2vd")
    own.wait(A, "connected")
    assert sessions(vm) == [A]

    vm.kill()
    vm.boot_again()
    vm.run("systemctl start p2vd")
    retrying = own.wait(A, "retrying")
    assert retrying["Error"][0] == "PortalUnreachable"
    # Answers only once it is whole: p2vd tries all the time, and a refusal would be final.
    array.build()
    wwid = array.add("first", 32, 1)
    array.serve()
    own.wait(A, "connected")
    wait_paths(host, wwid, 1, 1)
    assert sessions(vm) == [A]


def test_iscsi_a_path_is_pulled_and_returns(vm: Vm) -> None:
    host, own, array = connected(vm, "10.98.3.1", "10.98.4.1")
    wwid = wwid_of("first")
    array.portal_down("10.98.3.1")
    wait_paths(host, wwid, 1, 2)
    own.wait(A, "impaired")
    assert own.all()[B]["State"] == "connected"
    array.portal_up("10.98.3.1")
    wait_paths(host, wwid, 2, 2)
    own.wait(A, "connected")


def test_iscsi_a_lun_grows_vanishes_and_its_number_is_given_to_another(vm: Vm) -> None:
    host, own, array = connected(vm, "10.98.3.1", "10.98.4.1")
    first, second = (array.add("second", 24, 2), array.add("third", 16, 3))
    assert sorted(own.rescan(A)["New"]) == sorted((first, second))
    assert sorted(own.rescan(B)["New"]) == sorted((first, second))
    wait_paths(host, second, 2, 2)

    array.grow("second", 40)
    own.rescan(A)

    def grown() -> bool:
        (said,) = own.rescan(B)["Grown"]
        assert "40 MiB" in said
        return "keeps the old size" not in said  # multipathd refuses while it awaits the event of a change

    host.wait(grown, "the grown map")
    host.wait_source(first, "the new size", lambda now: now["Size"] == 40 * MIB and now["Reasons"] == [])

    array.unmap(3)
    (vanished,) = own.rescan(A)["Vanished"]
    assert second in vanished
    host.wait(lambda: source(host, second) is None, "the vanished LUN gone")

    other = array.add("fourth", 24, 4)
    array.remap(2, "third")
    report = own.rescan(A)
    assert f"is now {second}" in report["Replaced"][0]
    assert first in report["Replaced"][0]
    own.rescan(B)
    host.wait(lambda: source(host, first) is None, "the disk that had the number gone")
    wait_paths(host, second, 2, 2)
    host.wait_source(second, "its own size", lambda now: now["Size"] == 16 * MIB)
    wait_paths(host, other, 2, 2)

    # In use it is left alone, whatever it leads to now, and said.
    device = vm.out(f"ls -d /dev/disk/by-id/dm-uuid-mpath-{other}")
    vm.run(f"mkfs.ext4 -q -F {device} && mkdir -p /mnt/x && mount {device} /mnt/x; sync")
    host.rescan()
    array.remap(4, "second")
    (left,) = own.rescan(A)["LeftAlone"]
    assert other in left
    assert "/mnt/x" in left
