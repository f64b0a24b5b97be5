"""Simulated NBD servers: each serves one export, or does not answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from p2vd.copying.nbd_asking import ExportAnswer, ExportsRequest
from p2vd.copying.terms import NbdServer
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.nbd import NbdExport
from p2vd.sim.script import Export
from p2vd.system.descriptors import SeqpacketChannel


@dataclass
class SimExport:
    """One export of one server. `away`: it does not answer."""

    kind: Export
    away: bool = False

    @property
    def id(self) -> str:
        """What the daemon names it by."""
        return NbdExport(self.kind.uri).id

    def answer(self, uri: str) -> ExportAnswer:
        """What its server says to who asks for it by that URI."""
        if self.away:
            return ExportAnswer(uri, problem=f"{uri} does not answer: Connection refused.")
        return ExportAnswer(uri, self.kind.size_bytes, edges="simulated")


class SimExports:
    """All of them, in the script's order."""

    def __init__(self, exports: Iterable[Export]) -> None:
        self.all: Sequence[SimExport] = tuple(SimExport(each) for each in exports)

    def find(self, source_id: str) -> SimExport | None:
        """Return the export of that id."""
        return next((export for export in self.all if export.id == source_id), None)

    def ask(self, channel: SeqpacketChannel) -> int:
        """Answer the daemon as copying.nbd_asker does; return the exit code."""
        try:
            while (packet := channel.receive()) is not None:
                for server in from_dict(ExportsRequest, packet[0]).servers:
                    channel.send(to_dict(self._answer(server)))
        except BrokenPipeError:
            return 1
        return 0

    def _answer(self, server: NbdServer) -> ExportAnswer:
        export = self.find(NbdExport(server.uri).id)
        if export is None:
            return ExportAnswer(server.uri, problem=f"{server.uri} does not answer: no such host.")
        return export.answer(server.uri)
