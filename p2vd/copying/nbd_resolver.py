"""The addresses of a server's host. Who waits for them hears a stop, also where no name server answers."""

import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from p2vd.copying.controls import Interrupted

_LOOK_S = 0.5
_TASKS = Path("/proc/self/task")


def addresses(host: str, port: int, ended: Callable[[], bool]) -> list[tuple[str, str]]:
    """Return each address of `host` with the port, both as numbers.

    Raises OSError, UnicodeError where no host can have that name, Interrupted once `ended`.
    """
    try:
        return _found(host, port, socket.AI_NUMERICHOST)
    except OSError:  # a name: only now others are asked, who may take a minute
        return _answered(host, port, ended)


def _answered(host: str, port: int, ended: Callable[[], bool]) -> list[tuple[str, str]]:
    answers: queue.SimpleQueue[list[tuple[str, str]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_found(host, port, 0))
        except Exception as error:  # also one of ours: nobody else would tell who waits
            answers.put(error)

    # getaddrinfo(3) cannot be ended; the process can, with it.
    asking = threading.Thread(target=ask, name="resolver", daemon=True)
    asking.start()
    while True:
        try:
            answer = answers.get(timeout=_LOOK_S)
            break
        except queue.Empty:
            if ended():
                raise Interrupted from None
    asking.join()
    # join() returns a moment before the kernel forgets it, and privileges are given up by the only thread.
    while (_TASKS / str(asking.native_id)).exists():
        time.sleep(0.001)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _found(host: str, port: int, flags: int) -> list[tuple[str, str]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    numbers = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    return [socket.getnameinfo(place, numbers) for *_, place in found]
