"""Compressed forms under a daemon: descriptors handed over, read and written without privileges."""

import gzip
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.layout import BLOCK
from p2vd.copying.protocol import FORMS_VERSION, Bandwidth, Resume, Stop
from p2vd.copying.terms import SourceForm, TargetForm
from p2vd.model.copying import Verify
from p2vd.model.forms import SourceFormat, TargetFormat
from tests.copying.daemon import SIZE, Daemon, paused
from tests.copying.test_opens import OPENS, TRACED, calls_after_the_drop, why_not

TOOLS = {TargetFormat.RAW_ZST: "zstd", TargetFormat.RAW_GZ: "gzip"}


def prepare(daemon: Daemon, form: TargetFormat) -> None:
    """A target that was created, empty, for this job."""
    daemon.target.write_bytes(b"")
    daemon.start = replace(
        daemon.start,
        version=FORMS_VERSION,
        target=replace(daemon.start.target, size_bytes=SIZE),
        target_form=TargetForm(form, level=1),
    )


def unpacked(daemon: Daemon, form: TargetFormat) -> bytes:
    with daemon.target.open("rb") as file:
        return subprocess.run([TOOLS[form], "-dc"], stdin=file, capture_output=True, check=True).stdout


@pytest.mark.parametrize("form", TOOLS)
def test_a_whole_copy_and_its_report_again(daemon: Daemon, form: TargetFormat) -> None:
    prepare(daemon, form)
    daemon.begin(verify=Verify.BOTH)
    code, first = daemon.end()
    assert (code, first.failure, first.source_stable) == (0, None, "proven")
    assert unpacked(daemon, form) == daemon.source.read_bytes()
    before = daemon.target.stat().st_mtime_ns
    daemon.begin(resume=True)
    code, second = daemon.end()
    assert (code, second.digest, daemon.target.stat().st_mtime_ns) == (0, first.digest, before)


@pytest.mark.parametrize("how", ["stop", "gone", "kill"])
def test_it_goes_on_from_its_checkpoint(daemon: Daemon, how: str) -> None:
    prepare(daemon, TargetFormat.RAW_ZST)
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    message = daemon.progress()
    while not message.progress.committed_bytes:
        message = daemon.progress()
    assert daemon.worker is not None
    if how == "stop":
        daemon.tell(Stop())
        assert daemon.end()[0] == 5
    elif how == "gone":
        daemon.channel.close()
        assert daemon.gone() == 5
    else:
        daemon.worker.kill()
        daemon.gone()
    with daemon.target.open("ab") as file:
        file.write(b"what a crash leaves")
    daemon.begin(bandwidth_bytes_per_s=0, resume=True)
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert report.progress.resumed_from_bytes >= message.progress.committed_bytes
    assert unpacked(daemon, TargetFormat.RAW_ZST) == daemon.source.read_bytes()


def test_a_compressed_source_of_the_size_that_the_job_says(daemon: Daemon) -> None:
    """It is not read before for its size: what the job says is proven by the copy."""
    disk = daemon.source.read_bytes()
    daemon.source.write_bytes(gzip.compress(disk, 1))
    daemon.begin(version=FORMS_VERSION, source_form=SourceForm(SourceFormat.GZ))
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert daemon.target.read_bytes() == disk + bytes(4 * BLOCK)


@pytest.mark.parametrize("more", [-BLOCK, 512])
def test_a_compressed_source_of_another_size_is_found(daemon: Daemon, more: int) -> None:
    disk = daemon.source.read_bytes()
    daemon.source.write_bytes(gzip.compress(disk[:more] if more < 0 else disk + bytes(more), 1))
    daemon.begin(version=FORMS_VERSION, source_form=SourceForm(SourceFormat.GZ))
    code, report = daemon.end()
    assert code == 3
    assert report.failure is not None
    assert report.failure.name == "ImageDamaged"


def test_a_file_that_is_not_empty_is_no_target_of_a_new_job(daemon: Daemon) -> None:
    prepare(daemon, TargetFormat.RAW_ZST)
    daemon.target.write_bytes(b"precious")
    for _ in range(2):
        daemon.begin()
        code, report = daemon.end()
        assert code == 1
        assert report.failure is not None
        assert report.failure.name == "TargetRefused"
    assert daemon.target.read_bytes() == b"precious"


def test_another_file_than_the_one_it_began_with_is_no_target(daemon: Daemon) -> None:
    prepare(daemon, TargetFormat.RAW_ZST)
    daemon.begin()
    assert daemon.end()[0] == 0
    other = daemon.target.rename(daemon.target.with_name("moved"))
    daemon.target.write_bytes(other.read_bytes())
    daemon.begin(resume=True)
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == "TargetRefused"


@pytest.mark.root
@pytest.mark.skipif(bool(why_not()), reason=why_not())
@pytest.mark.parametrize("form", TOOLS)
def test_once_its_privileges_are_gone_it_opens_nothing(
    daemon: Daemon, tmp_path: Path, form: TargetFormat
) -> None:
    trace = tmp_path.parent / f"{tmp_path.name}.trace"
    prepare(daemon, form)
    daemon.source.write_bytes(gzip.compress(daemon.source.read_bytes(), 1))
    daemon.spawn("strace", "-f", "-qq", "-s", "4096", "-o", str(trace), "-e", f"trace={TRACED}", "--")
    daemon.send_start(verify=Verify.BOTH, source_form=SourceForm(SourceFormat.GZ))
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert [call for call in calls_after_the_drop(trace) if call[0] in OPENS] == []


def test_pause_and_resume(daemon: Daemon) -> None:
    prepare(daemon, TargetFormat.RAW_ZST)
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    paused(daemon)
    daemon.tell(Bandwidth(0))
    daemon.tell(Resume())
    assert daemon.end()[0] == 0
    assert unpacked(daemon, TargetFormat.RAW_ZST) == daemon.source.read_bytes()


def test_a_start_of_a_version_before_the_forms_is_refused(daemon: Daemon) -> None:
    prepare(daemon, TargetFormat.RAW_GZ)
    daemon.begin(version=1)
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == "ProtocolMismatch"
    assert daemon.target.stat().st_size == 0
    assert not os.path.lexists(daemon.start.checkpoint_path)
