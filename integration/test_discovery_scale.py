"""Discovery of as many real LUNs as the lab's machine takes; thousands are the simulator's."""

import re

import pytest

from integration.host import SOURCE, Host, Properties
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

MIB = 1 << 20
TARGETS, LUNS = 4, 64
# For udev and multipathd on the emulated machine, which take many minutes for so many maps.
SLOWLY_S = 3600.0
TRACE = "/root/trace"


def multipath_maps(vm: Vm) -> dict[str, tuple[str, str]]:
    """Return name and kernel name of each map of a scsi_debug LUN, by the WWID that multipathd gives it."""
    lines = vm.out(["multipathd", "show", "maps", "raw", "format", "%w %n %d"]).splitlines()
    found = (line.split() for line in lines)
    return {wwid: (name, node) for wwid, name, node in found if "scsi_debug" in wwid}


def bring_up(vm: Vm) -> dict[str, tuple[str, str]]:
    """Attach the LUNs; return their maps once multipathd has made them all."""
    host = Host(vm)
    vm.run(
        f"modprobe scsi_debug num_tgts={TARGETS} max_luns={LUNS} dev_size_mb=8 delay=0", timeout_s=SLOWLY_S
    )
    maps: dict[str, tuple[str, str]] = host.wait(
        lambda: len(now := multipath_maps(vm)) == TARGETS * LUNS and now, "a map of each LUN", SLOWLY_S
    )
    vm.run(f"udevadm settle -t {SLOWLY_S:.0f}", timeout_s=SLOWLY_S)
    return maps


class Trace:
    """What the daemon opens, and the commands it starts, from construction to `end`."""

    def __init__(self, vm: Vm, daemon: int) -> None:
        self._vm = vm
        what = f"strace -f -qq -s 4096 -e trace=execve,openat -o {TRACE} -p {daemon}"
        vm.run(f"systemd-run -q --unit=trace {what}")
        untraced = f"grep -L 'TracerPid:.*[1-9]' /proc/{daemon}/task/*/status"
        vm.run(f'while [ -n "$({untraced})" ]; do sleep 0.2; done')

    def end(self) -> tuple[list[str], list[str]]:
        """Return the lines of what its own threads opened, and those of the commands."""
        self._vm.run("systemctl stop trace")
        lines = [line.split(maxsplit=1) for line in self._vm.out(["cat", TRACE]).splitlines()]
        commands = [(pid, said) for pid, said in lines if said.startswith("execve(")]
        children = {pid for pid, _ in commands}
        opened = [said for pid, said in lines if "openat" in said and pid not in children]
        return opened, [said for _, said in commands]


def devices_in(lines: list[str]) -> set[str]:
    return {name for line in lines for name in re.findall(r"\b(?:sd[a-z]+|dm-\d+)\b", line)}


def seen(host: Host) -> dict[str, Properties]:
    """Return the scsi_debug LUNs that p2vd sees with a path that is ready, by id."""
    return {
        source["Id"]: source
        for source in host.of(SOURCE)
        if "scsi_debug" in source["Id"] and source["PathsReady"] == 1
    }


@pytest.mark.campaign
def test_256_real_luns_are_what_multipath_says_and_one_that_changes_costs_no_look_at_another(vm: Vm) -> None:
    maps = bring_up(vm)
    host = Host.ready(vm)
    # p2vd says that it runs after twenty seconds, also where its first look at the host takes longer.
    sources = host.wait(lambda: len(now := seen(host)) == TARGETS * LUNS and now, "all LUNs", SLOWLY_S)
    # By the name that multipath takes: the T10 one, where sysfs has an NAA name for the same LUN.
    assert {wwid: source["Name"] for wwid, source in sources.items()} == {
        wwid: name for wwid, (name, _) in maps.items()
    }
    assert {(source["PathsTotal"], source["PathsReady"], source["Size"]) for source in sources.values()} == {
        (1, 1, 8 * MIB)
    }
    wwid, (_, node) = sorted(maps.items())[100]
    (path,) = vm.out(f"ls /sys/block/{node}/slaves").split()
    others = {name for _, name in maps.values()} - {node}
    others |= devices_in(
        vm.out(f"cd /sys/block && ls -d {' '.join(f'{one}/slaves/*' for one in others)}").split()
    )
    assert len(others) == 2 * (TARGETS * LUNS - 1)
    host.rescan()  # whatever p2vd was about to look at, it has looked at
    trace = Trace(vm, host.daemon())
    vm.run(f"echo offline > /sys/block/{path}/device/state")
    host.wait(
        lambda: next(s for s in host.of(SOURCE) if s["Id"] == wwid)["PathsReady"] == 0,
        "the path gone",
        SLOWLY_S,
    )
    opened, commands = trace.end()
    assert node in devices_in(opened)
    # The lab's own disks and volume groups may have news of their own meanwhile; the LUNs have none.
    assert devices_in(opened) & others == set()
    assert devices_in(commands) & others == set()
    most = int(vm.out(f"sed -n 's/^VmHWM:[[:space:]]*\\([0-9]*\\) kB/\\1/p' /proc/{host.daemon()}/status"))
    assert most < 200 * 1024
