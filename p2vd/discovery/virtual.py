"""Disks that are no LUN and have no WWID: virtio disks, loop devices, md arrays, image files."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2vd.discovery.images import ImageFile, file_ids, find_images, foreign_format
from p2vd.discovery.md import array_uuid
from p2vd.discovery.sysfs import BlockTree, Node
from p2vd.model.disk import Source, Transport
from p2vd.model.errors import Reason
from p2vd.model.forms import SourceFormat
from p2vd.model.inquiry import clean_inquiry
from p2vd.system.command import CommandFailed, Commands, CommandTimedOut

_VIRTIO = re.compile(r"vd[a-z]+")
_LOOP = re.compile(r"loop\d+")
_DELETED = " (deleted)"
_IMAGE_SECTOR = 512

_NO_IDENTITY = (
    "{devnode} has no identity (no WWID, no serial number): p2vd could not tell it from another disk "
    "after a restart. {remedy}"
)


@dataclass(frozen=True)
class OtherFacts:
    """What is known of these disks beside sysfs' block devices.

    `arrays`: UUIDs of md arrays by device name; one that is not there has none that could be read.
    `files`: file ids of the images under loop devices, by path. `images`: what is in the image directories.
    """

    arrays: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[ImageFile] = ()


def read_others(commands: Commands, tree: BlockTree, problems: dict[str, str]) -> OtherFacts:
    """Return what is known of the arrays and loop devices in `tree`; what cannot be asked is not there.

    Why it cannot is put into `problems` by the device's name: one sick file server or array leaves the
    other disks as they are. Raises OutputUnclear.
    """
    arrays: dict[str, str] = {}
    files: Mapping[str, str] = {}
    for node in tree.nodes.values():
        if node.is_array and not node.disk and node.size_bytes:
            with _told(problems, node.name):
                arrays[node.name] = array_uuid(commands, node.devnode)
    loops = [node for node in tree.nodes.values() if _shows_image(node)]
    with _told(problems, *(node.name for node in loops)):
        paths = {node.backing_file for node in loops if not node.backing_file.endswith(_DELETED)}
        files = file_ids(commands, sorted(paths))
    return OtherFacts(arrays, files)


def read_images(
    commands: Commands, directories: Sequence[Path], problems: dict[str, str]
) -> tuple[ImageFile, ...]:
    """Return the image files in the directories; `problems` as in `read_others`, by the directory.

    Raises OutputUnclear.
    """
    images: dict[str, ImageFile] = {}
    for directory in directories:
        with _told(problems, str(directory)):
            images.update((image.path, image) for image in find_images(commands, directory))
    return tuple(images.values())


def shown_images(tree: BlockTree) -> frozenset[str]:
    """Return the image files under the loop devices in `tree`."""
    return frozenset(node.backing_file for node in tree.loops if _shows_image(node))


def other_sources(tree: BlockTree, facts: OtherFacts) -> Iterator[Source]:
    """Yield these disks as sources. An image that a loop device shows is that loop device."""
    shown = set()
    for node in tree.nodes.values():
        if node.disk:
            continue
        if _VIRTIO.fullmatch(node.name):
            yield _virtio_source(node, tree)
        elif node.is_array:
            yield _array_source(node, tree, facts)
        elif _shows_image(node):
            shown.add(node.backing_file)
            yield _loop_source(node, facts)
    yield from (_image_source(image) for image in facts.images if image.path not in shown)


def plain_source(node: Node, identity: str, wwid: str, transport: Transport) -> Source:
    """Return the record of a disk of which nothing but this is known."""
    return Source(
        id=identity,
        wwid=wwid,
        device=node.name,
        name=node.name,
        dm_uuid="",
        size_bytes=node.size_bytes,
        sector_size=node.sector_size,
        transport=transport,
    )


def without_identity(source: Source, remedy: str) -> Source:
    """Return a disk refused because it could be mistaken for another."""
    text = _NO_IDENTITY.format(devnode=source.devnode, remedy=remedy)
    return replace(source, reasons=(Reason("no-identity", text),))


@contextlib.contextmanager
def _told(problems: dict[str, str], *names: str) -> Iterator[None]:
    """Note of what a question got no answer; an answer that nobody understands is raised."""
    try:
        yield
    except (CommandFailed, CommandTimedOut) as error:
        problems.update((name, str(error)) for name in names)


def _shows_image(node: Node) -> bool:
    whole = _LOOP.fullmatch(node.name) is not None and not node.disk
    return whole and bool(node.backing_file) and not node.backing_file.startswith("/dev/")


def _virtio_source(node: Node, tree: BlockTree) -> Source:
    serial = clean_inquiry(tree.attribute(node.name, "serial"))
    source = plain_source(
        node, f"virtio-{serial}" if serial else f"no-identity-{node.name}", "", Transport.VIRTIO
    )
    if not serial:
        return without_identity(source, "Give the virtual disk a serial number in its definition.")
    return replace(source, serial=serial)


def _array_source(node: Node, tree: BlockTree, facts: OtherFacts) -> Source:
    uuid = facts.arrays.get(node.name, "")
    source = plain_source(node, f"md-{uuid}" if uuid else f"no-identity-{node.name}", "", Transport.MD)
    if not uuid and node.size_bytes:
        source = without_identity(source, f"Its UUID could not be read: mdadm --detail {node.devnode}.")
    return replace(source, model=clean_inquiry(tree.attribute(node.name, "md/level")))


def _loop_source(node: Node, facts: OtherFacts) -> Source:
    path = node.backing_file
    source = replace(plain_source(node, path, "", Transport.LOOP), file_id=facts.files.get(path, ""))
    if path.endswith(_DELETED):
        reason = Reason(
            "image-deleted",
            f"The image behind {node.devnode} was deleted ({path.removesuffix(_DELETED)}): "
            "it could not be found again after a restart. Attach a file that exists (losetup -d, losetup).",
        )
    elif node.backing_partial:
        reason = Reason(
            "partial-image",
            f"{node.devnode} shows only a part of {path}. "
            "Attach the whole file (losetup without --offset and --sizelimit).",
        )
    elif not source.file_id:
        reason = Reason(
            "image-unknown",
            f"{node.devnode} shows {path}, and p2vd cannot look at that file: it could not be told from "
            "another after a restart. Put it where p2vd can: it has a /tmp and a /var/tmp of its own.",
        )
    else:
        return source
    return replace(source, reasons=(reason,))


def _image_source(image: ImageFile) -> Source:
    source = Source(
        id=image.path,
        wwid="",
        device="",
        name=Path(image.path).name,
        dm_uuid="",
        size_bytes=image.size_bytes,
        sector_size=_IMAGE_SECTOR,
        transport=Transport.IMAGE,
        file_id=image.file_id,
        format=image.format,
    )
    if image.format is not SourceFormat.RAW:
        # What disk is in it is for others to tell, who look into it: jobs.image_looks.
        return replace(source, modified_us=image.modified_us)
    try:
        kind = foreign_format(image.path)
    except OSError as error:
        text = f"{image.path} cannot be read: {error.strerror or error}. Let p2vd read it, or remove it."
        return replace(source, reasons=(Reason("image-unreadable", text),))
    if not kind:
        return source
    text = (
        f"{image.path} is a {kind} image: its bytes are not those of the disk. Give it a name that says so "
        f"(NAME.{kind}), and the disk in it is a source; of a format that p2vd does not read make a raw one "
        "(qemu-img convert -O raw)."
    )
    return replace(source, reasons=(Reason("image-format", text),))
