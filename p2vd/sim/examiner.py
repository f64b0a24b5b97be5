"""What a look at a simulated disk, or export, finds: a machine that boots by BIOS."""

from collections.abc import Callable

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.model.contents import BootStyle, Contents, Examination, Partition, Signature, Table
from p2vd.model.fill import ZeroSample
from p2vd.model.size import MIB
from p2vd.sim.exports import SimExports
from p2vd.sim.volumes import Volumes


class SimExaminer:
    """A helper as jobs.contents_keeper wants it, over the simulated SAN and servers; it answers at once."""

    alive = False

    def __init__(self, volumes: Volumes, exports: SimExports) -> None:
        self._volumes = volumes
        self._san = volumes.san
        self._exports = exports

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        """Return what is on a simulated LUN or export."""
        if request.export is not None:
            export = self._exports.find(request.export.id)
            if export is None or export.away:
                problem = f"{request.export.uri} was lost: Connection refused."
                return ExamineReply(problem=problem, examination=Examination.SILENT)
            return ExamineReply(_machine(export.kind.size_bytes, request.sector_size))
        lun = self._san.lun_of(request.devnode)
        if lun is None:
            return ExamineReply(problem=f"{request.devnode} cannot be opened: No such device or address")
        empty = self._volumes.is_empty(lun)
        if request.sample_blocks:
            blocks = -(-lun.size_bytes // request.block_bytes)
            sampled = min(request.sample_blocks, blocks)
            with_data = 0 if empty else sampled * lun.kind.data_percent // 100
            return ExamineReply(sample=ZeroSample(request.block_bytes, blocks, 0, sampled, with_data))
        if empty:
            return ExamineReply(Contents(Table.NONE, BootStyle.NONE, lun.kind.sector_size, blank=True))
        return ExamineReply(_machine(lun.size_bytes, lun.kind.sector_size))

    def close(self) -> None:
        """Nothing is open."""

    def kill(self) -> None:
        """Nothing runs."""


def _machine(size_bytes: int, sector_size: int) -> Contents:
    root = Partition(1, MIB, size_bytes - MIB, "0x83", signature=Signature("ext4", label="root"))
    return Contents(Table.MBR, BootStyle.BIOS, sector_size, partitions=(root,))
