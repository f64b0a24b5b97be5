"""A simulated host, looked at by one Discovery that refreshes; with images and arrays."""

from collections.abc import Sequence
from pathlib import Path

from p2vd.discovery.scanner import Discovery
from p2vd.model.inventory import Inventory
from p2vd.model.size import GIB, MIB
from p2vd.sim.commands import SimCommands
from p2vd.sim.files import SimFiles
from p2vd.sim.san import Lun
from p2vd.sim.script import parse
from p2vd.sim.volumes import Volumes
from p2vd.sim.world import World
from p2vd.system.command import CommandFailed, Result, SystemCommands

SCRIPT = """
luns = [
  { count = 4, paths = 3, size = "1 GiB" },
  { count = 2, paths = 1, size = "1 GiB" },
  { count = 2, paths = 2, size = "1 GiB", transport = "fc" },
]
[[volume_group]]
name = "vg_san"
luns = 2
size = "64 GiB"
pool = { size = "16 GiB" }
[[volume_group]]
name = "vg-thick"
size = "64 GiB"
"""
ARRAY = "5fd9e0b6:1c2a3b4c:0d1e2f3a:4b5c6d7e"
JOB = "11111111-2222-4333-8444-555555555555"


class Recording(SimCommands):
    """Simulated commands that are kept, and can fail; files are looked at by the real ones."""

    def __init__(self, volumes: Volumes) -> None:
        super().__init__(volumes, SimFiles((), Path("/nowhere")))
        self.calls: list[tuple[str, ...]] = []
        self.fails: tuple[str, ...] = ("nothing",)

    def query(self, argv: Sequence[str], *, timeout_s: float = 30.0, ok: Sequence[int] = (0,)) -> Result:
        self.calls.append(tuple(argv))
        if tuple(argv[: len(self.fails)]) == self.fails:
            raise CommandFailed(tuple(argv), 1, "it fails")
        if argv[0] in ("find", "readlink", "stat"):
            return SystemCommands().query(argv, timeout_s=timeout_s, ok=ok)
        if argv[0] == "mdadm":
            return Result(tuple(argv), 0, f"MD_UUID={ARRAY}\n", "")
        return super().query(argv, timeout_s=timeout_s, ok=ok)


class Host:
    """A simulated host, looked at by one Discovery that refreshes."""

    def __init__(self, directory: Path) -> None:
        self.world = World(parse("script", SCRIPT), directory / "sim")
        self.images = directory / "images"
        self.images.mkdir()
        for name in ("a.img", "b.img"):
            (self.images / name).write_bytes(bytes(MIB))
        self.san = self.world.san
        self.commands = Recording(self.world.volumes)
        self.discovery = self.new_discovery()
        self.discovery.scan()
        self.changed()
        self.commands.calls.clear()

    def new_discovery(self) -> Discovery:
        root = self.world.root
        return Discovery(self.commands, root / "sys", root / "proc", root, (self.images,))

    def changed(self) -> set[str]:
        names = set()
        while (event := self.world.uevents.poll()) is not None:
            names.add(event.sys_name)
        return names

    def refresh(self) -> Inventory:
        return self.discovery.refresh(self.changed())

    def lun(self, number: int = 0) -> Lun:
        """One that is no PV."""
        pvs = {pv.lun.wwid for group in self.world.volumes.groups.values() for pv in group.pvs}
        return [lun for lun in self.san.luns.values() if lun.wwid not in pvs][number]

    def lvm(self, *words: str, group: str = "vg_san") -> None:
        self.commands.change([*words, group], unit="test")

    def create(self, name: str, *, thin: bool = True) -> None:
        space = (
            ["--virtualsize", f"{GIB}b", "--thin", "--thinpool", "pool0"] if thin else ["--size", f"{GIB}b"]
        )
        group = "vg_san" if thin else "vg-thick"
        self.lvm("lvcreate", *space, "--name", name, "--addtag", f"p2vd.job={JOB}", group=group)

    @property
    def sysfs(self) -> Path:
        return self.world.root / "sys"

    def place(self, device: str) -> Path:
        """A disk's directory below /sys."""
        return (self.sysfs / "block" / device).resolve()

    def is_held(self, lun: Lun) -> bool:
        return lun.mapped and any((self.place(lun.device) / "holders").iterdir())

    def remount(self, *devices: str) -> None:
        lines = [
            f"{50 + n} 1 0:{50 + n} / /mnt/{n} rw - ext4 {device} rw\n" for n, device in enumerate(devices)
        ]
        (self.world.root / "proc/1/mountinfo").write_text("".join(lines))


def lvm_was_shown(host: Host) -> set[str]:
    shown = set()
    for call in host.commands.calls:
        if call[:2] == ("lvm", "fullreport"):
            shown |= {
                name
                for at, word in enumerate(call)
                if word == "--devices"
                for name in call[at + 1].split(",")
            }
    return shown
