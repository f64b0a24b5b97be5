"""The size of a disk that nothing but a reading of its whole image tells: read while a policy wants it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.asking import Answer
from p2vd.jobs import image_looks
from p2vd.jobs.image_look import REFUSED, SILENT, UNREAD, UNSIZED
from p2vd.jobs.image_sizes import ImageSizes
from p2vd.model.disk import Source
from p2vd.model.forms import SIZE_UNKNOWN, SourceFormat
from tests.jobs.image_desk import GIB, SILENCE_S, WHOLE, Desk, Shown, image, on_filer
from tests.waiting import until

FILE, OTHER = image("a.gz", SourceFormat.GZ), image("b.gz", SourceFormat.GZ)
AWAY, ALSO_AWAY = on_filer("away.gz", SourceFormat.GZ), on_filer("other.gz", SourceFormat.GZ)
ALL = (FILE, OTHER, AWAY, ALSO_AWAY)
LACKS_SIZE, IS_SILENT = (0, [UNSIZED]), (0, [SILENT])


@pytest.fixture
def desk() -> Iterator[Desk]:
    with Desk() as desk:
        desk.asker.sizes = {file.id: SIZE_UNKNOWN for file in ALL}
        desk.asker.read = {file.id: GIB for file in ALL}
        yield desk


def hang(desk: Desk, file: Source, *, stuck: bool = False, reads: bool = False) -> None:
    """Have whoever reads this one not come to its end, once all were looked into and the policies match."""
    desk.until(ALL, {file.name: LACKS_SIZE for file in ALL})
    desk.asker.gate.clear()
    desk.asker.hangs, desk.asker.stuck, desk.asker.reads = frozenset({file.id}), stuck, reads
    desk.name("image")


def readings(desk: Desk) -> list[str]:
    """The names of the images of which all was to be read."""
    asked = [one for request in desk.asker.requests for one in request.images if one.read_all]
    return [Path(one.path).name for one in asked]


def test_a_size_that_only_reading_all_tells_is_read_where_a_policy_wants_it(desk: Desk) -> None:
    desk.until([FILE], {"a.gz": LACKS_SIZE})
    assert "p2vd-copy --source-format gz" in desk.looks.complete([FILE])[0].reasons[0].text
    desk.name("iscsi")
    assert readings(desk) == []
    desk.name("iscsi", "image")
    desk.until([FILE], {"a.gz": WHOLE})
    desk.looks.reconfigured()
    assert readings(desk) == ["a.gz"]


def test_one_that_comes_when_a_policy_is_there_is_read_at_once(desk: Desk) -> None:
    desk.name("image")
    desk.until([FILE, OTHER], {"a.gz": WHOLE, "b.gz": WHOLE})
    assert readings(desk) == ["a.gz", "b.gz"]


@pytest.mark.parametrize("unread", [True, False])
def test_a_read_that_fails_while_all_is_read_refuses_it_for_a_while(desk: Desk, unread: bool) -> None:
    """A file server that was away for a moment refuses no image for good, as damage in it does."""
    desk.asker.read = {FILE.id: Answer(FILE.id, problem="It says why.", unread=unread)}
    desk.name("image")
    desk.until([FILE], {"a.gz": (0, [REFUSED])})
    desk.asker.read = {FILE.id: GIB}
    desk.clock.now_s += 60
    desk.see(FILE, again=True)
    desk.until([FILE], {"a.gz": WHOLE if unread else (0, [REFUSED])})


def test_what_is_gone_is_read_no_further(desk: Desk) -> None:
    hang(desk, FILE)
    desk.wait_for_helpers(3)  # one for each mount, and the reading
    desk.until([OTHER], {"b.gz": WHOLE})


def test_what_no_policy_matches_any_more_is_read_no_further(desk: Desk) -> None:
    """A reload ends the reading; the file is a source as before, for its directory is p2vd.toml's."""
    desk.until([FILE, OTHER], {"a.gz": LACKS_SIZE, "b.gz": LACKS_SIZE})
    desk.asker.gate.clear()
    desk.asker.hangs, desk.asker.reads = frozenset({FILE.id, OTHER.id}), True
    desk.name("image")
    desk.wait_for_helpers(2)
    until(lambda: readings(desk), "what was started is not told")
    while desk.news.acquire(blocking=False):
        pass
    desk.name("iscsi")
    desk.heard()
    assert desk.see(FILE, OTHER) == {"a.gz": LACKS_SIZE, "b.gz": LACKS_SIZE}
    assert readings(desk) == ["a.gz"]
    desk.asker.gate.set()
    desk.name("image")  # and is read anew once a rule is back
    desk.until([FILE, OTHER], {"a.gz": WHOLE, "b.gz": WHOLE})


def test_a_reading_that_goes_on_is_never_silent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    hang(desk, FILE, reads=True)
    desk.wait_for_helpers(3)
    assert not desk.asker.gate.wait(1.5 * SILENCE_S)
    desk.asker.gate.set()
    desk.until(ALL, {file.name: WHOLE for file in ALL})


