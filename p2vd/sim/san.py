"""The simulated SAN: LUNs, their paths and multipath maps, and what is seen of them in sysfs."""

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from p2vd.model.disk import Transport
from p2vd.sim.events import Uevents
from p2vd.sim.script import Luns
from p2vd.sim.tree import Tree

IQN = "iqn.2026-01.org.example.sim:array1"
_DM_MAJOR, _SD_MAJOR = 253, 8
_FIRST_FC_HOST = 200


@dataclass(slots=True)
class SimPath:
    """One path: the device of this moment, whether I/O goes through, and whether the map holds it."""

    device: str
    number: str
    host: int
    lun: int
    ready: bool = True
    in_map: bool = True


@dataclass(slots=True)
class Lun:
    """A LUN with its multipath map, if it is `mapped`. `size_bytes` may grow; `kind` is the script's."""

    wwid: str
    serial: str
    kind: Luns
    size_bytes: int
    number_of_all: int
    map_name: str
    device: str
    paths: list[SimPath] = field(default_factory=list)
    mapped: bool = False
    bad_sectors: int = 0
    """So many in its middle cannot be read."""
    writes: int = 0
    """How often its machine wrote to it, which it should not."""

    @property
    def path_names(self) -> tuple[str, ...]:
        """The kernel's names of the paths."""
        return tuple(path.device for path in self.paths)

    @property
    def node(self) -> str:
        """Where the map is opened."""
        return f"/dev/mapper/{self.map_name}"

    @property
    def number(self) -> str:
        """The map's MAJ:MIN."""
        return dm_number(self.device)


