"""What is known of the disks in image files: looked into in the background, by helpers that may fail."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.asking import Answer
from p2vd.jobs import image_looks
from p2vd.jobs.export_watch import ExportWatch
from p2vd.jobs.form_scanner import FormScanner
from p2vd.jobs.image_looks import REFUSED, SILENT, UNREAD, UNSIZED, ImageLooks
from p2vd.jobs.image_sizes import ImageSizes
from p2vd.model.disk import Source, Transport
from p2vd.model.forms import SIZE_UNKNOWN, SourceFormat
from p2vd.model.inventory import Inventory
from tests.jobs.fake_asker import FakeAsker, FakeChild
from tests.jobs.fake_disks import LONG_S, StoppedClock
from tests.jobs.values import source

GIB = 1 << 30
NO_EXPORTS = ExportWatch(FakeAsker().spawn, (1, 2), tuple, frozenset, lambda: None)


def image(name: str, form: SourceFormat = SourceFormat.QCOW2, **changes: Any) -> Source:
    """An image file as discovery sees it."""
    path = f"/srv/images/{name}"
    seen = Source(path, "", "", name, "", 4096, 512, Transport.IMAGE, file_id=f"{name}@1", format=form)
    return replace(seen, **{"modified_us": 1, **changes})


class Desk:
    """Looks into images by a helper that answers what the test says."""

    def __init__(self) -> None:
        self.asker, self.clock = FakeAsker(), StoppedClock()
        self.news = threading.Semaphore(0)
        self.looks = ImageLooks(self.asker.spawn, (1, 2), self.changed, self.clock)

    def changed(self) -> None:
        self.news.release()

    def see(self, *files: Source, again: bool = False) -> dict[str, tuple[int, list[str]]]:
        """Size and reasons of each image, by name."""
        shown = self.looks.complete(files, again=again)
        return {one.name: (one.size_bytes, [reason.code for reason in one.reasons]) for one in shown}

    def wait_for_helpers(self, count: int) -> list[FakeChild]:
        """The helpers, once so many were started."""
        for _ in range(count):
            assert self.asker.started.acquire(timeout=LONG_S)
        return self.asker.children

    def heard(self) -> None:
        assert self.news.acquire(timeout=LONG_S)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    desk.asker.gate.set()
    yield desk
    desk.asker.gate.set()
    desk.looks.stop()


def test_an_image_has_the_size_of_its_disk_once_it_was_looked_into(desk: Desk) -> None:
    desk.asker.gate.clear()
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    assert desk.see(image("a.qcow2")) == {"a.qcow2": (0, [UNREAD])}
    assert desk.see(image("a.qcow2")) == {"a.qcow2": (0, [UNREAD])}
    desk.asker.gate.set()
    desk.heard()
    first = desk.looks.complete([image("a.qcow2")])
    assert (first[0].size_bytes, first[0].reasons) == (GIB, ())
    assert desk.looks.complete([image("a.qcow2")], again=True)[0] is first[0]
    (request,) = desk.asker.requests
    assert (request.worker_uid, request.worker_gid) == (1, 2)


@pytest.mark.parametrize("change", [{"file_id": "other"}, {"size_bytes": 8192}, {"modified_us": 2}])
def test_another_file_or_other_contents_are_looked_into_anew(desk: Desk, change: dict[str, Any]) -> None:
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    desk.see(image("a.qcow2"))
    desk.heard()
    desk.asker.sizes = {"/srv/images/a.qcow2": 2 * GIB}
    changed = image("a.qcow2", **change)
    assert desk.see(changed) == {"a.qcow2": (0, [UNREAD])}
    desk.heard()
    assert desk.see(changed) == {"a.qcow2": (2 * GIB, [])}


def test_what_is_refused_is_looked_into_again_when_the_host_is_and_not_at_once(desk: Desk) -> None:
    desk.asker.sizes = {"/srv/images/a.qcow2": "it is encrypted"}
    desk.see(image("a.qcow2"))
    desk.heard()
    assert desk.see(image("a.qcow2"), again=True) == {"a.qcow2": (0, [REFUSED])}
    assert len(desk.asker.requests) == 1
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    desk.clock.now_s += 60
    assert desk.see(image("a.qcow2"), again=True) == {"a.qcow2": (0, [REFUSED])}
    desk.heard()
    assert desk.see(image("a.qcow2")) == {"a.qcow2": (GIB, [])}


def test_a_helper_that_ends_at_an_image_is_followed_by_one_for_the_others(desk: Desk) -> None:
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB, "/srv/images/c.qcow2": GIB}
    files = [image(name) for name in ("a.qcow2", "b.qcow2", "c.qcow2")]
    desk.see(*files)
    desk.heard()
    desk.heard()
    assert desk.see(*files) == {"a.qcow2": (GIB, []), "b.qcow2": (0, [SILENT]), "c.qcow2": (GIB, [])}


def test_a_file_server_that_hangs_gets_no_second_helper(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_looks, "SILENCE_S", 0.25)
    desk.asker.gate.clear()
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    desk.asker.status = None  # it hangs in the kernel
    desk.see(image("a.qcow2"))
    (helper,) = desk.wait_for_helpers(1)
    desk.heard()
    for _ in range(2):
        desk.clock.now_s += 60
        assert desk.see(image("a.qcow2"), again=True) == {"a.qcow2": (0, [SILENT])}
    assert len(desk.asker.children) == 1
    monkeypatch.setattr(image_looks, "SILENCE_S", LONG_S)
    helper.status = desk.asker.status = 0
    desk.clock.now_s += 60
    desk.asker.gate.set()
    desk.see(image("a.qcow2"), again=True)
    desk.heard()
    assert desk.see(image("a.qcow2")) == {"a.qcow2": (GIB, [])}


def test_a_file_server_that_hangs_takes_away_its_own_images_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens them all before the first word is said of any would hang with that one."""
    monkeypatch.setattr(image_looks, "SILENCE_S", 1.5)  # in which the others have to answer
    there = [image("a.qcow2"), image("b.qcow2")]
    away = [replace(image(name), id=f"/mnt/away/{name}", name=name) for name in ("c.qcow2", "d.qcow2")]
    desk.asker.gate.clear()
    desk.asker.hangs = frozenset({away[1].id})
    desk.asker.sizes = {file.id: GIB for file in (*there, *away)}
    files = (there[0], *away, there[1])
    desk.see(*files)
    for _ in range(3):
        desk.heard()
    assert desk.see(*files) == {
        "a.qcow2": (GIB, []),
        "b.qcow2": (GIB, []),
        "c.qcow2": (0, [SILENT]),
        "d.qcow2": (0, [SILENT]),
    }
    assert len(desk.asker.children) == 3  # and no other that would only hang beside the first


