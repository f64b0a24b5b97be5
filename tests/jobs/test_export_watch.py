"""NBD exports as sources: there while their server answers, absent with the reason while it does not."""

import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

import pytest

from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.jobs.export_watch import INTERVAL_S, ExportWatch
from p2vd.jobs.form_scanner import FormScanner
from p2vd.jobs.image_look import UNREAD
from p2vd.jobs.image_looks import ImageLooks
from p2vd.model.disk import Transport
from p2vd.model.inventory import Inventory
from tests.jobs.export_desk import GIB, A, B, Desk, answer
from tests.jobs.fake_asker import FakeAsker, FakeChild
from tests.jobs.fake_disks import LONG_S
from tests.jobs.values import source


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.watch.stop()


def test_an_export_is_a_source_once_its_server_has_answered(desk: Desk) -> None:
    desk.servers.answers = {A.uri: answer(A), B.uri: answer(B, edges="3-4")}
    desk.named = (B, A)
    desk.watch.reconfigured()
    desk.until(lambda: all(not each.reasons for each in desk.watch.sources()))
    first, second = desk.watch.sources()
    assert (first.id, first.name, first.transport) == ("nbd://a:10809/", "a", Transport.NBD)
    assert (first.size_bytes, first.sector_size, first.file_id) == (GIB, 512, "1-2")
    assert (first.reasons, first.warnings, first.export) == ((), (), A)
    assert (second.id, second.sector_size, second.file_id) == ("nbd://b:10809/sda", 4096, "3-4")
    assert desk.watch.problems() == ()
    assert not first.is_plain
    # What only root reaches is asked by a helper of its own.
    told = {(each.servers[0].uri, each.privileged, each.worker_uid) for each in desk.servers.requests}
    assert told == {(A.uri, False, 1), (B.uri, True, 1)}
    assert desk.watch.sources()[0] is first


def test_until_then_it_is_being_asked(desk: Desk) -> None:
    gone = threading.Event()

    def spawn(argv: Sequence[str], fd: int) -> NoReturn:
        gone.wait(LONG_S)
        raise OSError(12, "Cannot allocate memory")

    watch = ExportWatch(spawn, (1, 2), lambda: (A,), frozenset, desk.changed, desk.clock)
    watch.reconfigured()
    (shown,) = watch.sources()
    assert ([reason.code for reason in shown.reasons], shown.size_bytes) == ([UNREAD], 0)
    gone.set()
    desk.heard()
    desk.heard()
    assert watch.sources() == ()
    assert "Cannot allocate memory" in watch.problems()[0]
    watch.stop()


def test_one_that_does_not_answer_is_absent_and_comes_back(desk: Desk) -> None:
    desk.name(A)
    (before,) = desk.there(answer(A))
    assert desk.there(ExportAnswer(A.uri, problem="nbd://a/ does not answer.")) == ()
    assert desk.watch.problems() == ("nbd://a/ does not answer.",)
    assert desk.there(answer(A)) == (before,)
    assert desk.watch.problems() == ()


def test_a_helper_that_says_nothing_of_an_export_leaves_it_absent(desk: Desk) -> None:
    desk.name(A)
    desk.there(answer(A))
    assert desk.there() == ()
    assert "the helper that asks servers ended" in desk.watch.problems()[0]


def test_another_disk_in_its_place_is_seen(desk: Desk) -> None:
    desk.name(A)
    desk.there(answer(A))
    (larger,) = desk.there(answer(A, size_bytes=2 * GIB))
    (other,) = desk.there(answer(A, edges="5-6"))
    assert (larger.size_bytes, other.file_id) == (2 * GIB, "5-6")


def test_what_should_be_known_of_it_is_said(desk: Desk) -> None:
    desk.name(A)
    (odd,) = desk.there(answer(A, edges="", unread="Input/output error", read_only=False))
    assert [warning.code for warning in odd.warnings] == ["edges-unread", "writable"]
    assert "Input/output error" in odd.warnings[0].text
    (empty,) = desk.there(answer(A, size_bytes=0))
    assert [reason.code for reason in empty.reasons] == ["no-medium"]


