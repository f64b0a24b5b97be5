"""Each NBD server is asked for itself: what one does, or does not do, is no other's affair."""

import threading
from collections.abc import Iterator

import pytest

from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.jobs import export_watch
from p2vd.jobs.export_helper import MOST_HELPERS
from p2vd.jobs.export_watch import SILENCE_S, ExportWatch
from p2vd.jobs.image_look import UNREAD
from p2vd.model.nbd import NbdExport
from tests.jobs.export_desk import GIB, A, B, Desk, answer
from tests.jobs.fake_disks import LONG_S

C = NbdExport("nbd://c/")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(export_watch, "_PASS_S", 0.01)
    desk = Desk()
    yield desk
    desk.watch.stop()
    desk.servers.until_none(LONG_S)


def sizes(desk: Desk) -> dict[str, int]:
    return {each.export.uri: each.size_bytes for each in desk.watch.sources() if each.export}


@pytest.mark.parametrize("silent", [A, B], ids=["of its own kind", "that only root reaches"])
def test_a_server_that_is_silent_delays_no_news_of_another(desk: Desk, silent: NbdExport) -> None:
    desk.servers.answers = {each.uri: answer(each) for each in (A, B, C)}
    desk.servers.hangs = {silent.uri}
    desk.named = (A, B, C)
    desk.watch.reconfigured()
    desk.servers.until_asked(silent.uri, 1, LONG_S)
    desk.until(lambda: sizes(desk)[C.uri] == GIB)
    desk.servers.answers[C.uri] = answer(C, 2 * GIB)
    desk.later()
    desk.until(lambda: sizes(desk)[C.uri] == 2 * GIB)
    assert sizes(desk)[silent.uri] == 0  # it has not answered, and was not asked again meanwhile
    assert desk.servers.count(silent.uri) == 1
    desk.servers.say(answer(silent))
    desk.until(lambda: sizes(desk)[silent.uri] == GIB)


def test_one_that_a_policy_names_now_is_asked_beside_one_that_is_silent(desk: Desk) -> None:
    desk.servers.answers, desk.servers.hangs = {C.uri: answer(C)}, {A.uri}
    desk.name(A)
    desk.servers.until_asked(A.uri, 1, LONG_S)
    desk.name(A, C)
    desk.until(lambda: sizes(desk)[C.uri] == GIB)
    assert len(desk.servers.children) == 1  # by the same helper


def test_an_answer_settles_no_doubt_that_is_younger_than_its_question(desk: Desk) -> None:
    desk.name(A)
    (before,) = desk.there(answer(A))
    desk.servers.hangs = {A.uri}
    asked = desk.servers.count(A.uri)
    desk.later()
    desk.servers.until_asked(A.uri, asked + 1, LONG_S)
    desk.watch.doubt(A.id)
    desk.servers.say(answer(A))  # of before the copy lost it
    desk.servers.until_asked(A.uri, asked + 2, LONG_S)
    (doubted,) = desk.watch.sources()
    assert [reason.code for reason in doubted.reasons] == [UNREAD]
    desk.servers.say(answer(A))
    desk.until(lambda: desk.watch.sources() == (before,))


def test_a_doubt_is_not_settled_by_the_answer_to_an_older_one(desk: Desk) -> None:
    """A copy may lose it again while it is asked because of the first loss."""
    desk.name(A)
    desk.there(answer(A))
    desk.servers.hangs = {A.uri}
    asked = desk.servers.count(A.uri)
    desk.watch.doubt(A.id)
    desk.servers.until_asked(A.uri, asked + 1, LONG_S)
    desk.watch.doubt(A.id)
    desk.servers.say(answer(A, 2 * GIB))
    desk.servers.until_asked(A.uri, asked + 2, LONG_S)
    assert sizes(desk) == {A.uri: 0}
    desk.servers.say(ExportAnswer(A.uri, problem="nbd://a/ does not answer."))
    desk.until(lambda: desk.watch.sources() == ())