def test_a_helper_that_cannot_be_started_is_said(desk: Desk) -> None:
    desk.asker.broken = True
    desk.see(image("a.qcow2"))
    desk.heard()
    (shown,) = desk.looks.complete([image("a.qcow2")])
    assert "Cannot allocate memory" in shown.reasons[0].text


def test_a_size_that_only_reading_all_tells_is_read_where_it_is_wanted(desk: Desk) -> None:
    file = image("a.gz", SourceFormat.GZ)
    desk.asker.sizes = {file.id: SIZE_UNKNOWN}
    desk.see(file)
    desk.heard()
    assert desk.see(file) == {"a.gz": (0, [UNSIZED])}
    assert "p2vd-copy --source-format gz" in desk.looks.complete([file])[0].reasons[0].text
    desk.asker.sizes = {file.id: GIB}
    for _ in range(2):
        desk.looks.measure([file.id, "/srv/images/gone.gz"])
    desk.heard()
    assert desk.see(file) == {"a.gz": (GIB, [])}
    assert [one.images[0].read_all for one in desk.asker.requests] == [False, True]


@pytest.mark.parametrize("unread", [True, False])
def test_a_read_that_fails_while_all_is_read_refuses_it_for_a_while(desk: Desk, unread: bool) -> None:
    """A file server that was away for a moment refuses no image for good, as damage in it does."""
    file = image("a.gz", SourceFormat.GZ)
    desk.asker.sizes = {file.id: SIZE_UNKNOWN}
    desk.see(file)
    desk.heard()
    desk.asker.sizes = {file.id: Answer(file.id, problem="It says why.", unread=unread)}
    desk.looks.measure([file.id])
    desk.heard()
    assert desk.see(file) == {"a.gz": (0, [REFUSED])}
    desk.asker.sizes = {file.id: SIZE_UNKNOWN}
    desk.clock.now_s += 60
    desk.see(file, again=True)
    if unread:
        desk.heard()
    assert desk.see(file) == {"a.gz": (0, [UNSIZED if unread else REFUSED])}


