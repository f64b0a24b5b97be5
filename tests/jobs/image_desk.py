"""Images that are looked into by helpers that say what a test says, on mounts that are told, not there."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from p2vd.jobs.image_looks import ImageLooks
from p2vd.jobs.image_sizes import ImageSizes
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import SourceFormat
from p2vd.policy.model import PolicySet, PolicyText
from p2vd.policy.parse import load
from tests.fakes import StoppedClock
from tests.jobs.fake_asker import FakeAsker, FakeChild
from tests.jobs.fake_disks import LONG_S

Shown = tuple[int, list[str]]
"""Size and reasons of an image."""

GIB = 1 << 30
SILENCE_S = 2.0
"""For a fake helper that hangs; one that does not has to have answered by then, on a busy machine too."""
WHOLE: Shown = (GIB, [])
MOUNTS = """1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:50 / /mnt/away rw,relatime shared:3 - nfs4 filer:/exports/old rw
"""
RULE = """
[[rule]]
name = "{transport}"
match.transport = ["{transport}"]
target.directory = "/srv/disks"
"""


def image(name: str, form: SourceFormat = SourceFormat.QCOW2, **changes: Any) -> Source:
    """An image file as discovery sees it."""
    path = f"/srv/images/{name}"
    seen = Source(path, "", "", name, "", 4096, 512, Transport.IMAGE, file_id=f"{name}@1", format=form)
    return replace(seen, **{"modified_us": 1, **changes})


def on_filer(name: str, form: SourceFormat = SourceFormat.QCOW2) -> Source:
    """An image on a mount of its own."""
    return replace(image(name, form), id=f"/mnt/away/{name}")


class Desk:
    """Looks into images by a helper that answers what the test says."""

    def __init__(self) -> None:
        self.asker, self.clock = FakeAsker(), StoppedClock()
        self.news = threading.Semaphore(0)
        self.policies, self.mounts = PolicySet(), MOUNTS
        self.looks = self.started()

    def started(self, sizes: ImageSizes | None = None) -> ImageLooks:
        """What looks into images, as after a start of the daemon."""
        more = (self.clock, sizes, lambda: self.policies, lambda: self.mounts)
        return ImageLooks(self.asker.spawn, (1, 2), self.changed, *more)

    def name(self, *transports: str) -> None:
        """Have the policies match images of these transports, as after a reload."""
        texts = [RULE.format(transport=transport) for transport in transports]
        self.policies = load([PolicyText(f"{number}.toml", text) for number, text in enumerate(texts)])
        assert self.policies.errors == ()
        self.looks.reconfigured()

    def __enter__(self) -> Self:
        self.asker.gate.set()
        return self

    def __exit__(self, *_: object) -> None:
        self.asker.gate.set()
        self.looks.stop()

    def changed(self) -> None:
        self.news.release()

    def see(self, *files: Source, again: bool = False) -> dict[str, Shown]:
        """What each image is shown with, by name."""
        shown = self.looks.complete(files, again=again)
        return {one.name: (one.size_bytes, [reason.code for reason in one.reasons]) for one in shown}

    def wait_for_helpers(self, count: int) -> list[FakeChild]:
        """The helpers, once so many were started."""
        for _ in range(count):
            assert self.asker.started.acquire(timeout=LONG_S)
        return self.asker.children

    def heard(self) -> None:
        assert self.news.acquire(timeout=LONG_S)

    def until(self, files: Sequence[Source], expected: Mapping[str, Shown], *, step_s: float = 0.0) -> None:
        """Wait until these files are shown so, while at each change so much time has passed."""
        end_s = time.monotonic() + LONG_S
        while (seen := self.see(*files)) != expected:
            assert time.monotonic() < end_s, f"it stays {seen}"
            self.clock.now_s += step_s
            assert self.news.acquire(timeout=LONG_S), f"it stays {seen}"
