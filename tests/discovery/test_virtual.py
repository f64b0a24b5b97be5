"""Disks that are no LUN: virtio disks are in test_disks; here md arrays, loop devices and image files."""

import subprocess
from pathlib import Path

import pytest

from p2vd.discovery.images import file_ids, find_images, foreign_format
from p2vd.model.disk import Transport
from p2vd.model.errors import OutputUnclear
from p2vd.system.command import CommandFailed, CommandTimedOut, SystemCommands
from tests.discovery.host import Host, codes, empty_host

MD = "devices/virtual/block/md0"
EXPORT = "MD_LEVEL=raid1\nMD_DEVICES=2\nMD_METADATA=1.2\nMD_UUID=5fd9e0b6:1c2a3b4c:0d1e2f3a:4b5c6d7e\n"
UUID = "5fd9e0b6:1c2a3b4c:0d1e2f3a:4b5c6d7e"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return empty_host(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A directory with images, one in a format of its own, and what is none."""
    directory = tmp_path / "images"
    (directory / "deeper").mkdir(parents=True)
    (directory / "a b.img").write_bytes(bytes(3 << 20))
    (directory / "c.raw").write_bytes(b"QFI\xfb" + bytes(1 << 20))
    (directory / "notes.txt").write_text("no image")
    (directory / "deeper/d.img").write_bytes(bytes(1 << 20))
    (directory / "e.img").symlink_to("a b.img")
    return directory


def array(host: Host, size_bytes: int = 1 << 30) -> Host:
    """A mirror over two virtio disks."""
    host.disk("md0", MD, "9:0", size_bytes, md__level="raid1\n")
    for name, number in (("vdb", "254:16"), ("vdc", "254:32")):
        host.disk(name, f"devices/pci/virtio-{name}/block/{name}", number, 1 << 30, serial=name)
        host.write(f"block/{name}/holders/md0", "")
    return host


def test_an_array_is_a_source_by_its_uuid_and_its_members_are_none(host: Host) -> None:
    array(host).commands.on("mdadm --detail --export /dev/md0", EXPORT)
    sources = {source.device: source for source in host.discovery.scan().sources}
    md = sources["md0"]
    assert (md.id, md.transport, md.model, md.reasons) == (f"md-{UUID}", Transport.MD, "raid1", ())
    assert codes(sources["vdb"].reasons) == codes(sources["vdc"].reasons) == ["md-member"]
    assert "/dev/md0" in sources["vdb"].reasons[0].text


def test_lvm_sees_the_array_and_not_its_members(host: Host) -> None:
    array(host).commands.on("mdadm", EXPORT)
    host.discovery.scan()
    (argv,) = [argv for argv in host.commands.queries if argv[:2] == ("lvm", "fullreport")]
    assert argv[argv.index("--devices") + 1] == "/dev/md0"


def test_an_array_that_nobody_can_name_is_refused_and_nothing_else(host: Host) -> None:
    array(host).commands.on("mdadm", CommandFailed(("mdadm",), 127, "No such file or directory"))
    inventory = host.discovery.scan()
    assert codes(inventory.source("md0").reasons) == ["no-identity"]
    assert "mdadm" in inventory.problems[0]
    assert inventory.unread == ()


def test_an_array_that_does_not_run_has_no_medium(host: Host) -> None:
    array(host, size_bytes=0)
    assert codes(host.discovery.scan().source("md0").reasons) == ["no-medium"]
    assert not [argv for argv in host.commands.queries if argv[0] == "mdadm"]


@pytest.mark.parametrize("answer", ["", EXPORT[:-1][:-3], EXPORT * 2, EXPORT.replace("MD_UUID", "UUID")])
def test_an_array_of_which_mdadm_says_no_uuid_is_unread(host: Host, answer: str) -> None:
    array(host).commands.on("mdadm", answer)
    (problem,) = host.discovery.scan().unread
    assert "mdadm --detail --export /dev/md0" in problem


def test_image_files_by_the_real_find_and_stat(images: Path) -> None:
    found = find_images(SystemCommands(), images)
    assert [(Path(image.path).name, image.size_bytes) for image in found] == [
        ("a b.img", 3 << 20),
        ("c.raw", (1 << 20) + 4),
    ]
    assert file_ids(SystemCommands(), [found[0].path, f"{images}/gone"]) == {found[0].path: found[0].file_id}


def test_a_directory_by_another_name_is_the_same_directory(images: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to(images)
    assert find_images(SystemCommands(), tmp_path / "other") == find_images(SystemCommands(), images)


def test_a_file_in_the_place_of_another_is_another(images: Path) -> None:
    before, _ = find_images(SystemCommands(), images)
    (images / "new").write_bytes(bytes(3 << 20))
    (images / "new").rename(before.path)
    after, _ = find_images(SystemCommands(), images)
    assert (after.path, after.size_bytes) == (before.path, before.size_bytes)
    assert after.file_id != before.file_id


def answers_of(host: Host, images: Path) -> Host:
    """The host with an image directory that answers as the real one does."""
    real = SystemCommands()
    for program in ("readlink", "find", "stat"):
        host.commands.replace(program, lambda argv: real.query(argv, ok=(0, 1)))
    host.image_directories = (images,)
    return host


def test_an_image_is_a_source_by_its_path_and_file(host: Host, images: Path) -> None:
    inventory = answers_of(host, images).discovery.scan()
    image = inventory.source(f"{images}/a b.img")
    assert (image.transport, image.sector_size, image.device) == (Transport.IMAGE, 512, "")
    assert (image.devnode, image.name, image.reasons) == (f"{images}/a b.img", "a b.img", ())
    assert image.file_id.startswith(f"{(images / 'a b.img').stat().st_ino}@")
    assert codes(inventory.source("c.raw").reasons) == ["image-format"]
    assert "(NAME.qcow2)" in inventory.source("c.raw").reasons[0].text
    assert len(inventory.sources) == 2


@pytest.mark.parametrize(("name", "form"), [("a.qcow2", "qcow2"), ("b.img.zst", "zst"), ("c.vhd", "vpc")])
def test_an_image_of_another_form_is_listed_by_its_name_and_not_read(
    host: Host, images: Path, name: str, form: str
) -> None:
    (images / name).write_bytes(b"whatever")
    image = answers_of(host, images).discovery.scan().source(name)
    assert (image.format.value, image.size_bytes, image.reasons) == (form, 8, ())
    assert image.modified_us == (images / name).stat().st_mtime_ns // 1000
    assert not image.is_plain
    raw = host.discovery.scan().source("a b.img")
    assert (raw.format.value, raw.modified_us, raw.is_plain) == ("raw", 0, True)


@pytest.mark.parametrize("begins", [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x50\x2a\x4d\x18"])
def test_a_compressed_image_that_says_it_is_raw_is_refused(host: Host, images: Path, begins: bytes) -> None:
    (images / "d.img").write_bytes(begins + bytes(1 << 20))
    reasons = answers_of(host, images).discovery.scan().source("d.img").reasons
    assert codes(reasons) == ["image-format"]


def test_an_image_under_a_loop_device_is_one_source(host: Host, images: Path) -> None:
    path = f"{images}/a b.img"
    host.disk("loop0", "devices/virtual/block/loop0", "7:0", 3 << 20, loop__backing_file=f"{path}\n")
    inventory = answers_of(host, images).discovery.scan()
    (loop,) = [source for source in inventory.sources if source.id == path]
    assert (loop.transport, loop.device, loop.reasons) == (Transport.LOOP, "loop0", ())
    (image, _) = find_images(SystemCommands(), images)
    assert loop.file_id == image.file_id


def test_an_image_that_a_container_hides_under_its_loop_device_is_refused(host: Host) -> None:
    host.disk("loop0", "devices/virtual/block/loop0", "7:0", 3 << 20, loop__backing_file="/else/where\n")
    host.commands.replace("stat", "")
    assert codes(host.discovery.scan().source("loop0").reasons) == ["image-unknown"]


def test_a_directory_that_is_away_takes_only_its_images_away(host: Host, images: Path) -> None:
    answers_of(host, images).image_directories = (images / "gone", images)
    host.commands.replace("readlink -e -- " + str(images / "gone"), CommandFailed(("readlink",), 1, ""))
    inventory = host.discovery.scan()
    assert len(inventory.sources) == 2
    assert (len(inventory.problems), inventory.unread) == (1, ())


def test_a_file_server_that_hangs_takes_only_its_images_away(host: Host, images: Path) -> None:
    answers_of(host, images).commands.replace("find", CommandTimedOut(("find",), 15))
    inventory = host.discovery.scan()
    assert (inventory.sources, len(inventory.problems), inventory.unread) == ((), 1, ())


def test_an_answer_about_images_that_nobody_understands_raises(images: Path) -> None:
    host = empty_host(images / "host")
    host.commands.on("readlink", "what?")
    with pytest.raises(OutputUnclear, match="readlink"):
        find_images(host.commands, images)


@pytest.mark.parametrize("kind", ["qcow2", "qed", "vmdk", "vpc", "vhdx", "vdi", "raw"])
def test_formats_as_qemu_writes_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk"
    try:
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(path), "4M"], check=True)
    except FileNotFoundError:
        pytest.skip("no qemu-img")
    assert foreign_format(str(path)) == {"vpc": "vhd", "raw": ""}.get(kind, kind)
