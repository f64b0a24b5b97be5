"""The worker under the daemon with an NBD source, an image, and a qcow2 as its target."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying import terms
from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK
from p2vd.copying.nbd_device import edges_text
from p2vd.copying.protocol import FORMS_VERSION, VERSION, Bandwidth, ProgressReport, encode, start_version
from p2vd.copying.terms import SourceForm, TargetForm, TargetTraits
from p2vd.model.forms import SourceFormat, TargetFormat
from tests.copying.daemon import Daemon
from tests.copying.nbd_server import Authority, NbdServer, command, free_port, needs, same_disk

pytestmark = needs("nbdkit", "qemu-img", "qemu-nbd")

SIZE = 12 * BLOCK
QCOW2 = TargetForm(TargetFormat.QCOW2)


@pytest.fixture(autouse=True)
def disk(daemon: Daemon) -> Path:
    """A disk of random bytes, and an empty file that was made for it."""
    daemon.source.write_bytes(random.Random(1).randbytes(10 * BLOCK) + bytes(2 * BLOCK))
    daemon.source.chmod(0o644)
    daemon.target.write_bytes(b"")
    # The worker's user must be able to come here, as it can to the directories of images.
    for directory in (daemon.source.parent, *daemon.source.parent.parents):
        if os.geteuid() == 0 and directory.stat().st_uid == 0 and directory.name.startswith("pytest-"):
            directory.chmod(0o755)
    return daemon.source


def begin(daemon: Daemon, source: SourceForm, target: TargetForm, fds: list[int], **changes: object) -> None:
    """Send a start of these forms."""
    binding = replace(daemon.start.binding, source_size_bytes=SIZE)
    daemon.start = replace(
        daemon.start,
        version=start_version(source, target),
        binding=binding,
        target=TargetTraits(SIZE, 512),
        source_form=source,
        target_form=target,
        **changes,  # type: ignore[arg-type]  # the fields' own types
    )
    daemon.spawn()
    daemon.channel.send(encode(daemon.start), fds)
    for fd in fds:
        os.close(fd)


def opened(path: Path, access: int = os.O_RDONLY) -> int:
    return os.open(path, access)


@pytest.mark.parametrize("tcp", [True, False], ids=["TCP", "a Unix socket"])
def test_an_export_into_a_qcow2(daemon: Daemon, tmp_path: Path, disk: Path, tcp: bool) -> None:
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port() if tcp else 0) as server:
        form = SourceForm(nbd=terms.NbdServer(server.uri))
        begin(daemon, form, QCOW2, [opened(daemon.target, os.O_RDWR)])
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert same_disk(disk, "raw", daemon.target, "qcow2")


def test_a_tcp_server_that_comes_back_is_connected_to_without_privileges(
    daemon: Daemon, tmp_path: Path, disk: Path
) -> None:
    os.truncate(daemon.target, SIZE)
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port()) as server:
        form = SourceForm(nbd=terms.NbdServer(server.uri))
        fds = [opened(daemon.target, os.O_RDWR)]
        begin(daemon, form, TargetForm(), fds, bandwidth_bytes_per_s=BLOCK)
        daemon.until(ProgressReport)
        server.kill()
        server.start()
        daemon.tell(Bandwidth(0))
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert daemon.target.read_bytes() == disk.read_bytes()


def test_a_unix_server_that_is_lost_is_left_to_the_next_worker(
    daemon: Daemon, tmp_path: Path, disk: Path
) -> None:
    with NbdServer(tmp_path, "-r", "file", disk) as server:
        form = SourceForm(nbd=terms.NbdServer(server.uri))
        fds = [opened(daemon.target, os.O_RDWR)]
        begin(daemon, form, QCOW2, fds, bandwidth_bytes_per_s=BLOCK)
        while not daemon.progress().progress.committed_bytes:
            pass
        server.kill()
        code, report = daemon.end()
        assert code == 2
        assert report.failure is not None
        assert report.failure.name == "ConnectionLost"
        server.start()
        fds = [opened(daemon.target, os.O_RDWR)]
        begin(daemon, form, QCOW2, fds, bandwidth_bytes_per_s=0, resume=True)
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert report.progress.resumed_from_bytes > 0
    assert same_disk(disk, "raw", daemon.target, "qcow2")


@pytest.mark.parametrize("tcp", [True, False], ids=["TCP", "a Unix socket"])
def test_another_disk_than_the_plan_saw_is_never_copied(
    daemon: Daemon, tmp_path: Path, disk: Path, tcp: bool
) -> None:
    """Also by the first worker: a tunnel may lead to another machine since the export was asked."""
    first, last = disk.read_bytes()[:BLOCK], disk.read_bytes()[-BLOCK:]
    seen = edges_text([DigestKind.XXH3.of(first), DigestKind.XXH3.of(last)])
    with NbdServer(tmp_path, "-r", "file", disk, port=free_port() if tcp else 0) as server:
        form = SourceForm(nbd=terms.NbdServer(server.uri, edges=seen))
        os.truncate(daemon.target, SIZE)
        with disk.open("r+b") as file:
            file.write(b"other")
        begin(daemon, form, TargetForm(), [opened(daemon.target, os.O_RDWR)])
        code, report = daemon.end()
        assert code == 3
        assert report.failure is not None
        assert report.failure.name == "SourceSwapped"
        assert daemon.target.read_bytes() == bytes(SIZE)
        disk.write_bytes(first + disk.read_bytes()[BLOCK:])
        begin(daemon, form, TargetForm(), [opened(daemon.target, os.O_RDWR)])
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert daemon.target.read_bytes() == disk.read_bytes()


@pytest.mark.parametrize("tcp", [True, False], ids=["TCP", "a Unix socket"])
def test_a_server_that_is_not_there_is_no_refusal(daemon: Daemon, tmp_path: Path, tcp: bool) -> None:
    """It may be back later: the daemon holds the job, and does not fail it."""
    uri = f"nbd://127.0.0.1:{free_port()}/" if tcp else f"nbd+unix:///?socket={tmp_path}/gone"
    form = SourceForm(nbd=terms.NbdServer(uri))
    begin(daemon, form, QCOW2, [opened(daemon.target, os.O_RDWR)])
    code, report = daemon.end()
    assert code == 2
    assert report.failure is not None
    assert report.failure.name == "ConnectionLost"


@needs("openssl")
def test_an_export_with_tls(daemon: Daemon, tmp_path: Path, disk: Path) -> None:
    authority, port = Authority(tmp_path, "authority"), free_port()
    words = ("-r", "--tls=require", f"--tls-certificates={authority.server('DNS:localhost')}")
    with NbdServer(tmp_path, *words, "file", disk, port=port):
        server = terms.NbdServer(f"nbds://localhost:{port}/", certificates=str(authority.client))
        begin(daemon, SourceForm(nbd=server), QCOW2, [opened(daemon.target, os.O_RDWR)])
        code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert same_disk(disk, "raw", daemon.target, "qcow2")


def test_an_image_into_a_qcow2(daemon: Daemon, disk: Path) -> None:
    image = disk.with_name("image.vmdk")
    command("qemu-img", "convert", "-f", "raw", "-O", "vmdk", disk, image)
    image.chmod(0o644)
    fds = [opened(image), opened(daemon.target, os.O_RDWR)]
    begin(daemon, SourceForm(SourceFormat.VMDK), QCOW2, fds)
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert same_disk(disk, "raw", daemon.target, "qcow2")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_an_image_that_the_worker_may_not_read_is_refused_with_the_remedy(daemon: Daemon, disk: Path) -> None:
    image = disk.with_name("image.qcow2")
    command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image)
    image.chmod(0o600)
    fds = [opened(image), opened(daemon.target, os.O_RDWR)]
    begin(daemon, SourceForm(SourceFormat.QCOW2), QCOW2, fds)
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert "setfacl" in report.failure.message


@pytest.mark.parametrize(
    ("source", "target", "fds", "version", "problem"),
    [
        (SourceForm(), QCOW2, 2, VERSION, "a start of version 1 that names such forms"),
        (SourceForm(), TargetForm(), 2, FORMS_VERSION, "a start of version 2 that names such forms"),
        (SourceForm(nbd=terms.NbdServer("nbd://h/")), QCOW2, 2, FORMS_VERSION, "brought 2 descriptors"),
        (SourceForm(), QCOW2, 1, FORMS_VERSION, "brought 1 descriptors"),
        (
            SourceForm(SourceFormat.VMDK, terms.NbdServer("nbd://h/")),
            *(TargetForm(), 1, FORMS_VERSION, "an NBD export that is not raw"),
        ),
    ],
)
def test_a_start_that_contradicts_itself_is_refused(
    daemon: Daemon, source: SourceForm, target: TargetForm, fds: int, version: int, problem: str
) -> None:
    daemon.start = replace(daemon.start, version=version, source_form=source, target_form=target)
    daemon.spawn()
    handed = [opened(daemon.target, os.O_RDWR) for _ in range(fds)]
    daemon.channel.send(encode(daemon.start), handed)
    for fd in handed:
        os.close(fd)
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == "ProtocolMismatch"
    assert problem in report.failure.message
    assert daemon.target.stat().st_size == 0
