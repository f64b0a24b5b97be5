"""p2vd on the bus: answers calls, checks them, and publishes what the engine says.

The GLib thread owns every D-Bus object. A method's work runs on a short-lived thread, so that a
slow engine never delays anybody else's call, nor the daemon's stop.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import dbus
from dbus.lowlevel import (
    HANDLER_RESULT_HANDLED,
    HANDLER_RESULT_NOT_YET_HANDLED,
    ErrorMessage,
    MethodCallMessage,
    MethodReturnMessage,
    SignalMessage,
)
from gi.repository import GLib

from p2vd.bus.call import Answer, Call
from p2vd.bus.collector import Collector, Picture
from p2vd.bus.errors import Busy, Failed, NotAuthorized, OptionNotPermitted
from p2vd.bus.introspection import Method, interfaces
from p2vd.bus.methods import AFTER_FAILURE, Methods, action_of
from p2vd.bus.names import BUS_NAME, JOB, MANAGER, ROOT, error_name, object_id
from p2vd.bus.port import Authority, EnginePort, Verdict
from p2vd.bus.recording import is_recorded, request_of, subject_after
from p2vd.bus.standard import StandardError, answer_standard, arguments_of
from p2vd.bus.timer import later
from p2vd.bus.tree import Interfaces, ObjectTree, append
from p2vd.bus.turns import Turns
from p2vd.bus.wire import fits, plain
from p2vd.model.audit import Request, Subject
from p2vd.model.errors import InvalidArgument, P2vdError
from p2vd.model.job import Caller, Stage
from p2vd.system.threads import start

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 32
_NO_INTERACTION = "auth.no_user_interaction"
_RESULTS = {Stage.PROVEN.value: "done", Stage.FAILED.value: "failed", Stage.CANCELLED.value: "cancelled"}


class Service:
    """The engine's face on one bus connection. Made, started and stopped on the GLib thread."""

    def __init__(
        self,
        engine: EnginePort,
        connection: Any,
        authority: Authority,
        version: str,
        on_lost: Callable[[], None] = lambda: None,
        on_calm: Callable[[], None] = lambda: None,
    ) -> None:
        """`connection`: a dbus.bus.BusConnection with a GLib main loop. `on_lost`: the bus went away.

        `on_calm`: a burst of news is over. On a thread of its own.
        """
        self._connection = connection
        self._authority = authority
        self._on_lost = on_lost
        self._calls = 0
        self._tree = ObjectTree(connection.send_message, _monotonic_s, later)
        self._collector = Collector(engine, version, Turns().add, self._apply, on_calm)
        self._methods = Methods(engine, self._collector)
        self._audit = engine.records.audit
        self._audit_problem = ""  # what Problems says of it
        self._published = False
        self._filter = self._on_message  # one object: it is found again by identity

    def start(self) -> None:
        """Publish everything, then take the name. Raises Failed where another p2vd has it."""
        self._connection.set_exit_on_disconnect(False)
        self._collector.start()
        self._published = True
        self._tree.silent = False
        self._connection.add_message_filter(self._filter)
        reply = self._connection.request_name(BUS_NAME, dbus.bus.NAME_FLAG_DO_NOT_QUEUE)
        if reply != dbus.bus.REQUEST_NAME_REPLY_PRIMARY_OWNER:
            raise Failed(f"another process has the name {BUS_NAME} on this bus. Stop it first.")

    def stop(self) -> None:
        """Leave the bus. Calls under way are not waited for."""
        self._collector.stop()
        self._connection.remove_message_filter(self._filter)
        if self._connection.get_is_connected():
            self._connection.release_name(BUS_NAME)
            self._connection.flush()

    def _apply(self, picture: Picture) -> Iterator[None]:
        """Bring the tree up to date, an object a step."""
        for path in picture.drops(self._tree.paths()):
            self._drop(path)
            yield
        for path, values in picture.objects.items():
            yield
            before = self._tree.get(path)
            self._tree.put(path, values)
            if JOB in values and self._published:
                self._tell_of_job(path, before, values)

    def _drop(self, path: str) -> None:
        values = self._tree.get(path) or {}
        if JOB in values:
            seen = _RESULTS.get(str(values[JOB]["Stage"]))
            result = self._collector.results.pop(path, None) or seen or "cancelled"
            if seen is None:  # it ended and left between two pictures
                success = result == "done"
                self._tree.emit(path, JOB, "Completed", success, "" if success else result)
            self._tree.emit(ROOT, MANAGER, "JobRemoved", path, result)
        self._tree.remove(path)

    def _tell_of_job(self, path: str, before: Interfaces | None, values: Interfaces) -> None:
        stage, error = values[JOB]["Stage"], values[JOB]["Error"]
        if before is None:
            self._tree.emit(ROOT, MANAGER, "JobNew", path)
        if stage in _RESULTS and (before is None or before[JOB]["Stage"] != stage):
            success = stage == Stage.PROVEN.value
            sentence = error[1] if isinstance(error, tuple) else ""
            message = "" if success else sentence or str(stage)
            self._tree.emit(path, JOB, "Completed", success, message)

    def _on_message(self, _: object, message: Any) -> object:
        if isinstance(message, SignalMessage):
            if message.is_signal("org.freedesktop.DBus.Local", "Disconnected"):
                log.error("the connection to the bus is lost")
                self._on_lost()
            return HANDLER_RESULT_NOT_YET_HANDLED
        if not isinstance(message, MethodCallMessage) or not _ours(message.get_path()):
            return HANDLER_RESULT_NOT_YET_HANDLED
        try:
            self._handle(message)
        except StandardError as error:
            self._fail(message, error.name, str(error))
        except P2vdError as error:
            self._refuse(message, error)
        except Exception as error:  # whatever it is, the caller must get an answer
            log.exception("call %s failed", message.get_member())
            self._refuse(message, _unexpected(error))
        return HANDLER_RESULT_HANDLED

    def _handle(self, message: Any) -> None:
        standard = answer_standard(self._tree, message)
        if standard is not None:
            self._reply(message, *standard)
            return
        path, name = message.get_path(), message.get_member()
        interface, method = self._find(path, message.get_interface(), name)
        if message.get_signature() != method.in_signature:
            raise StandardError.invalid_args(f"{name} takes ({method.in_signature})")
        *arguments, given = arguments_of(message)
        options = _options(method, given)
        interactive = message.get_allow_interactive_authorization() or options.get(_NO_INTERACTION) is False
        options.pop(_NO_INTERACTION, None)
        action = action_of(method.action, options)
        sender = message.get_sender()

        def decide(verdict: Verdict) -> None:
            caller = Caller(verdict.uid, sender, verdict.pid)
            request = None
            if is_recorded(method, action):
                request = request_of(interface, method, path, tuple(arguments), options, caller)
            if not verdict.allowed:
                log.info("%s by uid %d refused: %s", name, verdict.uid, action)
                if request is not None:
                    self._audit.denied(request, action, verdict.reason)
                self._refuse(message, NotAuthorized(action, verdict.reason))
                return
            call = Call(object_id(path), tuple(arguments), options, caller)
            self._begin(message, interface, method, call, request)

        def decided(verdict: Verdict) -> None:
            try:
                decide(verdict)
            except P2vdError as error:
                self._refuse(message, error)
            except Exception as error:  # as in `_on_message`, which has long returned
                log.exception("call %s failed", name)
                self._refuse(message, _unexpected(error))

        self._authority.authorize(sender, action, interactive, decided)

    def _find(self, path: str, interface: str | None, name: str) -> tuple[str, Method]:
        values = self._tree.get(path)
        if values is None:
            raise StandardError.unknown_object(path)
        for candidate in values if interface is None else values.keys() & {interface}:
            method = interfaces()[candidate].methods.get(name)
            if method is not None:
                return candidate, method
        raise StandardError.unknown_method(interface or "", name)

    def _begin(
        self, message: Any, interface: str, method: Method, call: Call, request: Request | None
    ) -> None:
        if self._calls >= CALLS_AT_ONCE:
            self._refuse(message, Busy(self._calls))
            return
        work = self._methods.table[(interface, method.name)]

        def run() -> None:
            answer, failure = Answer(changed=AFTER_FAILURE[interface]), None
            try:
                answer = self._recorded(request, interface, method, lambda: work(call))
            except P2vdError as error:
                failure = error
            except Exception as error:  # whatever it is, the caller must get an answer
                log.exception("%s of %s failed", method.name, message.get_path())
                failure = _unexpected(error)
            self._collector.take(answer.changed, partial(finish, answer, failure))

        def finish(answer: Answer, error: P2vdError | None) -> None:
            self._calls -= 1
            if error is None:
                self._reply(message, method.out_signature, answer.values)
            else:
                self._refuse(message, error)

        start(run, f"bus-{method.name}")
        self._calls += 1  # in time: `finish` is for this thread. Where none runs nobody would count back

    def _recorded(
        self, request: Request | None, interface: str, method: Method, act: Callable[[], Answer]
    ) -> Answer:
        """Act, and have the audit say before and after. Raises AuditUnwritable: then nothing was done."""
        if request is None:
            return act()
        try:
            asked = self._audit.asked(request)
        finally:
            if (problem := self._audit.problem()) != self._audit_problem:
                self._audit_problem = problem
                self._collector.want(((MANAGER, ""),))
        try:
            answer = act()
        except Exception as error:
            failure = error if isinstance(error, P2vdError) else _unexpected(error)
            self._audit.ended(asked, Subject(), failure)
            raise
        self._audit.ended(asked, subject_after(interface, method, answer.values), None)
        return answer

    def _reply(self, message: Any, signature: str, values: tuple[object, ...]) -> None:
        if message.get_no_reply():
            return
        reply = MethodReturnMessage(message)
        if signature:
            append(reply, signature, values)
        self._connection.send_message(reply)

    def _refuse(self, message: Any, error: P2vdError) -> None:
        self._fail(message, error_name(error.name), str(error))

    def _fail(self, message: Any, name: str, sentence: str) -> None:
        if not message.get_no_reply():
            text = sentence.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
            self._connection.send_message(ErrorMessage(message, name, text))


def _options(method: Method, given: Mapping[object, object]) -> dict[str, object]:
    """Check options by name and type. Raises OptionNotPermitted, InvalidArgument."""
    permitted = {**method.options, _NO_INTERACTION: "b"}
    options: dict[str, object] = {}
    for key, value in given.items():
        name = str(key)
        signature = permitted.get(name)
        if signature is None:
            raise OptionNotPermitted(method.name, name, ", ".join(sorted(permitted)))
        if not fits(signature, value):
            raise InvalidArgument(f"option {name}", f"its type is not {signature}.")
        options[name] = plain(signature, value)
    return options


def _unexpected(error: Exception) -> Failed:
    return Failed(f"p2vd has a fault ({type(error).__name__}: {error}). See: journalctl -u p2vd")


def _ours(path: str) -> bool:
    return path == "/" or path == ROOT or ROOT.startswith(path + "/") or path.startswith(ROOT + "/")


def _monotonic_s() -> float:
    return float(GLib.get_monotonic_time()) / 1_000_000