def test_one_that_says_nothing_until_its_deadline_is_absent(desk: Desk) -> None:
    desk.servers.answers, desk.servers.hangs = {C.uri: answer(C)}, {A.uri}
    desk.named = (A, C)
    desk.watch.reconfigured()
    desk.until(lambda: sizes(desk).get(C.uri) == GIB)
    desk.clock.now_s += SILENCE_S
    desk.until(lambda: list(sizes(desk)) == [C.uri])
    assert desk.watch.problems() == (f"{A.uri}: no answer in 45 s.",)
    desk.watch.ask_soon()
    desk.servers.until_asked(A.uri, 2, LONG_S)
    desk.servers.say(answer(A, 2 * GIB))
    desk.until(lambda: sizes(desk) == {A.uri: 2 * GIB, C.uri: GIB})


def test_what_comes_after_the_deadline_is_not_heard(desk: Desk) -> None:
    """The helper that one hangs in is asked nothing more, and lasts as long as another is waited for."""
    desk.servers.hangs = {A.uri, C.uri}
    desk.name(A)
    desk.servers.until_asked(A.uri, 1, LONG_S)
    desk.clock.now_s += SILENCE_S / 2
    desk.name(A, C)
    desk.servers.until_asked(C.uri, 1, LONG_S)
    assert len(desk.servers.children) == 1
    desk.clock.now_s += SILENCE_S / 2
    desk.until(lambda: sizes(desk) == {C.uri: 0})
    desk.watch.ask_soon()
    desk.servers.until_asked(A.uri, 2, LONG_S)
    assert len(desk.servers.children) == 2
    desk.servers.say(answer(A))
    desk.servers.say(answer(C))
    desk.until(lambda: sizes(desk) == {C.uri: GIB})
    desk.servers.say(answer(A, 2 * GIB))
    desk.until(lambda: sizes(desk) == {A.uri: 2 * GIB, C.uri: GIB})


class Hung:
    """A process that hangs, as in a key on a file server that is away: it cannot even be killed."""

    pid = 4711

    def __init__(self) -> None:
        self.waited_for, self.given_up = threading.Event(), threading.Event()

    def poll(self) -> int | None:
        return None

    def wait(self, timeout_s: float | None = None) -> int:
        self.waited_for.set()
        self.given_up.wait(LONG_S)
        raise TimeoutError


def hang(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Hung:
    """Have A asked by a helper that says nothing, and whose end is waited for in vain, until `given_up`."""
    hung, spawn = Hung(), desk.servers.spawn
    monkeypatch.setattr(export_watch, "INTERVAL_S", 1000 * SILENCE_S)  # nor is A due before
    with monkeypatch.context() as patch:
        patch.setattr(desk.watch, "_spawn", lambda *words: spawn(*words) and hung)
        desk.servers.hangs = {A.uri}
        desk.name(A)
        desk.servers.until_asked(A.uri, 1, LONG_S)
    desk.clock.now_s += SILENCE_S
    desk.until(lambda: desk.watch.problems() != ())
    assert hung.waited_for.wait(LONG_S)
    desk.servers.until_none(LONG_S)
    desk.servers.hangs = set()
    return hung


def until_it_is_noted(hung: Hung) -> None:
    hung.given_up.set()
    for thread in threading.enumerate():
        if thread.name == "export-helper":
            thread.join(LONG_S)


def test_where_a_helper_hangs_no_second_one_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    until_it_is_noted(hang(desk, monkeypatch))
    assert desk.watch.problems() == (
        f"{A.uri}: no answer in 45 s. Process 4711, which asked, hangs: it is not asked again before that "
        "process ends.",
    )
    desk.servers.answers = {C.uri: answer(C)}
    desk.name(A, C)
    desk.later()
    desk.until(lambda: sizes(desk) == {C.uri: GIB})
    assert desk.servers.count(A.uri) == 1


@pytest.mark.parametrize(
    "said", [answer(A), ExportAnswer(A.uri, problem="nbd://a/ does not answer.")], ids=["well", "a problem"]
)
def test_what_another_helper_heard_counts_more_than_one_that_hangs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, said: ExportAnswer
) -> None:
    """It is asked on, whatever becomes of the process that hangs."""
    hung = hang(desk, monkeypatch)
    desk.there(said)
    until_it_is_noted(hung)
    asked = desk.servers.count(A.uri)
    desk.servers.answers = {A.uri: answer(A, 2 * GIB)}
    desk.later()
    desk.servers.until_asked(A.uri, asked + 1, LONG_S)
    desk.until(lambda: sizes(desk) == {A.uri: 2 * GIB})


