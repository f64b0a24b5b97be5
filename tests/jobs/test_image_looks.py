"""What is known of the disks in image files: looked into in the background, by helpers that may fail."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p2vd.jobs import image_looks
from p2vd.jobs.export_watch import ExportWatch
from p2vd.jobs.form_scanner import FormScanner
from p2vd.jobs.image_look import REFUSED, SILENT, UNREAD
from p2vd.model.disk import Source
from p2vd.model.inventory import Inventory
from tests.jobs.fake_asker import FakeAsker
from tests.jobs.fake_disks import LONG_S
from tests.jobs.image_desk import GIB, SILENCE_S, WHOLE, Desk, image, on_filer
from tests.jobs.threads import no_more
from tests.jobs.values import source
from tests.waiting import until

NO_EXPORTS = ExportWatch(FakeAsker().spawn, (1, 2), tuple, frozenset, lambda: None)


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as desk:
        yield desk


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
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    desk.asker.gate.clear()
    desk.asker.stuck = True
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    desk.see(image("a.qcow2"))
    desk.heard()
    for _ in range(2):
        desk.clock.now_s += 60
        assert desk.see(image("a.qcow2"), again=True) == {"a.qcow2": (0, [SILENT])}
    assert len(desk.asker.children) == 1
    assert (
        "no answer in 2 s from / (ext4, /dev/sda1)."
        in desk.looks.complete([image("a.qcow2")])[0].reasons[0].text
    )
    desk.asker.gate.set()
    desk.until([image("a.qcow2")], {"a.qcow2": (GIB, [])})


def test_a_file_server_that_hangs_takes_away_its_own_images_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens them all before the first word is said of any would hang with that one."""
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    there = [image("a.qcow2"), image("b.qcow2")]
    away = [on_filer("c.qcow2"), on_filer("d.qcow2")]
    desk.asker.gate.clear()
    desk.asker.stuck = True
    desk.asker.hangs = frozenset({away[1].id})
    desk.asker.sizes = {file.id: GIB for file in (*there, *away)}
    files = (there[0], *away, there[1])
    desk.see(*files)
    silent = {"c.qcow2": (0, [SILENT]), "d.qcow2": (0, [SILENT])}
    desk.until(files, {"a.qcow2": (GIB, []), "b.qcow2": (GIB, []), **silent})
    late = on_filer("late.qcow2")
    desk.until((*away, late), {**silent, "late.qcow2": (0, [SILENT])})
    assert len(desk.asker.children) == 2  # and no other that would only hang beside the first


def test_one_image_that_hangs_again_keeps_none_of_the_others_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    files = [image(name) for name in ("a.qcow2", "b.qcow2", "c.qcow2")]
    desk.asker.gate.clear()
    desk.asker.hangs = frozenset({files[0].id})
    desk.asker.sizes = {file.id: GIB for file in files}
    silent = (0, [SILENT])
    desk.until(files, dict.fromkeys(("a.qcow2", "b.qcow2", "c.qcow2"), silent))
    desk.until(files, {"a.qcow2": silent, "b.qcow2": WHOLE, "c.qcow2": WHOLE}, step_s=60)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "packet",
    [b"[" * 50_000, b"{}}", b'{"path": "/srv/images/a.qcow2", "size_bytes": -7}'],
    ids=["too deep", "no JSON", "no size"],
)
def test_what_no_helper_says_ends_no_thread_and_leaks_nothing(desk: Desk, packet: bytes) -> None:
    """It reads what strangers wrote, and may be theirs by then."""
    desk.asker.packet = packet
    with tempfile.TemporaryFile() as file:
        before = descriptors()
        desk.asker.descriptors = [file.fileno()]
        desk.until([image("a.qcow2")], {"a.qcow2": (0, [SILENT])})
        desk.asker.packet, desk.asker.descriptors = b"", []
        desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
        desk.clock.now_s += 60
        desk.see(image("a.qcow2"), again=True)
        desk.until([image("a.qcow2")], {"a.qcow2": (GIB, [])})
        # The thread of a fake helper may not have closed its own yet.
        until(lambda: descriptors() <= before, within_s=LONG_S)


def test_without_a_thread_it_is_looked_into_later_and_not_never(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.asker.sizes = {"/srv/images/a.qcow2": GIB}
    with no_more(monkeypatch):
        assert desk.see(image("a.qcow2")) == {"a.qcow2": (0, [UNREAD])}
    desk.until([image("a.qcow2")], {"a.qcow2": (GIB, [])})


def test_a_helper_that_cannot_be_started_is_said(desk: Desk) -> None:
    desk.asker.broken = True
    desk.see(image("a.qcow2"))
    desk.heard()
    (shown,) = desk.looks.complete([image("a.qcow2")])
    assert "Cannot allocate memory" in shown.reasons[0].text


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


def silent(desk: Desk, file: Source, monkeypatch: pytest.MonkeyPatch) -> "tuple[Host, FormScanner]":
    """A host that was scanned, and whose file server gives no answer about an image since."""
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    host = Host(Inventory((source(), file)))
    scanner = FormScanner(host, desk.looks, NO_EXPORTS)
    desk.asker.stuck, desk.asker.sizes = True, {file.id: GIB}
    desk.asker.gate.clear()
    scanner.scan()
    desk.heard()
    return host, scanner


def test_a_host_is_scanned_for_images_that_went_out_of_sight_with_their_mount(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that asks a file server that is away does not see them; and nothing tells when it is back."""
    file = on_filer("a.qcow2")
    host, scanner = silent(desk, file, monkeypatch)
    host.inventory = Inventory((source(),))
    scanner.scan()
    desk.asker.gate.set()
    desk.clock.now_s += 60
    host.looks.clear()
    scanner.refresh(())
    assert host.looks == []
    desk.heard()  # its helper has ended
    host.inventory = Inventory((source(), file))
    scanner.refresh(())
    desk.heard()
    assert [one.size_bytes for one in scanner.refresh(()).sources] == [source().size_bytes, GIB]
    assert host.looks == ["scan"]


def test_a_mount_that_answers_while_a_scan_passes_it_by_is_scanned_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = on_filer("a.qcow2")
    host, scanner = silent(desk, file, monkeypatch)

    def answers() -> None:
        desk.asker.gate.set()
        desk.clock.now_s += 60
        desk.heard()  # its helper has ended

    host.inventory, host.meanwhile = Inventory((source(),)), answers
    assert [one.id for one in scanner.scan().sources] == [source().id]
    host.inventory, host.meanwhile = Inventory((source(), file)), lambda: None
    host.looks.clear()
    assert [one.id for one in scanner.refresh(()).sources] == [source().id, file.id]
    scanner.refresh(())
    assert host.looks == ["scan"]


def test_without_such_images_the_inventory_is_the_hosts_own(desk: Desk) -> None:
    host = Host(Inventory((source(),)))
    assert FormScanner(host, desk.looks, NO_EXPORTS).scan() is host.inventory
    assert desk.asker.requests == []


class Host:
    """A scanner of the host, and how it was asked."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.looks: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def scan(self) -> Inventory:
        self.looks.append("scan")
        self.meanwhile()
        return self.inventory

    def refresh(self, names: object) -> Inventory:
        self.looks.append("refresh")
        return self.inventory