def test_a_mount_that_hangs_silences_its_own_images_until_it_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one helper that hangs, the others are read meanwhile, and nobody has to ask again."""
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    first = (AWAY, ALSO_AWAY, FILE, OTHER)
    desk.until(first, {file.name: LACKS_SIZE for file in first})
    hang(desk, AWAY, stuck=True)
    desk.until(first, {"away.gz": IS_SILENT, "other.gz": IS_SILENT, "a.gz": WHOLE, "b.gz": WHOLE})
    for shown in desk.looks.complete([AWAY, ALSO_AWAY, FILE, OTHER])[:2]:
        (reason,) = shown.reasons
        assert f"{shown.id}: no answer in 2 s from /mnt/away (nfs4, filer:/exports/old)." in reason.text
        assert "Look at its file server" in reason.text
    desk.clock.now_s += 3600
    assert desk.see(*first, again=True)["away.gz"] == IS_SILENT
    assert sorted(readings(desk)) == ["a.gz", "away.gz", "b.gz"]
    desk.asker.gate.set()
    desk.until(first, {file.name: WHOLE for file in first})


def test_a_mount_in_the_place_of_one_that_hangs_for_ever_is_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after umount -l: the helper that hangs does so in what nobody sees any more."""
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    hang(desk, AWAY, stuck=True)
    desk.until([AWAY], {"away.gz": IS_SILENT})
    desk.clock.now_s += 60
    desk.asker.hangs, desk.asker.stuck = frozenset({OTHER.id}), False
    desk.mounts = desk.mounts.replace("2 1 0:50", "3 1 0:50")
    desk.until([AWAY, ALSO_AWAY], {"away.gz": WHOLE, "other.gz": WHOLE})


def test_one_file_that_hangs_again_and_again_keeps_no_other_of_its_mount_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_looks, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(image_looks, "_RETURN_POLL_S", 0.05)
    hang(desk, FILE)
    desk.until(ALL, {"a.gz": IS_SILENT, "b.gz": IS_SILENT, "away.gz": WHOLE, "other.gz": WHOLE})
    expected = {"a.gz": IS_SILENT, "b.gz": WHOLE, "away.gz": WHOLE, "other.gz": WHOLE}
    desk.until(ALL, expected, step_s=60)


# ---- what is kept of it -----------------------------------------------------------------------


def test_sizes_of_images_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    sizes = ImageSizes(tmp_path / "sizes.json")
    for file in (FILE, OTHER):
        sizes.put(file, GIB, [FILE.id, OTHER.id])
    assert [sizes.get(file) for file in (FILE, OTHER)] == [GIB, GIB]
    sizes.put(OTHER, 2 * GIB, [OTHER.id])
    assert [ImageSizes(tmp_path / "sizes.json").get(file) for file in (FILE, OTHER)] == [None, 2 * GIB]


def test_sizes_of_images_whose_directory_is_away_are_not(tmp_path: Path) -> None:
    """Else they would all be read again when their file server is back."""
    sizes = ImageSizes(tmp_path / "sizes.json")
    sizes.put(AWAY, GIB, [AWAY.id])
    sizes.put(FILE, GIB, [FILE.id])
    assert ImageSizes(tmp_path / "sizes.json").get(AWAY) == GIB
    sizes.put(ALSO_AWAY, GIB, [FILE.id, ALSO_AWAY.id])
    assert ImageSizes(tmp_path / "sizes.json").get(AWAY) is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"a": 1}', '{"a": [[], 1e999]}', '{"a": [[], "x"]}', "[" * 50_000],
    ids=["no JSON", "list", "number", "endless", "text", "deep"],
)
def test_sizes_that_are_not_understood_cost_another_reading(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.json").write_text(text)
    assert ImageSizes(tmp_path / "sizes.json").get(FILE) is None


@pytest.mark.parametrize("size", [-1, 1 << 63])
def test_a_size_that_no_disk_has_costs_another_reading(tmp_path: Path, size: int) -> None:
    ImageSizes(tmp_path / "sizes.json").put(FILE, size, [FILE.id])
    assert ImageSizes(tmp_path / "sizes.json").get(FILE) is None


def test_sizes_that_cannot_be_read_or_written_cost_another_reading(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sizes = ImageSizes(tmp_path / "file" / "sizes.json")
    sizes.put(FILE, GIB, [FILE.id])
    assert sizes.get(FILE) == GIB


def test_a_size_that_cost_a_whole_reading_is_known_after_a_restart(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    desk.looks = desk.started(ImageSizes(path))
    desk.name("image")
    desk.until([FILE], {"a.gz": WHOLE})
    assert json.loads(path.read_text()).keys() == {FILE.id}
    desk.asker.requests.clear()

    def after_a_restart(seen: Source) -> dict[str, Shown]:
        desk.looks.stop()
        desk.looks = desk.started(ImageSizes(path))
        return desk.see(seen)

    assert after_a_restart(FILE) == {"a.gz": WHOLE}
    assert desk.asker.requests == []
    assert after_a_restart(replace(FILE, modified_us=2)) == {"a.gz": (0, [UNREAD])}
    path.unlink()  # it is nothing that another reading would not tell
    assert after_a_restart(FILE) == {"a.gz": (0, [UNREAD])}
