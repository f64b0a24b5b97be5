"""Helpers that look at disks in memory."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.jobs.contents_keeper import DEADLINE_S
from p2vd.model.contents import BootStyle, Contents, Table

LONG_S = 60.0  # only keeps a broken keeper from hanging a test
BIOS = Contents(Table.MBR, BootStyle.BIOS, 512)


@dataclass
class Disks:
    """The helpers, and what they are told to answer; each examination waits until it may go on."""

    answers: dict[str, ExamineReply | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    helpers: list["FakeHelper"] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    broken: bool = False
    hang: set[str] = field(default_factory=set)

    def start(self) -> "FakeHelper":
        self.helpers.append(FakeHelper(self))
        return self.helpers[-1]


class FakeHelper:
    def __init__(self, disks: Disks) -> None:
        self.disks = disks
        self.killed = threading.Event()
        self.closed = False
        self.alive = True

    def examine(self, request: ExamineRequest, keep_waiting: Callable[[float], bool]) -> ExamineReply:
        self.disks.asked.append(request.devnode)
        self.disks.began.release()
        if self.disks.broken:
            raise EOFError("The helper cannot be started: Cannot allocate memory.")
        if request.devnode in self.disks.hang:
            assert keep_waiting(DEADLINE_S - 1)
            assert not keep_waiting(DEADLINE_S)
            raise TimeoutError
        while not self.disks.gate.wait(0.01):
            if self.killed.is_set():
                raise EOFError
        answer = self.disks.answers.get(request.devnode, ExamineReply(BIOS))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed.set()
