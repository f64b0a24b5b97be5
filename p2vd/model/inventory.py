"""Everything that discovery saw at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from p2vd.model.directory import TargetDirectory
from p2vd.model.disk import Source
from p2vd.model.errors import NotFound, Reason, Refused
from p2vd.model.fc import Hba
from p2vd.model.hardware import HostHardware
from p2vd.model.lvm import Vg


@dataclass(frozen=True)
class Inventory:
    """Sources and volume groups of one moment. Immutable: a change makes a new one.

    `exposures`: what on this host could take hold of a guest's disk, each with the remedy; a host
    with any is refused at plan time. `problems`: what discovery was told is wrong or could not
    read; `unread` are those of them without which the rest is no whole picture. `paths`: disks that
    are one path of a multipathed LUN, by their names of this moment (`sda`), with the LUN's id.
    `hardware`: what this host itself can give to guests.

    Of a failed look nothing follows: the inventory before it stays in force, with `stale_since_us`
    (microseconds since the epoch, 0: current) and `stale_cause` set.

    `directories`: those in which a plan may make files, looked at for it. `claims`: LUNs that jobs fill or
    have filled as a whole, by their ids, each with the job; `origins`: disks that jobs copy from or have
    copied from, until nobody can want them back. Discovery sees none of these: they are added for plans.
    """

    sources: tuple[Source, ...] = ()
    volume_groups: tuple[Vg, ...] = ()
    system_id: str = ""
    exposures: tuple[Reason, ...] = ()
    problems: tuple[str, ...] = field(default=())
    paths: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    hbas: tuple[Hba, ...] = ()
    hardware: HostHardware = field(default_factory=HostHardware)
    stale_since_us: int = 0
    stale_cause: str = ""
    directories: tuple[TargetDirectory, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> Mapping[str, Source]:
        """The sources by their ids."""
        return {source.id: source for source in self.sources}

    def source(self, id_or_name: str) -> Source:
        """The source of that id, or of that name of this moment, or URI as its policy file has it.

        Raises NotFound, and Refused for one path of a multipathed LUN: it names the LUN.
        """
        if id_or_name in self.by_id:
            return self.by_id[id_or_name]
        for source in self.sources:
            if id_or_name and id_or_name in (
                source.name,
                source.device,
                source.devnode,
                f"/dev/mapper/{source.name}",
                source.export.uri if source.export else "",
            ):
                return source
        device = id_or_name.removeprefix("/dev/")
        if (lun := self.paths.get(device)) is not None:
            text = (
                f"/dev/{device} is one path of the multipathed LUN {self.by_id[lun]}. Ask for {lun} instead."
            )
            raise Refused(f"/dev/{device}", (Reason("path-of-map", text),))
        raise NotFound("source", id_or_name)

    def volume_group(self, uuid: str) -> Vg:
        """The volume group of that UUID. Raises NotFound."""
        for vg in self.volume_groups:
            if vg.uuid == uuid:
                return vg
        raise NotFound("volume group", uuid)


@dataclass(frozen=True)
class Difference:
    """What is new, gone or other than before: ids of sources, UUIDs of volume groups."""

    sources: frozenset[str] = frozenset()
    volume_groups: frozenset[str] = frozenset()


def difference(before: Inventory, after: Inventory) -> Difference:
    """Return in which sources and volume groups two inventories differ.

    All volume groups do where the host has another LVM system ID: which are its own has changed.
    """
    groups: list[dict[str, object]] = [{vg.uuid: vg for vg in one.volume_groups} for one in (before, after)]
    if before.system_id != after.system_id:
        groups[0] = dict.fromkeys(groups[0])
    return Difference(_unlike(before.by_id, after.by_id), _unlike(*groups))


def _unlike(before: Mapping[str, object], after: Mapping[str, object]) -> frozenset[str]:
    changed = {key for key, value in after.items() if before.get(key) != value}
    return frozenset(changed | (before.keys() - after.keys()))
