"""The machine's operating system: what it is, what virtual hardware it can drive, how it keeps its clock."""

import re
from typing import Any, Dict, List, Optional, Set, Tuple

from p2vd.discovery.passport.reading import Host, fields, mounts
from p2vd.model.inquiry import clean_inquiry

_LIVE_ROOTS = ("overlay", "aufs", "tmpfs", "ramfs", "rootfs", "squashfs")

# Of the hardware that hypervisors offer, as modules are called.
_DRIVERS = {
    *(
        "virtio_pci",
        "virtio_blk",
        "virtio_scsi",
        "virtio_net",
        "virtio_console",
        "virtio_balloon",
        "virtio_rng",
    ),
    *("ahci", "ata_piix", "nvme", "sym53c8xx", "mptspi", "mptsas", "megaraid_sas", "BusLogic"),
    *("e1000", "e1000e", "8139cp", "8139too", "igb", "vmxnet3", "vmw_pvscsi", "usb_storage"),
    *("xen_blkfront", "xen_netfront", "hv_vmbus", "hv_storvsc", "hv_netvsc"),
}
_AGENTS = {
    "qemu-ga": "qemu-ga",
    "vmtoolsd": "open-vm-tools",
    "hv_kvp_daemon": "hyperv-daemons",
    "hypervkvpd": "hyperv-daemons",
    "xe-daemon": "xe-guest-utilities",
    "xe-linux-distribution": "xe-guest-utilities",
    "VBoxService": "virtualbox-guest-utils",
    "spice-vdagentd": "spice-vdagent",
}
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/bin")
_INITRAMFS = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}", "/boot/initramfs-{}")

# What every initramfs starts by, as lsinitramfs or lsinitrd lists it. Where a tool could not unpack all of it
# (microcode comes before it, packed otherwise), some versions say so by nothing but a short list.
_INIT = re.compile(r"(?:^|[ /])init(?: -> .*)?$", re.MULTILINE)


def is_live(host: Host) -> bool:
    """Whether this is a rescue or live system with nothing of the machine's own said to be mounted."""
    if host.system_root != host.root:
        return False
    kinds = [mount.kind for mount in mounts(host) if mount.place == "/"]
    return bool(kinds) and kinds[-1] in _LIVE_ROOTS


def system(host: Host) -> Dict[str, Any]:
    """Return the record's table `system`."""
    release = fields(host.own_text("/etc/os-release") or host.own_text("/usr/lib/os-release"), "=")
    if not release:
        release = _old_release(host)
    kernel = _kernel(host)
    drivers, builtin = _modules(host, kernel)
    listed = _initramfs(host, kernel) if drivers or builtin is not None else None
    return {
        "id": release.get("ID", ""),
        "name": clean_inquiry(release.get("PRETTY_NAME") or release.get("NAME") or ""),
        "version": release.get("VERSION_ID", ""),
        "kernel": kernel,
        "drivers": sorted(drivers),
        "boot_drivers": sorted((builtin or set()) | (listed or set())),
        "boot_drivers_known": builtin is not None and listed is not None,
        "agents": sorted(
            {_AGENTS[name] for place in _PROGRAMS for name in host.own_names(place) if name in _AGENTS}
        ),
    }


def _old_release(host: Host) -> Dict[str, str]:
    """Return what systems before os-release(5) say of themselves: `CentOS release 6.10 (Final)`."""
    text = host.own_text("/etc/redhat-release")
    version = re.search(r"\d+(\.\d+)?", text)
    if not text:
        host.problem("Which operating system this is, is not known: there is no /etc/os-release.")
        return {}
    name = text.split(" ")[0].lower()
    return {
        "ID": "rhel" if name == "red" else name,
        "NAME": text,
        "VERSION_ID": version.group() if version else "",
    }


def _kernel(host: Host) -> str:
    """Return the kernel that runs; in a rescue system the newest that the machine has installed."""
    if host.system_root == host.root:
        return host.text("/proc/sys/kernel/osrelease")
    names = host.own_names("/lib/modules")
    return max(names, key=_version, default="")


def _version(text: str) -> List[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _modules(host: Host, kernel: str) -> Tuple[Set[str], Optional[Set[str]]]:
    """Return which of _DRIVERS the kernel has, and which of these are built in; None: it does not say.

    Kernels before 2.6.33 have no list of what is built in.
    """
    place = f"/lib/modules/{kernel}"
    builtin = None
    if kernel and host.own_path(f"{place}/modules.builtin"):
        builtin = _known(host.own_text(f"{place}/modules.builtin"))
    loadable = _known(host.own_text(f"{place}/modules.dep"))
    if not host.own_names(place):
        host.problem(f"Which drivers the system has, is not known: there is no {place}.")
    return loadable | (builtin or set()), builtin


def _initramfs(host: Host, kernel: str) -> Optional[Set[str]]:
    """Return which of _DRIVERS the initramfs has; None: not known. Its own tools list it: they unpack it."""
    found = filter(None, (host.own_path(name.format(kernel)) for name in _INITRAMFS))
    path = next(found, "")
    if not path:
        host.problem(
            "Which drivers the system has when it starts, is not known: /boot has no initramfs of the kernel "
            f"{kernel}. If /boot is a filesystem of its own, mount it."
        )
        return None
    why = []
    for tool in ("lsinitramfs", "lsinitrd"):
        listing, problem = host.run([tool, path])
        if not problem and _INIT.search(listing):
            return _known(listing)
        problem = problem or "its list has no init"
        why.append(f"{tool}: {problem}")
    host.problem(
        f"Which drivers the system has when it starts, is not known: {path} cannot be listed "
        f"({'; '.join(why)})."
    )
    return None


def _known(listing: str) -> Set[str]:
    """Return which of _DRIVERS a list of module files names."""
    names = re.findall(r"([^/\s]+)\.ko(?:\.[a-z0-9]+)?(?=:|\s|$)", listing)
    return {name.replace("-", "_") for name in names} & _DRIVERS


def clock(host: Host) -> str:
    """Return the record's key `clock`: hwclock(8) and systemd take UTC where no file says otherwise."""
    lines = host.own_text("/etc/adjtime").splitlines()
    return "local" if len(lines) > 2 and lines[2].strip() == "LOCAL" else "utc"


def own_name(host: Host) -> str:
    """Return what the machine calls itself, without its domain."""
    if host.system_root != host.root:
        return host.own_text("/etc/hostname").split(".")[0]
    return host.text("/proc/sys/kernel/hostname").split(".")[0]