class San:
    """Every LUN by its WWID. Thread-safe; what changes it announces it by uevents."""

    def __init__(self, tree: Tree, uevents: Uevents) -> None:
        self.lock = threading.RLock()
        self.luns: dict[str, Lun] = {}
        self._by_path: dict[str, Lun] = {}
        self.uevents = uevents
        self.tree = tree
        self._disks = 0
        self._dms = 0
        self._serials = 0
        self._hosts: set[int] = set()
        self.sessions: set[int] = set()
        """Numbers of iSCSI sessions; each is its SCSI host's too."""

    def next_dm(self) -> str:
        """Return a device-mapper name that was never used."""
        self._dms += 1
        return f"dm-{self._dms - 1}"

    def attach(self, kind: Luns) -> list[Lun]:
        """Map `kind.count` new LUNs to the host, every path of them ready."""
        with self.lock:
            return [self._attach_one(kind) for _ in range(kind.count)]

    def attach_again(self, lun: Lun) -> None:
        """Map a LUN, or one that was detached: the same one, by new devices."""
        with self.lock:
            lun.device = self.next_dm()
            lun.paths = []
            for number in range(lun.kind.paths):
                lun.paths.append(self._attach_path(lun, number))
            self.uevents.send("add", *lun.path_names)
            self._map(lun)
            self.luns[lun.wwid] = lun

    def detach(self, wwid: str) -> None:
        """Unmap a LUN that nothing is stacked on: its map and its paths go."""
        with self.lock:
            if self.luns[wwid].mapped:
                self.drop_map(wwid)
            names = self.luns.pop(wwid).path_names
            for name in names:
                del self._by_path[name]
                self.tree.remove(name)
            self.uevents.send("remove", *names)

    def grow(self, wwid: str, size_bytes: int) -> None:
        """Make a LUN larger, as a rescan of its paths and a reload of its map show it."""
        with self.lock:
            lun = self.luns[wwid]
            lun.size_bytes = size_bytes
            names = (*lun.path_names, *((lun.device,) if lun.mapped else ()))
            for name in names:
                self.tree.write(name, "size", f"{size_bytes // 512}\n")
            self.uevents.send("change", *names)

    def drop_map(self, wwid: str) -> None:
        """Flush the map of a LUN that nothing is stacked on, as multipath -f does."""
        with self.lock:
            lun = self.luns[wwid]
            lun.mapped = False
            self.tree.remove(lun.device)
            self.uevents.send("remove", lun.device)

    def make_map(self, wwid: str) -> None:
        """Make the map of a LUN, over all its paths."""
        with self.lock:
            lun = self.luns[wwid]
            lun.device = self.next_dm()
            self._map(lun)

    def add_path(self, wwid: str, *, in_map: bool) -> str:
        """Give a LUN one more path, which its map takes in or not. Returns the path's device."""
        with self.lock:
            lun = self.luns[wwid]
            path = self._attach_path(lun, len(lun.paths))
            path.in_map = in_map and lun.mapped
            lun.paths.append(path)
            self.uevents.send("add", path.device)
            if path.in_map:
                self.tree.stack(path.device, lun.device)
                self.uevents.send("change", lun.device)
            return path.device

    def drop_path(self, device: str) -> None:
        """Take a path away, from its map too."""
        with self.lock:
            lun, path = self._path(device)
            lun.paths.remove(path)
            if lun.mapped and path.in_map:
                self.tree.unstack(device, lun.device)
                self.uevents.send("change", lun.device)
            del self._by_path[device]
            self.tree.remove(device)
            self.uevents.send("remove", device)

    def set_path(self, device: str, *, ready: bool) -> None:
        """Let a path fail or return, as multipathd's checker sees it and the map's uevent tells."""
        with self.lock:
            lun, path = self._path(device)
            path.ready = ready
            self.uevents.send("change", lun.device)

    def set_port(self, host: int, *, ready: bool) -> None:
        """Let the array's port behind a Fibre Channel host fail or return; only its paths make uevents."""
        with self.lock:
            state = "Online" if ready else "Blocked"
            self.tree.port("fc_remote_ports", f"rport-{host}:0-1", {"port_state": state})
            for device in [name for name in self._by_path if self._path(name)[1].host == host]:
                self.set_path(device, ready=ready)

    def set_read_only(self, devices: Iterable[str], read_only: bool) -> None:
        """Set the flag of BLKROSET. Raises KeyError for a device that is not there."""
        with self.lock:
            for device in devices:
                self.tree.write(device, "ro", f"{int(read_only)}\n")

    def lun_of(self, devnode: str) -> Lun | None:
        """Return the LUN of a map or path by its node."""
        name = devnode.rpartition("/")[2]
        with self.lock:
            if (lun := self._by_path.get(name)) is not None:
                return lun
            return next((lun for lun in self.luns.values() if name in (lun.map_name, lun.device)), None)

    def _path(self, device: str) -> tuple[Lun, SimPath]:
        lun = self._by_path[device]
        return lun, next(path for path in lun.paths if path.device == device)

    def _attach_one(self, kind: Luns) -> Lun:
        self._serials += 1
        serial = hashlib.sha256(f"p2vd-sim-{self._serials}".encode()).hexdigest()[:25]
        name = f"mpath{letters(self._serials - 1)}"
        lun = Lun(f"36001405{serial}", serial, kind, kind.size_bytes, self._serials - 1, name, "")
        self.attach_again(lun)
        return lun

    def _map(self, lun: Lun) -> None:
        self.tree.add(
            lun.device,
            f"devices/virtual/block/{lun.device}",
            {
                **basics(lun.number, lun.size_bytes, lun.kind.sector_size),
                **dm_attributes(lun.map_name, f"mpath-{lun.wwid}"),
            },
        )
        for path in lun.paths:
            path.in_map = True
            self.tree.stack(path.device, lun.device)
        lun.mapped = True
        self.uevents.send("add", lun.device)
        self.uevents.send("change", lun.device)

    def _attach_path(self, lun: Lun, number: int) -> SimPath:
        device = f"sd{letters(self._disks)}"
        fibre = lun.kind.transport is Transport.FC
        host = number + (_FIRST_FC_HOST if fibre else 1)
        path = SimPath(device, f"{_SD_MAJOR}:{self._disks * 16}", host, lun.number_of_all)
        self._disks += 1
        self._by_path[device] = lun
        if fibre:
            adapter = f"devices/pci0000:00/0000:00:03.0/host{host}/rport-{host}:0-1"
        else:
            adapter = f"devices/platform/host{host}/session{host}"
        self._log_in(host, fibre=fibre)
        hctl = f"{host}:0:0:{path.lun}"
        # As LIO writes it: the length counts the NUL at the end.
        page_80 = b"\0\x80\0\x1a" + lun.serial.encode() + b"\0"
        self.tree.add(
            device,
            f"{adapter}/target{host}:0:0/{hctl}/block/{device}",
            {
                **basics(path.number, lun.size_bytes, lun.kind.sector_size),
                "device/vendor": "P2VDSIM \n",
                "device/model": f"{lun.kind.model:16}\n",
                "device/wwid": f"naa.6001405{lun.serial}\n",
                "device/state": "running\n",
                "device/vpd_pg80": page_80,
            },
        )
        return path

    def _log_in(self, host: int, *, fibre: bool) -> None:
        if host in self._hosts:
            return
        self._hosts.add(host)
        self.tree.port("scsi_host", f"host{host}", {"scan": ""})
        if fibre:
            self._link(host)
        else:
            self.sessions.add(host)
            self.tree.session(host, host, address_of(host), IQN)

    def _link(self, host: int) -> None:
        """Show an HBA and the array's port that it sees; names as of NAA 2, with local addresses."""
        hba = {
            "port_name": f"0x200002000000{host:04x}",
            "node_name": f"0x100002000000{host:04x}",
            "port_id": "0x010100",
            "port_state": "Online",
            "port_type": "NPort (fabric via point-to-point)",
            "speed": "16 Gbit",
            "symbolic_name": f"simulated HBA {host}",
        }
        array = {
            "port_name": f"0x200002000001{host:04x}",
            "node_name": "0x1000020000010000",
            "port_id": "0x010200",
            "port_state": "Online",
            "roles": "FCP Target",
            "scsi_target_id": "0",
        }
        self.tree.port("fc_host", f"host{host}", hba)
        self.tree.port("fc_remote_ports", f"rport-{host}:0-1", array)


def address_of(session: int) -> str:
    """Return where a session goes to: 192.0.2.0/24 is for examples (RFC 5737)."""
    return f"192.0.2.{session}"


def basics(number: str, size_bytes: int, sector_size: int) -> dict[str, str | bytes]:
    """Return the attributes that every disk has."""
    return {
        "dev": f"{number}\n",
        "size": f"{size_bytes // 512}\n",
        "ro": "0\n",
        "queue/logical_block_size": f"{sector_size}\n",
    }


def dm_attributes(name: str, uuid: str) -> dict[str, str | bytes]:
    """Return the attributes that a device-mapper device has besides."""
    return {"dm/name": f"{name}\n", "dm/uuid": f"{uuid}\n", "dm/suspended": "0\n"}


def dm_number(device: str) -> str:
    """Return MAJ:MIN of `dm-N`."""
    return f"{_DM_MAJOR}:{device.removeprefix('dm-')}"


def letters(index: int) -> str:
    """Return what the kernel puts behind `sd` for the disk of that index: a, ..., z, aa, ab, ..."""
    text = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        text = chr(ord("a") + letter) + text
    return text
