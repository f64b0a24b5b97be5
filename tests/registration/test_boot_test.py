"""The boot test: what it starts, what it watches, what it leaves behind."""

import contextlib
import resource
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2vd.model.boot_test import Sign
from p2vd.model.plan import Firmware
from p2vd.model.size import GIB
from p2vd.registration.boot_test import BootTester
from p2vd.registration.errors import (
    BootTestCannotRun,
    BootTestEnded,
    BootTestInterrupted,
    VolumeInUse,
    VolumeWritten,
)
from p2vd.system.command import CommandFailed, Result
from tests.registration.boot_host import UNIT, BootHost, FakeQemu

MARKER = b"Welcome to GRUB!\r\nLAB-BOOT-MARKER\r\n"


@pytest.fixture
def host() -> Iterator[BootHost]:
    # Not pytest's own directory: the path of a socket is short.
    with tempfile.TemporaryDirectory() as name:
        yield BootHost(Path(name))


def of(host: BootHost) -> BootTester:
    return BootTester(host.commands, host.host)


def never() -> threading.Event:
    return threading.Event()


def test_a_guest_that_says_what_is_expected_has_booted(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.say(MARKER)
    report = of(host).run(host.request("LAB-BOOT-.*"), never())
    assert report.booted
    assert report.sign is Sign.SERIAL
    assert report.seen == "The guest booted: its serial port said 'LAB-BOOT-MARKER'."
    assert report.serial == MARKER.decode().replace("\r\n", "\n")
    assert report.screen.startswith(b"\x89PNG")
    assert report.accelerator == "tcg"


def test_a_daemon_with_more_descriptors_than_select_can_name(host: BootHost) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the hard limit of open files is below 2048")
    host.guest = lambda qemu: qemu.say(MARKER)
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        while opened.enter_context(Path("/dev/null").open("rb")).fileno() < 1024:
            pass
        assert of(host).run(host.request("LAB-BOOT-.*"), never()).booted


def test_the_unit_may_read_the_volume_and_nothing_else(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.say(MARKER)
    of(host).run(host.request("LAB"), never())
    devices = [value for value in host.unit_properties if value.startswith("Device")]
    assert devices == ["DevicePolicy=closed", f"DeviceAllow={host.root}/vg_san-erp1 r"]
    for wanted in ("DynamicUser=yes", "PrivateNetwork=yes", "CapabilityBoundingSet=", "BindsTo=p2vd.service"):
        assert wanted in host.unit_properties
    assert "RuntimeMaxSec=210" in host.unit_properties


def test_kvm_is_used_where_it_is_there_and_the_machine_is_defined_so(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.say(MARKER)
    (host.root / "kvm").touch()
    assert of(host).run(host.request("LAB"), never()).accelerator == "kvm"
    assert "DeviceAllow=/dev/kvm rw" in host.unit_properties
    assert "SupplementaryGroups=disk kvm" in host.unit_properties


def test_what_an_earlier_daemon_left_is_ended_first_and_this_one_last(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.say(MARKER)
    of(host).run(host.request("LAB"), never())
    programs = [argv[0] for argv in host.commands.queries]
    assert programs == ["systemctl", "dmsetup", "systemd-run", "systemctl"]
    assert not (host.root / "run" / UNIT).exists()


def test_a_volume_that_is_open_is_not_tested(host: BootHost) -> None:
    host.commands.replace("dmsetup info", "1\n")
    with pytest.raises(VolumeInUse, match="vg_san-erp1 of machine erp1 is open already"):
        of(host).run(host.request(), never())
    assert not host.qemus


@pytest.mark.parametrize(("writes", "discards"), [(5, 0), (4, 1)])
def test_a_volume_that_was_written_meanwhile_spoils_the_result(
    host: BootHost, writes: int, discards: int
) -> None:
    def guest(qemu: FakeQemu) -> None:
        host.wrote(writes, discards)
        qemu.say(MARKER)

    host.guest = guest
    with pytest.raises(VolumeWritten, match="vg_san-erp1"):
        of(host).run(host.request("LAB"), never())


def test_uefi_needs_a_firmware(host: BootHost) -> None:
    with pytest.raises(BootTestCannotRun, match="apt-get install ovmf"):
        of(host).run(host.request(firmware=Firmware.UEFI), never())


def test_a_machine_larger_than_this_host_is_not_started(host: BootHost) -> None:
    with pytest.raises(BootTestCannotRun, match=r"it has 256 GiB of memory.* --memory"):
        of(host).run(host.request(memory=256 * GIB), never())


def test_qemu_that_cannot_be_started_is_said(host: BootHost) -> None:
    host.commands.replace("systemd-run", Result((), 1, "", "Failed to start transient service unit"))
    with pytest.raises(CommandFailed, match="Failed to start transient service unit"):
        of(host).run(host.request(), never())
    assert host.commands.queries[-1][:2] == ("systemctl", "stop")


def test_qemu_that_ends_by_itself_is_said_with_its_last_words(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.end()
    with pytest.raises(BootTestEnded, match="could not open disk image"):
        of(host).run(host.request(), never())


def test_the_end_of_the_daemon_ends_the_test(host: BootHost) -> None:
    stop = threading.Event()
    host.guest = lambda _: stop.set()
    with pytest.raises(BootTestInterrupted):
        of(host).run(host.request(), stop)
    assert not (host.root / "run" / UNIT).exists()


def test_events_are_heard_while_a_command_runs(host: BootHost) -> None:
    def guest(qemu: FakeQemu) -> None:
        qemu.event("RESUME")
        for _ in range(3):
            qemu.event("RESET")

    host.guest = guest
    report = of(host).run(host.request(), never())
    assert report.seen.startswith("The guest was reset 3 times")


def test_a_monitor_that_is_slow_holds_nothing_up(host: BootHost) -> None:
    """Seen: an emulated processor busy with its disk kept QEMU from a screendump for a minute."""

    def guest(qemu: FakeQemu) -> None:
        qemu.mute |= {"query-blockstats", "screendump"}
        qemu.say(b"\r\nKernel panic - not syncing\r\n")

    host.guest = guest
    report = of(host).run(host.request(timeout_s=5), never())
    assert "the kernel panicked" in report.seen
    assert host.qemus[0].asked.count("screendump") <= 1


def test_an_agent_that_answers_is_a_sign(host: BootHost) -> None:
    def guest(qemu: FakeQemu) -> None:
        qemu.ports["agent"].sendall(b'{"return": {}}\n')
        qemu.event("SHUTDOWN")

    host.guest = guest
    report = of(host).run(host.request(), never())
    assert report.sign is Sign.AGENT
    assert "query-blockstats" in host.qemus[0].asked


def test_the_bios_own_port_is_read(host: BootHost) -> None:
    host.guest = lambda qemu: qemu.ports["firmware"].sendall(
        b"No bootable device.  Retrying in 60 seconds.\n"
    )
    assert "nothing to boot from" in of(host).run(host.request(), never()).seen


def test_time_runs_out(host: BootHost) -> None:
    report = of(host).run(host.request(timeout_s=1), never())
    assert not report.booted
    assert report.seen.endswith("it read 5 MiB of its disks.")
