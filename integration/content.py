"""What is on the disks of the physical machines, written and compared past every cache of the host."""

from integration.lab.san import San
from integration.lab.vm import Vm

# Runs in the guest. Every MiB that holds data differs from every other; runs of zeros of all sizes
# lie between, some of them of one sector; the first and the last MiB hold data.
_FILL = """
import os, random, struct, sys
path, seed, sector = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
choose, mib = random.Random(seed), 1 << 20
noise = choose.randbytes(mib)
disk = os.open(path, os.O_WRONLY)
size = os.lseek(disk, 0, os.SEEK_END)
for offset in range(0, size, mib):
    length = min(mib, size - offset)
    kind = choose.random() if 0 < offset < size - mib else 0.0
    if kind < 0.5:
        data = struct.pack("<QQ", seed, offset) + noise[16:length]
    elif kind < 0.6:
        data = bytearray(length)
        for _ in range(3):
            at = choose.randrange(0, length, sector)
            data[at:at + sector] = noise[:sector]
    else:
        data = bytes(length)
    os.pwrite(disk, data, offset)
os.fsync(disk)
"""

_SAME = """
import sys
source, target, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(source, "rb") as a, open(target, "rb") as b:
    for offset in range(0, size, 1 << 20):
        step = min(1 << 20, size - offset)
        if a.read(step) != b.read(step):
            sys.exit(f"they differ in the MiB at {offset}")
    while rest := b.read(1 << 20):
        if rest.strip(b"\\0"):
            sys.exit("beyond the size of the source the target is not zero")
"""


def fill(vm: Vm, path: str, seed: int, sector_size: int = 512) -> None:
    """Fill a device or backing file with data and zeros that `seed` determines."""
    vm.run(f"python3 - {path} {seed} {sector_size}", stdin=_FILL)


def fill_lun(san: San, name: str, seed: int) -> str:
    """Fill a LUN behind the initiator's back; return its SHA-256."""
    fill(san.vm, san[name].backing, seed, san[name].sector_size)
    return san.digest(name)


def require_same(vm: Vm, source: str, target: str, size_bytes: int) -> None:
    """Compare a source (device or backing file) with the LV, which is zero beyond. Raises GuestError."""
    vm.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    vm.run(f"python3 - {source} {target} {size_bytes}", stdin=_SAME, timeout_s=600)