def test_one_that_is_copied_is_not_asked_meanwhile(desk: Desk) -> None:
    """A server may take one client, and the copy itself sees what becomes of it."""
    desk.name(A, B)
    desk.there(answer(A), answer(B))
    desk.copied = frozenset({A.id})
    desk.servers.requests.clear()
    desk.servers.answers = {each.uri: answer(each, size_bytes=2 * GIB) for each in (A, B)}
    desk.later()
    desk.until(lambda: [one.size_bytes for one in desk.watch.sources()] == [GIB, 2 * GIB])
    assert desk.servers.asked == [[B.uri]]
    desk.copied = frozenset()
    desk.later()
    desk.until(lambda: [one.size_bytes for one in desk.watch.sources()] == [2 * GIB, 2 * GIB])


def test_one_that_its_copy_has_lost_is_asked_at_once(desk: Desk) -> None:
    desk.name(A)
    desk.there(answer(A))
    desk.copied = frozenset({A.id})
    desk.servers.answers = {A.uri: ExportAnswer(A.uri, problem="nbd://a/ does not answer.")}
    desk.clock.now_s += INTERVAL_S
    asked = len(desk.servers.requests)
    desk.watch.doubt(A.id)
    desk.until(lambda: desk.watch.sources() == ())
    assert len(desk.servers.requests) == asked + 1
    desk.watch.doubt("nbd://other:10809/")  # one that no policy names any more


def test_one_that_is_doubted_is_no_source_until_it_has_answered(desk: Desk) -> None:
    """Else a worker would be started for it, again and again, as long as its server is away."""
    desk.name(A)
    (before,) = desk.there(answer(A))
    gone, spawn = threading.Event(), desk.servers.spawn

    def slowly(argv: Sequence[str], fd: int) -> FakeChild:
        gone.wait(LONG_S)
        return spawn(argv, fd)

    desk.watch._spawn = slowly
    desk.watch.doubt(A.id)
    (doubted,) = desk.watch.sources()
    assert [reason.code for reason in doubted.reasons] == [UNREAD]
    gone.set()
    desk.until(lambda: desk.watch.sources() == (before,))


def test_one_that_is_copied_is_asked_as_long_as_it_is_not_known(desk: Desk) -> None:
    """As after a restart of the daemon."""
    desk.copied = frozenset({A.id})
    desk.servers.answers = {A.uri: answer(A)}
    desk.name(A)
    desk.heard()
    assert [one.size_bytes for one in desk.watch.sources()] == [GIB]


def test_what_the_policies_name_no_longer_is_gone(desk: Desk) -> None:
    desk.name(A)
    desk.there(answer(A))
    desk.name()
    assert (desk.watch.sources(), desk.watch.problems()) == ((), ())
    desk.name(A)  # and is asked anew when it is named again
    desk.heard()
    assert len(desk.watch.sources()) == 1


def test_the_inventory_has_them_and_says_which_are_absent(desk: Desk) -> None:
    desk.name(A, B)
    desk.there(answer(A), ExportAnswer(B.uri, problem="nbds://b/sda does not answer."))
    host = Host()
    scanner = FormScanner(host, ImageLooks(FakeAsker().spawn, (1, 2), desk.changed), desk.watch)
    seen = scanner.scan()
    assert [one.id for one in seen.sources] == [source().id, A.id]
    assert seen.problems == ("multipathd says nothing.", "nbds://b/sda does not answer.")
    assert seen.unread == ()  # of the host nothing is unknown
    assert scanner.refresh(()) is seen
    desk.there(answer(A), answer(B))
    assert [one.id for one in scanner.refresh(()).sources] == [source().id, A.id, B.id]


class Host:
    def scan(self) -> Inventory:
        return Inventory((source(),), problems=("multipathd says nothing.",))

    def refresh(self, names: object) -> Inventory:
        raise AssertionError("no device has changed")
