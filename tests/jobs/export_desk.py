"""A watch of NBD exports over servers that say what a test says."""

import threading
from collections.abc import Callable, Sequence

from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.jobs.export_watch import INTERVAL_S, ExportWatch
from p2vd.model.disk import Source
from p2vd.model.nbd import NbdExport
from tests.fakes import StoppedClock
from tests.jobs.fake_disks import LONG_S
from tests.jobs.fake_servers import FakeServers

GIB = 1 << 30
A, B = NbdExport("nbd://a/"), NbdExport("nbds://b/sda", certificates="/etc/p2vd/tls", sector_size=4096)


def answer(
    export: NbdExport, size_bytes: int = GIB, edges: str = "1-2", unread: str = "", *, read_only: bool = True
) -> ExportAnswer:
    return ExportAnswer(export.uri, size_bytes, edges, unread, read_only)


class Desk:
    """A watch over servers that say what the test says."""

    def __init__(self) -> None:
        self.servers, self.clock = FakeServers(), StoppedClock()
        self.named: tuple[NbdExport, ...] = ()
        self.copied: frozenset[str] = frozenset()
        self.news = threading.Semaphore(0)
        self.watch = ExportWatch(
            self.servers.spawn, (1, 2), lambda: self.named, lambda: self.copied, self.changed, self.clock
        )

    def changed(self) -> None:
        self.news.release()

    def name(self, *exports: NbdExport) -> None:
        """Have the policies name these."""
        self.named = exports
        self.watch.reconfigured()
        self.heard()

    def heard(self) -> None:
        assert self.news.acquire(timeout=LONG_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, by the watch's own news."""
        while not condition():
            self.heard()

    def later(self) -> None:
        """Some time passes, and the exports are asked again."""
        self.clock.now_s += INTERVAL_S
        self.watch.ask_soon()

    def there(self, *answers: ExportAnswer) -> tuple[Source, ...]:
        """The sources, once the servers have said that."""
        self.servers.answers = {each.uri: each for each in answers}
        asked = len(self.servers.requests)
        self.later()
        self.heard()
        self.until(lambda: len(self.servers.requests) > asked and self.has_said(answers))
        return self.watch.sources()

    def has_said(self, answers: Sequence[ExportAnswer]) -> bool:
        """Whether the watch shows that much."""
        sources, problems = self.watch.sources(), self.watch.problems()
        shown = {each.export.uri: (each.size_bytes, each.file_id) for each in sources if each.export}
        return all(
            each.problem in problems if each.problem else shown.get(each.uri) == (each.size_bytes, each.edges)
            for each in answers
        )
