"""Threads: to start one, which a host at its limit of processes or memory refuses, and to wait for them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError

log = logging.getLogger(__name__)


@dataclass(eq=False)
class NoThread(P2vdError):
    """This host gives p2vd no more threads now: what one was for was not begun."""

    what: str
    cause: str
    template: ClassVar[str] = (
        "This host lets p2vd start no thread for {what!r} ({cause}), so that was not begun. It is short of "
        "memory or processes, or p2vd.service has reached TasksMax= (systemctl status p2vd); then try again."
    )


def start(target: Callable[[], object], name: str) -> threading.Thread:
    """Have `target` run on a thread of its own, which the end of the process does not wait for.

    Raises NoThread: then it does not run, and there is no thread that could be joined.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    try:
        thread.start()
    except (RuntimeError, MemoryError) as error:  # RuntimeError: how Python tells that pthread_create failed
        raise NoThread(name, str(error) or "no memory") from error
    return thread


def start_or_skip(target: Callable[[], object], name: str) -> None:
    """Have `target` run on a thread of its own; where there is none, not at all: it has its turn later."""
    try:
        start(target, name)
    except NoThread as error:
        log.warning("%s", error)


def start_or_run(target: Callable[[], object], name: str) -> None:
    """Have `target` run on a thread of its own; where there is none, here and now: it must be done."""
    try:
        start(target, name)
    except NoThread:
        target()


def join_all(threads: Iterable[threading.Thread], wait_s: float) -> None:
    """Wait for the end of all of them together at most so long."""
    until = time.monotonic() + wait_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
