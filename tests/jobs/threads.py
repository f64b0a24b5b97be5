"""A host that has no thread left to give."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_more(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every start of a thread fail meanwhile, as Python says it."""

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        yield
