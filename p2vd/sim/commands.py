"""The door to commands, answered by the simulated SAN in the words of the real tools."""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from p2vd.sim.files import SimFiles
from p2vd.sim.iscsi import Iscsi
from p2vd.sim.lvm import Answered, Lvm
from p2vd.sim.mapper import DmDevice
from p2vd.sim.multipath import Multipath
from p2vd.sim.san import IQN, Lun, SimPath
from p2vd.sim.volumes import Volumes
from p2vd.system.command import CommandFailed, CommandTimedOut, Result, command_line, log_late

log = logging.getLogger(__name__)

_NOT_FOUND = 127


class SimCommands:
    """Commands of the simulated host. Thread-safe. `counts`: how often each program was run."""

    def __init__(self, volumes: Volumes, files: SimFiles) -> None:
        self._volumes = volumes
        self._san = volumes.san
        self._lvm = Lvm(volumes)
        self._iscsi = Iscsi(volumes.san)
        multipath = Multipath(volumes.san, volumes.mapper)
        self._changes = {
            **self._lvm.commands,
            "iscsiadm": self._iscsi.iscsiadm,
            "multipath": multipath.multipath,
            "sh": multipath.delete,
        }
        self.counts: dict[str, int] = {}
        self._slow: dict[str, tuple[float, threading.Event]] = {}
        self._running: set[str] = set()
        self._queries: dict[tuple[str, ...], Callable[[Sequence[str]], str]] = {
            ("multipathd", "show", "maps", "json"): self._maps,
            ("multipathd", "show", "map"): self._map,
            ("lvm", "fullreport"): self._lvm.fullreport,
            ("lvm", "systemid"): lambda _: "  system ID: \n",
            ("lvm", "lvmconfig", "--type", "full"): self._lvm.lvmconfig,
            ("dmsetup", "info"): self._dm_info,
            ("dmsetup", "table"): self._dm_table,
            ("dmsetup", "status"): self._dm_status,
            ("/lib/udev/scsi_id",): self._iscsi.identity,
            ("udevadm", "settle"): lambda _: "",
            ("blockdev", "--setro"): lambda words: self._set_read_only(words, True),
            ("blockdev", "--setrw"): lambda words: self._set_read_only(words, False),
            (sys.executable, "-m", "p2vd.system.attribute"): _scan,
            (sys.executable, "-m", "p2vd.system.image_file"): files.step,
            ("stat", "--file-system"): files.stat_filesystem,
            ("stat", "--printf=%i@%.9W"): files.stat_file,
        }

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        """Answer a query. Raises CommandFailed, also for a command that the simulator does not know."""
        self._linger(argv, timeout_s, lambda: _kill(argv, timeout_s))
        for prefix, answer in self._queries.items():
            if tuple(argv[: len(prefix)]) == prefix:
                return self._run(argv, answer, argv[len(prefix) :], ok)
        raise CommandFailed(tuple(argv), _NOT_FOUND, "the simulated host has no such command.")

    def change(
        self,
        argv: Sequence[str],
        *,
        unit: str,
        deadline_s: float = 60.0,
        on_late: Callable[[str], None] = log_late,
        ok: Sequence[int] = (0,),
        properties: Sequence[str] = (),
        must_exit: bool = False,
    ) -> Result:
        """Run a change. Raises CommandFailed, also for a command that the simulator does not know."""
        log.info("simulated change %s: %s", unit, command_line(argv))
        run = self._changes.get(argv[0])
        if run is None:
            raise CommandFailed(tuple(argv), _NOT_FOUND, "the simulated host has no such command.")
        self._running.add(unit)
        try:
            self._linger(argv, deadline_s, lambda: on_late(unit))
            return self._run(argv, run, argv[1:], ok)
        finally:
            self._running.discard(unit)

    def running_changes(self) -> frozenset[str]:
        """Return the units of changes that have not ended: of slow ones."""
        return frozenset(self._running)

    def slow_down(self, program: str, seconds: float) -> Callable[[], None]:
        """Let each run of a program take so long; returns what ends that, also for those that run."""
        over = threading.Event()
        self._slow[program] = (seconds, over)

        def end() -> None:
            self._slow.pop(program, None)
            over.set()

        return end

    def _linger(self, argv: Sequence[str], deadline_s: float, late: Callable[[], None]) -> None:
        seconds, over = self._slow.get(argv[0], (0.0, None))
        if over is None or over.wait(min(seconds, deadline_s)) or seconds <= deadline_s:
            return
        late()
        over.wait(seconds - deadline_s)

    def _run(
        self,
        argv: Sequence[str],
        answer: Callable[[Sequence[str]], str],
        words: Sequence[str],
        ok: Sequence[int],
    ) -> Result:
        with self._san.lock:
            self.counts[argv[0]] = self.counts.get(argv[0], 0) + 1
            try:
                result = Result(tuple(argv), 0, answer(words), "")
            except Answered as ended:
                result = Result(tuple(argv), ended.returncode, "", ended.stderr)
        if result.returncode not in ok:
            raise CommandFailed(result.argv, result.returncode, result.stderr)
        return result

    def _maps(self, _: Sequence[str]) -> str:
        maps = ",".join(_map_json(lun) for lun in self._san.luns.values() if lun.mapped)
        return f'{{\n   "major_version": 0,\n   "minor_version": 1,\n   "maps": [{maps}]\n}}\n'

    def _map(self, words: Sequence[str]) -> str:
        lun = self._san.lun_of(words[0])
        if lun is None or not lun.mapped or words[1:] != ["json"]:
            raise Answered(1, "fail\n")
        return f'{{\n   "major_version": 0,\n   "minor_version": 1,\n   "map":{_map_json(lun)}\n}}\n'

    def _dm_info(self, words: Sequence[str]) -> str:
        if words[-2:] == ["-o", "open,name"]:
            return self._dm_opens()
        if "uuid,open,suspended,readonly,name" not in words:
            raise Answered(1, f"  The simulator does not know dmsetup info {' '.join(words)}.\n")
        device = self._dm_device(words, "Device does not exist.")
        opens = self._volumes.mapper.open_count(device)
        return f"{device.uuid}:{opens}:Active:Writeable:{device.name}\n"

    def _dm_device(self, words: Sequence[str], absent: str) -> DmDevice:
        """Return a device by its name, or, where -u stands before it, UUID; `absent`: what is said else."""
        volumes, wanted = self._volumes, words[-1]
        if "-u" in words:
            maps = (volumes.map_of(lun) for lun in self._san.luns.values() if lun.mapped)
            known = (*volumes.mapper.devices.values(), *maps)
            device = next((device for device in known if device.uuid == wanted), None)
        else:
            device = volumes.mapper.devices.get(wanted) or volumes.map_named(wanted)
        if device is None:
            raise Answered(1, f"{absent}\nCommand failed.\n")
        return device

    def _dm_opens(self) -> str:
        mapper = self._volumes.mapper
        maps = [
            (mapper.open_count(self._volumes.map_of(lun)), lun.map_name)
            for lun in self._san.luns.values()
            if lun.mapped
        ]
        volumes = [(mapper.open_count(device), name) for name, device in mapper.devices.items()]
        return "".join(f"{count}:{name}\n" for count, name in (*maps, *volumes))

    def _dm_table(self, words: Sequence[str]) -> str:
        return self._dm_device(words, f"Device {words[-1]} not found").table + "\n"

    def _dm_status(self, words: Sequence[str]) -> str:
        """Tell the state of a thin pool, as the kernel's thin-provisioning.rst describes it."""
        table = self._dm_table(words).split()
        group = self._volumes.group_of_pool(words[-1])
        if group is None:
            raise Answered(1, f"  The simulator tells the status of pools only, not of {words[-1]}.\n")
        chunk = int(table[5]) * 512
        total = int(table[1]) * 512 // chunk
        used = min(group.pool_used_bytes() // chunk, total)
        metadata, all_metadata = group.metadata_blocks()
        mode = "out_of_data_space" if used == total else "rw"
        return (
            f"0 {table[1]} thin-pool 1 {metadata}/{all_metadata} {used}/{total} - {mode} discard_passdown "
            "queue_if_no_space - 256 \n"
        )

    def _set_read_only(self, devnodes: Sequence[str], read_only: bool) -> str:
        for devnode in devnodes:
            try:
                self._san.set_read_only([devnode.rpartition("/")[2]], read_only)
            except KeyError:
                raise Answered(1, f"blockdev: cannot open {devnode}: No such file or directory\n") from None
        return ""


def _kill(argv: Sequence[str], timeout_s: float) -> None:
    raise CommandTimedOut(tuple(argv), timeout_s)


def _scan(words: Sequence[str]) -> str:
    """Have the kernel look for LUNs: it knows those that are attached, and finds no other."""
    if not Path(words[0]).exists():
        raise Answered(1, f"{words[0]}: No such file or directory\n")
    return ""


def _map_json(lun: Lun) -> str:
    """Return one map as multipathd 0.9.4 writes it: two groups of paths, the first one in use."""
    paths = [path for path in lun.paths if path.in_map]
    half = -(-len(paths) // 2)
    groups = [group for group in (paths[:half], paths[half:]) if group]
    told = ",".join(_group_json(number, group) for number, group in enumerate(groups, 1))
    return f"""{{
      "name" : "{lun.map_name}",
      "uuid" : "{lun.wwid}",
      "sysfs" : "{lun.device}",
      "failback" : "-",
      "queueing" : "5 chk",
      "paths" : {len(paths)},
      "write_prot" : "rw",
      "dm_st" : "active",
      "features" : "1 queue_if_no_path",
      "hwhandler" : "1 alua",
      "action" : "",
      "path_faults" : 0,
      "vend" : "P2VDSIM",
      "prod" : "SIMULATED",
      "rev" : "1.0",
      "switch_grp" : 0,
      "map_loads" : 2,
      "total_q_time" : 0,
      "q_timeouts" : 0,
      "path_groups": [{told}]
   }}"""


def _group_json(number: int, paths: Sequence[SimPath]) -> str:
    state, priority = ("active", 50) if number == 1 else ("enabled", 10)
    told = ",".join(_path_json(path, priority) for path in paths)
    return f"""{{
         "selector" : "service-time 0",
         "pri" : {priority},
         "dm_st" : "{state}",
         "marginal_st" : "normal",
         "group" : {number},
         "paths": [{told}]
      }}"""


def _path_json(path: SimPath, priority: int) -> str:
    return f"""{{
            "dev" : "{path.device}",
            "dev_t" : "{path.number}",
            "dm_st" : "{"active" if path.ready else "failed"}",
            "dev_st" : "running",
            "chk_st" : "{"ready" if path.ready else "faulty"}",
            "checker" : "tur",
            "pri" : {priority},
            "host_wwnn" : "[undef]",
            "target_wwnn" : "{IQN}",
            "host_wwpn" : "[undef]",
            "target_wwpn" : "[undef]",
            "host_adapter" : "192.0.2.{path.host}",
            "lun_hex" : "0x{path.lun:04x}000000000000",
            "marginal_st" : "normal"
         }}"""
