"""p2vd-copy on real storage that fails: the kernel's own fault injectors under source and target."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from integration.content import fill, require_same
from integration.lab.san import San
from integration.lab.vm import Vm

pytestmark = pytest.mark.lab

MIB = 1 << 20
SECTOR = 512
DISK = "/dev/disk/by-id/virtio-LAB-DISK512"
DISK_BYTES = 32 * MIB
CHUNK = 64 << 10

Report = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a run of the tool ended."""

    code: int
    lines: list[Report]
    errors: str

    @property
    def report(self) -> Report:
        """The closing report."""
        return self.lines[-1]

    @property
    def failure(self) -> str:
        """The name of what ended it, empty: nothing did."""
        return str((self.report["failure"] or {"name": ""})["name"])


def copy(vm: Vm, source: str, target: str, *options: str, meanwhile: str = "") -> Ended:
    """Run p2vd-copy with the checkpoint /root/checkpoint; `meanwhile`: a shell script beside it.

    In the script `told WORD` waits until a line of the tool's JSON has that word, then goes on.
    """
    words = " ".join([source, target, "--checkpoint", "/root/checkpoint", "--json", *options])
    done = vm.run(
        f"""
        : > /root/out
        told() {{ until grep -q "$1" /root/out || ! kill -0 $copy 2> /dev/null; do sleep 0.3; done; }}
        p2vd-copy {words} > /root/out & copy=$!
        {meanwhile}
        wait $copy; code=$?
        cat /root/out; exit $code
        """,
        check=False,
        timeout_s=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return Ended(done.returncode, lines, done.stderr)


def table(vm: Vm, name: str, text: str, *, create: bool = False) -> None:
    """Give a dm device a table; `{dev}` in it is the disk."""
    text = text.format(dev=DISK)
    vm.run(f"dmsetup create {name}" if create else reload(name), stdin=text)


def reload(name: str) -> str:
    """Shell words that swap in the table from standard input; what is under way is not waited for."""
    return f"dmsetup load {name} && dmsetup suspend --noflush {name} && dmsetup resume {name}"


SECTORS = DISK_BYTES // SECTOR
WHOLE = f"0 {SECTORS} linear {{dev}} 0"
# Eight sectors at 20 MiB, and three a little further on, as dm-error has them.
BAD_AT, BAD_MORE = 20 * MIB // SECTOR + 9, 20 * MIB // SECTOR + 100
SICK = f"""0 {BAD_AT} linear {{dev}} 0
{BAD_AT} 8 error
{BAD_AT + 8} {BAD_MORE - BAD_AT - 8} linear {{dev}} {BAD_AT + 8}
{BAD_MORE} 3 error
{BAD_MORE + 3} {SECTORS - BAD_MORE - 3} linear {{dev}} {BAD_MORE + 3}"""
# One MiB at 16 MiB answers after twenty seconds: one of five is told.
SLOW = f"""0 32768 linear {{dev}} 0
32768 2048 delay {{dev}} 32768 20000
34816 {SECTORS - 34816} linear {{dev}} 34816"""


def make_lv(vm: Vm, kind: str, name: str = "target", size_bytes: int = DISK_BYTES) -> str:
    how = f"--type thin -V {size_bytes}b --thinpool pool0" if kind == "thin" else f"-L {size_bytes}b"
    vm.run(f"lvcreate -q -y -Wy {how} -n {name} vg_san")
    return f"/dev/vg_san/{name}"


def test_bad_sectors_are_narrowed_down_and_a_resync_fetches_them_once_they_are_mended(vm: Vm) -> None:
    fill(vm, DISK, 3)
    table(vm, "sick", SICK, create=True)
    target = make_lv(vm, "thin")
    options = ("--target-is-zero", "--mapfile", "/root/map")
    ended = copy(vm, "/dev/mapper/sick", target, *options)
    assert (ended.code, ended.failure) == (2, "ReadFailed")
    ended = copy(vm, "/dev/mapper/sick", target, *options, "--bad-sectors", "10")
    assert (ended.code, ended.failure) == (2, "TooManyBadSectors")
    ended = copy(vm, "/dev/mapper/sick", target, *options, "--bad-sectors", "11")
    bad = [[BAD_AT * SECTOR, 8 * SECTOR], [BAD_MORE * SECTOR, 3 * SECTOR]]
    assert (ended.code, ended.report["bad_ranges"]) == (4, bad)
    assert ended.report["bytes_bad"] == 11 * SECTOR
    listed = [line.split() for line in vm.out("grep -e ' -$' /root/map").splitlines()]
    assert [[int(start, 16), int(length, 16)] for start, length, _ in listed] == bad
    table(vm, "sick", WHOLE)
    ended = copy(vm, "/dev/mapper/sick", target, "--resync")
    assert (ended.code, ended.report["bytes_bad"]) == (0, 0)
    assert ended.report["bytes_same"] == DISK_BYTES - MIB
    require_same(vm, DISK, target, DISK_BYTES)


def test_medium_errors_of_a_scsi_disk(vm: Vm) -> None:
    """scsi_debug: ten sectors from 0x1234 on cannot be read, with sense data as a real disk has it."""
    vm.run("modprobe scsi_debug dev_size_mb=32 delay=0")
    name = vm.out("udevadm settle; ls /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block")
    # multipathd takes it, as it takes every SCSI disk of this host.
    upper = vm.out(f"until ls /sys/block/{name}/holders | grep '^dm-'; do sleep 0.3; done; udevadm settle")
    disk = f"/dev/{upper.split()[0]}"
    fill(vm, disk, 4)
    vm.run("cd /sys/bus/pseudo/drivers/scsi_debug && echo 2 > opts && echo 1 > every_nth")
    target = make_lv(vm, "thick")
    ended = copy(vm, disk, target, "--bad-sectors", "16")
    assert (ended.code, ended.failure) == (4, "")
    assert ended.report["bad_ranges"] == [[0x1234 * SECTOR, 10 * SECTOR]]
    # Under a target they are found by reading back.
    vm.run(f"rm /root/checkpoint; wipefs -q -a {disk}")
    ended = copy(vm, DISK, disk, "--force")
    assert (ended.code, ended.failure) == (2, "ReadFailed")
    assert ended.report["committed_bytes"] == DISK_BYTES


def test_an_io_that_takes_long_is_told_with_its_offset(vm: Vm) -> None:
    fill(vm, DISK, 5)
    table(vm, "slow", SLOW, create=True)
    ended = copy(vm, "/dev/mapper/slow", make_lv(vm, "thick"), "--verify", "none")
    assert ended.code == 0
    # On a busy machine others may take as long.
    stalled = [line for line in ended.lines if line["type"] == "stalled"]
    assert ("read", 16 * MIB) in [(line["operation"], line["offset"]) for line in stalled]


@pytest.mark.parametrize("kind", ["thin", "thick"])
def test_after_failed_writes_and_flushes_nothing_that_was_lost_is_committed(vm: Vm, kind: str) -> None:
    """The target fails at some moment of the copy, is mended, and fails again; the last run ends it."""
    # A minute at its limit: none of the moments comes too late.
    lun = San.of(vm).add("large", "128M")
    fill(vm, lun.backing, 6)
    size = lun.size_bytes
    under = make_lv(vm, kind, size_bytes=size)
    whole = f"0 {size // SECTOR} linear {under} 0"
    fails = f"0 {size // SECTOR} flakey {under} 0 0 60 1 error_writes"
    vm.run("dmsetup create target", stdin=whole)
    committed = 0
    for wait in (1, 2.5, 4):
        ended = copy(
            vm,
            lun.device,
            "/dev/mapper/target",
            "--bandwidth",
            "2M",
            *(["--target-is-zero"] if kind == "thin" else ["--force"]),
            meanwhile=f"""told '"phase": "copying"'; sleep {wait}
            echo '{fails}' | {{ {reload("target")}; }}""",
        )
        assert (ended.code, ended.failure) == (2, "WriteFailed")
        assert ended.report["committed_bytes"] >= committed
        committed = ended.report["committed_bytes"]
        vm.run(reload("target"), stdin=whole)
    ended = copy(vm, lun.device, "/dev/mapper/target")
    assert (ended.code, ended.report["bytes_skipped"]) == (0, committed)
    require_same(vm, lun.backing, under, size)


def test_writes_that_a_device_drops_in_silence_are_found_by_reading_back(vm: Vm) -> None:
    fill(vm, DISK, 7)
    size = DISK_BYTES // SECTOR
    under = make_lv(vm, "thick")
    vm.run("dmsetup create target", stdin=f"0 {size} linear {under} 0")
    drops = f"0 {size} flakey {under} 0 0 60 1 drop_writes"
    ended = copy(
        vm,
        DISK,
        "/dev/mapper/target",
        # A minute at its limit, most of which is left at the first commit. One thread: from the beginning on.
        *("--bandwidth", "512K", "--queue-depth", "1"),
        "--force",
        meanwhile=f"""told '"committed_bytes": [1-9]'
        echo '{drops}' | {{ {reload("target")}; }}""",
    )
    assert (ended.code, ended.failure) == (3, "TargetMismatch")
    assert 0 < ended.report["failure"]["length"] < DISK_BYTES
    assert ended.report["failure"]["offset"] > 0


def test_data_that_became_zeros_becomes_zeros_on_every_kind_of_target(vm: Vm) -> None:
    """Parts of a thin chunk too: a discard leaves these as they are."""
    san = San.of(vm)
    fill(vm, DISK, 8)
    clear = f"""
import os
disk = os.open("{DISK}", os.O_WRONLY)
for at, length in ((3 << 20, 1 << 20), (9 << 20, 4096), ((12 << 20) + 512, 99 << 9), (20 << 20, 5 << 20)):
    os.pwrite(disk, bytes(length), at)
os.fsync(disk)
"""
    targets = [make_lv(vm, "thin"), make_lv(vm, "thick", "other"), san.add("whole", "40M").device]
    for target in targets:
        zero = ["--target-is-zero"] if target.endswith("target") else ["--force"]
        vm.run("rm -f /root/checkpoint*")
        fill(vm, DISK, 8)
        assert copy(vm, DISK, target, *zero, "--verify", "none").code == 0
        vm.run("python3 -", stdin=clear)
        ended = copy(vm, DISK, target, "--resync", "--target-unchanged")
        assert (ended.code, ended.failure) == (0, "")
        assert ended.report["bytes_same"] > DISK_BYTES // 2
        require_same(vm, DISK, target, DISK_BYTES)


def test_a_mostly_empty_disk_takes_no_more_of_a_pool_than_its_data_in_whole_chunks(vm: Vm) -> None:
    places = [0, 5 * MIB + 125 * 4096, 5 * MIB + 150 * 4096, 17 * MIB - 4096, 31 * MIB]
    for place in places:
        vm.run(f"head -c 8192 /dev/urandom | dd of={DISK} bs=4K oflag=seek_bytes seek={place}")
    chunks = {at // CHUNK for place in places for at in (place, place + 4096)}
    target = make_lv(vm, "thin")
    assert copy(vm, DISK, target, "--target-is-zero").code == 0
    require_same(vm, DISK, target, DISK_BYTES)
    mapped = int(vm.out("dmsetup status vg_san-target").split()[3]) * SECTOR
    assert mapped <= len(chunks) * CHUNK


def test_a_pool_that_runs_full_is_waited_for(vm: Vm) -> None:
    fill(vm, DISK, 9)
    vm.run(
        "lvcreate -q -y --type thin-pool -Zy -L 8M -n small vg_san; "
        "lvchange -q -y --errorwhenfull y vg_san/small; "
        f"lvcreate -q -y -Wy --type thin -V {DISK_BYTES}b --thinpool small -n target vg_san"
    )
    ended = copy(
        vm,
        DISK,
        "/dev/vg_san/target",
        "--target-is-zero",
        meanwhile="""told '"type": "held"'; lvextend -q -y -L +64M vg_san/small > /dev/null""",
    )
    assert (ended.code, ended.failure) == (0, "")
    held = [line for line in ended.lines if line["type"] == "held"]
    assert held[0]["reason"] == "no-space"
    require_same(vm, DISK, "/dev/vg_san/target", DISK_BYTES)


def test_a_reserved_lun_is_neither_source_nor_target(vm: Vm) -> None:
    lun = San.of(vm)["boot1"]
    path = San.of(vm).paths("boot1")[0]
    vm.run(f"sg_persist -n --out --register --param-sark=abc123 /dev/{path}")
    vm.run(f"sg_persist -n --out --reserve --param-rk=abc123 --prout-type=5 /dev/{path}")
    for source, target in ((lun.device, "/root/file"), ("/bin/ls", lun.device)):
        ended = copy(vm, source, target, "--force")
        assert (ended.code, ended.failure) == (1, "DeviceReserved")


def test_run_while_the_first_path_of_its_map_is_down_the_tool_copies_by_the_other(vm: Vm) -> None:
    san = San.of(vm)
    lun, first = san["boot1"], min(san.paths("boot1"))
    san.path_state(first, "offline")
    ended = copy(vm, lun.device, "/root/file")
    san.path_state(first, "running")
    assert (ended.code, ended.failure) == (0, "")
    require_same(vm, lun.device, "/root/file", lun.size_bytes)