def test_an_answer_that_comes_after_one_was_found_to_hang_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = hang(desk, monkeypatch)
    desk.servers.hangs = {A.uri}
    desk.later()
    desk.servers.until_asked(A.uri, 2, LONG_S)
    hung.given_up.set()
    desk.until(lambda: "4711" in desk.watch.problems()[0])
    desk.servers.say(answer(A))
    desk.until(lambda: sizes(desk) == {A.uri: GIB})
    desk.servers.hangs, desk.servers.answers = set(), {A.uri: answer(A, 2 * GIB)}
    desk.later()
    desk.until(lambda: sizes(desk) == {A.uri: 2 * GIB})


def test_a_server_at_which_the_helper_ends_takes_no_other_along(desk: Desk) -> None:
    """As where it makes the library crash: the others are asked again, each for itself."""
    desk.servers.answers = {C.uri: answer(C)}
    desk.named = (A, C)
    desk.watch.reconfigured()
    desk.until(lambda: sizes(desk) == {C.uri: GIB})
    assert "the helper that asks servers ended" in desk.watch.problems()[0]
    # From now on it is asked apart, until it answers.
    desk.servers.requests.clear()
    desk.servers.answers = {C.uri: answer(C, 2 * GIB)}
    desk.later()
    desk.until(lambda: sizes(desk) == {C.uri: 2 * GIB})
    desk.servers.until_asked(A.uri, 1, LONG_S)
    assert sorted(desk.servers.asked) == [[A.uri], [C.uri]]


def test_those_that_are_asked_apart_take_no_helper_from_the_others(desk: Desk) -> None:
    """Of each kind one is started in a pass."""
    desk.watch._running = True  # the passes are ours
    desk.servers.answers = {A.uri: answer(A), C.uri: answer(C)}
    desk.name(A, C)
    desk.watch._known[A.id].alone = True
    with desk.watch._changed:
        assert desk.watch._hand_out(())
    desk.until(lambda: sizes(desk)[C.uri] == GIB)
    assert desk.servers.count(A.uri) == 0


def test_a_thousand_silent_servers_keep_no_other_from_being_heard(desk: Desk) -> None:
    silent = [NbdExport(f"nbd://silent-{number}/") for number in range(1000)]
    desk.servers.hangs = {each.uri for each in silent}
    desk.servers.answers = {A.uri: answer(A), B.uri: answer(B)}
    threads = threading.active_count()
    desk.named = (*silent, A, B)
    desk.watch.reconfigured()
    desk.until(lambda: (sizes(desk)[A.uri], sizes(desk)[B.uri]) == (GIB, GIB))
    for each in silent:
        desk.servers.until_asked(each.uri, 1, LONG_S)
    assert desk.servers.most <= MOST_HELPERS + 1  # and one that only root reaches
    # Ours and the helpers', which are threads here.
    assert threading.active_count() - threads <= 2 * (MOST_HELPERS + 1) + 1
    desk.servers.answers[A.uri] = answer(A, 2 * GIB)
    desk.later()
    desk.until(lambda: sizes(desk)[A.uri] == 2 * GIB)


def test_nobody_is_asked_what_is_copied_once_it_is_stopped(desk: Desk) -> None:
    """The store is closed by then."""
    calls: list[None] = []

    def copied() -> frozenset[str]:
        calls.append(None)
        return frozenset()

    watch = ExportWatch(desk.servers.spawn, (1, 2), lambda: (A,), copied, desk.changed, desk.clock)
    desk.servers.answers = {A.uri: answer(A)}
    watch.reconfigured()
    desk.until(lambda: [each.size_bytes for each in watch.sources()] == [GIB])
    before = len(calls)
    watch.stop()
    for thread in threading.enumerate():
        if thread.name == "exports":
            thread.join(LONG_S)
    assert len(calls) == before


def test_nothing_runs_once_no_export_is_named(desk: Desk) -> None:
    desk.servers.hangs = {A.uri}
    desk.name(A)
    desk.servers.until_asked(A.uri, 1, LONG_S)
    desk.name()
    desk.servers.until_none(LONG_S)
