"""Everything that discovery saw at one moment."""

from dataclasses import dataclass, field

from p2vd.model.disk import Source
from p2vd.model.errors import NotFound, Reason
from p2vd.model.lvm import Vg


@dataclass(frozen=True)
class Inventory:
    """Sources and volume groups of one moment. Immutable: a change makes a new one.

    `exposures`: what on this host could take hold of a guest's disk, each with the remedy; a host
    with any is refused at plan time. `problems`: what discovery could not read.
    """

    sources: tuple[Source, ...] = ()
    volume_groups: tuple[Vg, ...] = ()
    system_id: str = ""
    exposures: tuple[Reason, ...] = ()
    problems: tuple[str, ...] = field(default=())

    def source(self, id_or_name: str) -> Source:
        """The source of that id, or of that name of this moment. Raises NotFound."""
        for source in self.sources:
            if source.id == id_or_name:
                return source
        for source in self.sources:
            if id_or_name in (source.name, source.device, source.devnode, f"/dev/mapper/{source.name}"):
                return source
        raise NotFound("source", id_or_name)

    def volume_group(self, uuid: str) -> Vg:
        """The volume group of that UUID. Raises NotFound."""
        for vg in self.volume_groups:
            if vg.uuid == uuid:
                return vg
        raise NotFound("volume group", uuid)
