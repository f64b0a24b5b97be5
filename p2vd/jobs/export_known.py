"""What is known of an NBD export, and the source that it is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.copying.terms import NbdServer
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import Reason
from p2vd.model.nbd import NbdExport
from p2vd.planning.contents import under_examination
from p2vd.system.process import ChildProcess

RECONNECT_S = 30.0
"""How long a copy tries to get a lost connection again, before its job is held until the export is back."""


def server_of(export: NbdExport) -> NbdServer:
    """Return an export as copies connect to it."""
    return NbdServer(export.uri, export.certificates, export.psk_file, RECONNECT_S)


@dataclass(frozen=True)
class Question:
    """That an export was asked, when (monotonic seconds). Its answer settles the first `doubts` doubts."""

    known: "KnownExport"
    doubts: int
    asked_s: float


@dataclass(eq=False)
class KnownExport:
    """What is known of an export; `answer` None: nothing yet. Used under the lock of the watch.

    `asked_s`: when it was asked last, by the monotonic clock; `question`: it has not answered yet. `wanted`:
    it is to be asked before its time; `alone`: by a helper of its own, since one ended that was asked of
    others, too. `silent`: the last that is known is that a helper said nothing; `stuck`: that helper hangs.
    `doubts`: how often its copies have lost it; `settled`: how many of these an answer settled since.
    """

    export: NbdExport
    answer: ExportAnswer | None = None
    asked_s: float = 0.0
    question: Question | None = None
    wanted: bool = False
    alone: bool = False
    silent: bool = False
    stuck: ChildProcess | None = None
    doubts: int = 0
    settled: int = 0
    _shown: Source | None = None

    @property
    def is_there(self) -> bool:
        """Whether its server answered when it was asked last."""
        return self.answer is not None and not self.answer.problem

    @property
    def problem(self) -> str:
        """Why it is absent; empty: it is there, or nothing is known yet."""
        return "" if self.answer is None else self.answer.problem

    @property
    def is_doubted(self) -> bool:
        """Whether a copy has lost it since it was asked."""
        return self.doubts > self.settled

    @property
    def is_busy(self) -> bool:
        """Whether asking it once more would only hang beside a question before."""
        return self.question is not None or self.hanging is not None

    @property
    def hanging(self) -> ChildProcess | None:
        """The process that still hangs where it was asked, if one does."""
        return self.stuck if self.stuck is not None and self.stuck.poll() is None else None

    def doubt(self) -> None:
        """A copy has lost it just now."""
        self.doubts, self._shown = self.doubts + 1, None

    def ask(self, now_s: float) -> Question:
        """Return the question that it is asked from now on."""
        self.asked_s, self.wanted, self.stuck = now_s, False, None
        self.question = Question(self, self.doubts, now_s)
        return self.question

    def forget_question(self) -> None:
        """Nobody will answer it, and it is not the export's fault."""
        self.question, self.alone, self.wanted = None, True, True

    def hear(self, question: Question, answer: ExportAnswer, *, silent: bool = False) -> bool:
        """Take the answer to `question`; return whether something else is known than before.

        A doubt that was raised after the question stays: its answer may be from before the loss. `silent`:
        the answer is that there was none; any other is no matter of a helper that hangs.
        """
        doubted = self.is_doubted
        self.question, self.alone, self.silent = None, False, silent
        if not silent:
            self.stuck = None
        self.settled = max(self.settled, question.doubts)
        if answer == self.answer and doubted == self.is_doubted:
            return False
        self.answer, self._shown = answer, None
        return True

    def hang(self, child: ChildProcess, answer: ExportAnswer) -> bool:
        """A helper that said nothing of it does not end; return whether that counts, as what `answer` says.

        Not where another was heard since, which did not hang.
        """
        if self.silent:
            self.stuck, self.answer, self._shown = child, answer, None
        return self.silent

    def show(self) -> Source | None:
        """The source; None: it is absent. The same object while nothing changes."""
        if self.problem:
            return None
        if self._shown is None:
            self._shown = _source(self.export, None if self.is_doubted else self.answer)
        return self._shown


def _source(export: NbdExport, answer: ExportAnswer | None) -> Source:
    source = Source(
        id=export.id,
        wwid="",
        device="",
        name=export.name,
        dm_uuid="",
        size_bytes=answer.size_bytes if answer else 0,
        sector_size=export.sector_size,
        transport=Transport.NBD,
        file_id=answer.edges if answer else "",
        export=export,
    )
    if answer is None:
        return replace(source, reasons=(under_examination(source),))
    if answer.size_bytes == 0:
        reason = Reason("no-medium", f"{export.id} has no size: there is no medium behind it.")
        return replace(source, reasons=(reason,))
    return replace(source, warnings=tuple(_warnings(export, answer)))


def _warnings(export: NbdExport, answer: ExportAnswer) -> Iterator[Reason]:
    if not answer.edges:
        yield Reason(
            "edges-unread",
            f"The first or last MiB of {export.id} cannot be read ({answer.unread}): it is damaged, or the "
            "server lies about its size. It cannot be told from another disk of its size in its place.",
        )
    if not answer.read_only:
        yield Reason(
            "writable",
            f"The server of {export.id} lets clients write: whoever else connects to it could. Start it "
            "read-only (nbdkit -r, qemu-nbd -r).",
        )
