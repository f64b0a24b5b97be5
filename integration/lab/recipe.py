"""What the lab's image is made of, and the keys under which its stages are cached."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from integration.lab.machine import ROOT, SRV

HERE = Path(__file__).parent
GUEST_TREE = HERE / "guest"
"""Files laid over the guest's root, at the same paths."""

PROJECT = HERE.parent.parent
"""The checkout whose p2vd is installed into the guest."""

SUITE = "bookworm"

SYSTEM = (
    "systemd systemd-sysv libpam-systemd udev dbus polkitd pkexec kmod iproute2 procps util-linux e2fsprogs "
    "xfsprogs parted gdisk socat strace openssh-server less psmisc busybox-static dmidecode linux-image-amd64"
)
STORAGE = (
    "lvm2 thin-provisioning-tools dmsetup open-iscsi multipath-tools sg3-utils lsscsi fio nbd-client "
    "qemu-utils"
)
HOSTILE = "kpartx mdadm"
"""What takes hold of a guest's disks on an ordinary host; every lab test runs beside it."""

PYTHON = (
    "python3 python3-dbus python3-gi python3-pyudev python3-pyroute2 python3-tenacity python3-libvirt "
    "python3-cattr python3-rich python3-xxhash python3-zstandard python3-systemd "
    "python3-setuptools python3-libnbd lowdown"
)
HYPERVISOR = "libvirt-daemon-system libvirt-clients libxml2-utils qemu-system-x86 ovmf"
"""`virt-xml-validate` is a script of libvirt-clients around libxml2-utils; a UEFI guest boots by ovmf."""

PACKAGES = tuple(f"{SYSTEM} {STORAGE} {HOSTILE} {PYTHON} {HYPERVISOR}".split())

LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")

NO_INITRAMFS = (
    'chroot "$1" dpkg-divert --quiet --local --rename --add /usr/sbin/update-initramfs && '
    'ln -s /bin/true "$1/usr/sbin/update-initramfs"'
)
"""The guest boots by the lab's own small initrd; Debian's would take half a minute to make, for nothing."""


def lab_dir() -> Path:
    """Return the cache of images, snapshots and running machines (`P2VD_LAB_DIR`)."""
    return Path(os.environ.get("P2VD_LAB_DIR") or Path.home() / ".cache" / "p2vd-lab")


def tree_key() -> str:
    """Return the key of the unpacked distribution: what is unpacked and what is left out."""
    return _digest([SUITE, *sorted(PACKAGES), *LEFT_OUT, NO_INITRAMFS])


def image_key() -> str:
    """Return the key of the bootable image: the unpacked distribution and all that is laid over it."""
    code = [(HERE / name).read_text() for name in ("image.py", "initrd.py")]
    return _digest([tree_key(), ROOT.size, SRV.size, *code, *_contents(GUEST_TREE)])


def base_key() -> str:
    """Return the key of the snapshot of the booted image: the image, QEMU's command line, the processor.

    The guest has measured how fast its clock, this processor's counter, runs.
    """
    processor = re.findall(r"^model name.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[:1]
    return _digest([image_key(), (HERE / "machine.py").read_text(), *processor])


def san_key() -> str:
    """Return the key of the snapshot with the SAN up: what is brought up, and the base."""
    return _digest([base_key(), (HERE / "layers.py").read_text()])


def p2vd_key() -> str:
    """Return the key of the snapshot with this checkout's p2vd installed."""
    installed = [text for name in ("p2vd", "conf", "units") for text in _contents(PROJECT / name)]
    return _digest([san_key(), (PROJECT / "setup.py").read_text(), *installed])


def project_files() -> list[Path]:
    """Return the files of the checkout that an installation needs, relative to it."""
    single = [Path("setup.py"), Path("README.md"), Path("LICENSE")]
    trees = [path for name in ("p2vd", "conf", "units") for path in _files(PROJECT / name)]
    return [path for path in single if (PROJECT / path).exists()] + [
        path.relative_to(PROJECT) for path in trees
    ]


def _files(root: Path) -> list[Path]:
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    )


def _contents(root: Path) -> Iterable[str]:
    for path in _files(root):
        yield f"{path.relative_to(root)} {path.stat().st_mode & 0o111:o}"
        yield hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]
