"""The real authority, over a private bus, against a polkit that says what a test wants."""

import os
from collections.abc import Iterator
from typing import Any

import dbus
import pytest
from dbus.lowlevel import (
    HANDLER_RESULT_HANDLED,
    HANDLER_RESULT_NOT_YET_HANDLED,
    MethodCallMessage,
    MethodReturnMessage,
)

from p2vd.bus.polkit import Polkit
from p2vd.bus.port import Verdict
from tests.bus.harness import Client

POLKIT = "org.freedesktop.PolicyKit1"


class FakePolkit:
    """Answers CheckAuthorization."""

    def __init__(self, client: Client) -> None:
        self.answer = (True, False)
        self.questions: list[list[Any]] = []
        self._connection = client.connection
        self._filter = self._on_message
        self._connection.add_message_filter(self._filter)
        self._connection.request_name(POLKIT, dbus.bus.NAME_FLAG_DO_NOT_QUEUE)

    def _on_message(self, _: object, message: Any) -> object:
        if not isinstance(message, MethodCallMessage) or message.get_member() != "CheckAuthorization":
            return HANDLER_RESULT_NOT_YET_HANDLED
        self.questions.append(message.get_args_list())
        reply = MethodReturnMessage(message)
        reply.append((*self.answer, dbus.Dictionary({}, signature="ss")), signature="(bba{ss})")
        self._connection.send_message(reply)
        return HANDLER_RESULT_HANDLED

    def leave(self) -> None:
        self._connection.release_name(POLKIT)
        self._connection.remove_message_filter(self._filter)


@pytest.fixture
def bus(bus_address: str) -> Iterator[Client]:
    client = Client(bus_address)
    yield client
    client.close()


@pytest.fixture
def polkit(bus: Client) -> Iterator[FakePolkit]:
    fake = FakePolkit(bus)
    yield fake
    fake.leave()


def decide(bus: Client, action: str, *, interactive: bool = False, always: tuple[int, ...] = ()) -> Verdict:
    verdicts: list[Verdict] = []
    sender = bus.connection.get_unique_name()
    Polkit(bus.connection, always).authorize(sender, action, interactive, verdicts.append)
    bus.until(lambda: verdicts)
    return verdicts[0]


def own_uid(bus: Client) -> int:
    return int(bus.connection.get_unix_user(bus.connection.get_unique_name()))


def test_polkit_is_asked_about_the_sender(bus: Client, polkit: FakePolkit) -> None:
    verdict = decide(bus, "org.p2vd1.migrate", interactive=True)
    assert verdict == Verdict(own_uid(bus), allowed=True, reason=verdict.reason, pid=os.getpid())
    ((subject, action, _, flags, _),) = polkit.questions
    assert (subject[0], subject[1]["name"]) == ("system-bus-name", bus.connection.get_unique_name())
    assert (action, flags) == ("org.p2vd1.migrate", 1)


@pytest.mark.parametrize(
    ("challenge", "interactive", "words"),
    [
        (False, False, "rules do not allow"),
        (True, False, "password is needed"),
        (True, True, "no authentication agent"),
    ],
)
def test_a_no_says_why(
    bus: Client, polkit: FakePolkit, challenge: bool, interactive: bool, words: str
) -> None:
    polkit.answer = (False, challenge)
    verdict = decide(bus, "org.p2vd1.migrate", interactive=interactive)
    assert not verdict.allowed
    assert words in verdict.reason


def test_some_are_never_asked_about(bus: Client, polkit: FakePolkit) -> None:
    assert decide(bus, "org.p2vd1.migrate", always=(own_uid(bus),)).allowed
    assert decide(bus, "").allowed
    assert polkit.questions == []


def test_without_polkit_the_answer_is_no(bus: Client) -> None:
    verdict = decide(bus, "org.p2vd1.migrate")
    assert not verdict.allowed
    assert "polkit does not answer" in verdict.reason


def test_a_sender_that_has_gone_is_refused(bus: Client, polkit: FakePolkit) -> None:
    verdicts: list[Verdict] = []
    Polkit(bus.connection).authorize(":1.99999", "org.p2vd1.migrate", False, verdicts.append)
    bus.until(lambda: verdicts)
    assert not verdicts[0].allowed