def test_what_is_gone_is_read_no_further(desk: Desk) -> None:
    file, other = image("a.gz", SourceFormat.GZ), image("b.gz", SourceFormat.GZ)
    desk.asker.sizes = {file.id: SIZE_UNKNOWN, other.id: SIZE_UNKNOWN}
    desk.see(file, other)
    desk.heard()
    desk.wait_for_helpers(1)
    desk.asker.sizes = {file.id: GIB, other.id: GIB}
    desk.asker.gate.clear()
    desk.asker.hangs = frozenset({file.id})
    desk.looks.measure([file.id, other.id])
    desk.wait_for_helpers(1)
    desk.see(other)
    desk.heard()
    desk.heard()
    assert desk.see(other) == {"b.gz": (GIB, [])}


def test_sizes_of_images_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    sizes, files = ImageSizes(tmp_path / "sizes.json"), [image(f"{name}.gz") for name in "ab"]
    for file in files:
        sizes.put(file, GIB, [one.id for one in files])
    assert [sizes.get(file) for file in files] == [GIB, GIB]
    sizes.put(files[1], 2 * GIB, [files[1].id])
    assert [ImageSizes(tmp_path / "sizes.json").get(file) for file in files] == [None, 2 * GIB]


def test_a_size_that_cost_a_whole_reading_is_known_after_a_restart(desk: Desk, tmp_path: Path) -> None:
    file, path = image("a.gz", SourceFormat.GZ), tmp_path / "sizes.json"
    desk.looks = ImageLooks(desk.asker.spawn, (1, 2), desk.changed, desk.clock, ImageSizes(path))
    desk.asker.sizes = {file.id: SIZE_UNKNOWN}
    desk.see(file)
    desk.heard()
    desk.asker.sizes = {file.id: GIB}
    desk.looks.measure([file.id])
    desk.heard()
    desk.asker.requests.clear()

    def after_a_restart(seen: Source) -> dict[str, tuple[int, list[str]]]:
        desk.looks = ImageLooks(desk.asker.spawn, (1, 2), desk.changed, desk.clock, ImageSizes(path))
        return desk.see(seen)

    assert after_a_restart(file) == {"a.gz": (GIB, [])}
    assert desk.asker.requests == []
    assert after_a_restart(replace(file, modified_us=2)) == {"a.gz": (0, [UNREAD])}
    path.write_text("{")  # it is nothing that another reading would not tell
    assert after_a_restart(file) == {"a.gz": (0, [UNREAD])}


def test_an_inventory_has_them_and_stays_the_same_object(desk: Desk) -> None:
    host = Host(Inventory((source(), image("a.qcow2"))))
    scanner = FormScanner(host, desk.looks, NO_EXPORTS)
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    scanner.scan()
    desk.heard()
    seen = scanner.refresh(())
    assert [one.size_bytes for one in seen.sources] == [source().size_bytes, GIB]
    assert scanner.refresh(()) is scanner.refresh(()) is seen
    assert host.looks == ["scan"]
    scanner.refresh({"sda"})
    assert host.looks == ["scan", "refresh"]


def test_without_such_images_the_inventory_is_the_hosts_own(desk: Desk) -> None:
    host = Host(Inventory((source(),)))
    assert FormScanner(host, desk.looks, NO_EXPORTS).scan() is host.inventory
    assert desk.asker.requests == []


class Host:
    """A scanner of the host, and how it was asked."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.looks: list[str] = []

    def scan(self) -> Inventory:
        self.looks.append("scan")
        return self.inventory

    def refresh(self, names: object) -> Inventory:
        self.looks.append("refresh")
        return self.inventory
