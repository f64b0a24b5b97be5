"""What this host has for guests, as /proc and /sys tell it."""

from pathlib import Path

import pytest

from p2vd.discovery.hardware import read_hardware
from p2vd.model.hardware import HostHardware
from p2vd.model.size import GIB, KIB
from p2vd.sim.script import HOST, parse
from p2vd.sim.world import World
from tests.discovery.host import Host, empty_host

# The beginning of a real host's; the flags cut short.
CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz
flags\t\t: fpu vme de pse tsc msr pae mce cx8 apic sep mtrr
clflush size\t: 64
address sizes\t: 39 bits physical, 48 bits virtual
power management:

processor\t: 1
"""
MEMINFO = "MemTotal:       16231284 kB\nMemFree:         1234567 kB\n"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = empty_host(tmp_path)
    host.write("devices/system/cpu/online", "0-7\n")
    host.write("class/misc/kvm/dev", "10:232\n")
    (host.proc / "cpuinfo").write_text(CPUINFO)
    (host.proc / "meminfo").write_text(MEMINFO)
    return host


def test_what_a_host_has_is_in_the_inventory(host: Host) -> None:
    found = host.discovery.scan().hardware
    assert found == HostHardware(cpus=8, memory_bytes=16231284 * KIB, address_bits=39, kvm=True)


@pytest.mark.parametrize(
    ("online", "cpus"), [("0\n", 1), ("0-3,8,10-11\n", 7), ("", 0), ("\n", 0), ("x-y", 0), ("0-3,?", 4)]
)
def test_processors_that_are_online_count(host: Host, online: str, cpus: int) -> None:
    host.write("devices/system/cpu/online", online)
    assert read_hardware(host.sysfs, host.proc).cpus == cpus


def test_without_its_device_there_is_no_kvm_whatever_nodes_are_in_dev(host: Host) -> None:
    (host.sysfs / "class/misc/kvm/dev").unlink()
    (host.sysfs / "class/misc/kvm").rmdir()
    host.write("class/misc/loop-control/dev", "10:237\n")
    (host.root / "dev").mkdir()
    (host.root / "dev/kvm").touch()
    assert host.discovery.scan().hardware.kvm is False


@pytest.mark.parametrize(
    "text", ["", "processor: 0\n", "MemTotal: many kB\naddress sizes : 9999999 bits physical"]
)
def test_what_is_not_told_is_not_known(tmp_path: Path, text: str) -> None:
    host = empty_host(tmp_path)
    assert read_hardware(host.sysfs, host.proc) == HostHardware()
    (host.proc / "cpuinfo").write_text(text)
    (host.proc / "meminfo").write_text(text)
    assert read_hardware(host.sysfs, host.proc) == HostHardware()


def test_a_change_of_a_disk_leaves_it_known(host: Host) -> None:
    discovery = host.discovery
    before = discovery.scan()
    assert discovery.refresh(["sdz"]).hardware == before.hardware


@pytest.mark.parametrize(
    ("script", "hardware"),
    [
        ("", HOST),
        (
            '[host]\ncpus = 1\nmemory = "256 GiB"\naddress_bits = 39\nkvm = false\n',
            HostHardware(1, 256 * GIB, 39, kvm=False),
        ),
    ],
)
def test_the_simulated_host_shows_what_its_script_says(
    tmp_path: Path, script: str, hardware: HostHardware
) -> None:
    root = World(parse("script", script), tmp_path).root
    assert read_hardware(root / "sys", root / "proc") == hardware
