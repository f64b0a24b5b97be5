"""The worker under a daemon: the protocol, from the daemon's side."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.copying.layout import BLOCK
from p2vd.copying.protocol import Bandwidth, Credit, NeedCredit, Phase, ProgressReport, Resume, Stop
from p2vd.copying.terms import TargetTraits
from p2vd.model.copying import Verify
from p2vd.model.size import KIB
from tests.copying.daemon import NOBODY, PATIENCE_S, SIZE, Daemon, paused


def test_a_whole_copy(daemon: Daemon) -> None:
    daemon.begin(verify=Verify.BOTH, bandwidth_bytes_per_s=32 * BLOCK)  # not over before anything is told
    code, report = daemon.end()
    assert (code, report.failure) == (0, None)
    assert daemon.equal()
    assert report.source_stable == "proven"
    assert report.progress.bytes_copied == 9 * BLOCK
    assert report.progress.bytes_zero == SIZE - 9 * BLOCK
    assert report.progress.committed_bytes == report.progress.bytes_verified == SIZE
    phases = [message.phase for message in daemon.heard if isinstance(message, Phase)]
    assert phases[-1] == "verifying"
    assert any(isinstance(message, ProgressReport) and message.committed for message in daemon.heard)


def test_a_complete_copy_is_reported_again(daemon: Daemon) -> None:
    daemon.begin()
    _, first = daemon.end()
    before = daemon.target.stat().st_mtime_ns
    daemon.begin(resume=True)
    code, second = daemon.end()
    assert code == 0
    assert (second.digest, second.progress) == (first.digest, first.progress)
    assert daemon.target.stat().st_mtime_ns == before


@pytest.mark.parametrize("anew", [False, True])
def test_a_complete_copy_is_read_back_again_where_that_proves_nothing_any_more(
    daemon: Daemon, *, anew: bool
) -> None:
    daemon.begin()
    _, first = daemon.end()
    before = daemon.target.stat().st_mtime_ns
    daemon.heard.clear()
    daemon.begin(resume=True, read_back_anew=anew)
    code, second = daemon.end()
    assert (code, second.digest) == (0, first.digest)
    assert (Phase("verifying") in daemon.heard) is anew
    assert daemon.target.stat().st_mtime_ns == before


def test_a_daemon_that_goes_leaves_a_checkpoint(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    message = daemon.progress()
    while not message.progress.committed_bytes:
        message = daemon.progress()
    daemon.channel.close()
    assert daemon.worker is not None
    assert daemon.worker.wait(PATIENCE_S) == 5
    daemon.begin(bandwidth_bytes_per_s=0, resume=True)
    code, report = daemon.end()
    assert code == 0
    assert report.progress.resumed_from_bytes >= message.progress.committed_bytes
    assert daemon.equal()


def test_stop_exits_5_and_says_what_is_safe(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    daemon.until(ProgressReport)
    daemon.tell(Stop())
    code, report = daemon.end()
    assert code == 5
    assert report.failure is None
    assert report.progress.committed_bytes < SIZE


def test_pause_commits_and_resume_goes_on(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    paused(daemon)
    daemon.tell(Bandwidth(0))
    daemon.tell(Resume())
    assert daemon.end()[0] == 0
    assert daemon.equal()


def test_a_thin_target_waits_for_credit(daemon: Daemon) -> None:
    traits = TargetTraits(SIZE + 4 * BLOCK, 512, thin_chunk_bytes=64 * KIB, pool_zeroes=True)
    daemon.begin(target=traits, credit_bytes=0)
    wanted = daemon.until(NeedCredit)
    assert wanted == NeedCredit(BLOCK)
    daemon.tell(Credit(5 * BLOCK))
    wanted = daemon.until(NeedCredit)
    assert isinstance(wanted, NeedCredit)
    assert 5 * BLOCK < wanted.total_bytes <= 6 * BLOCK
    daemon.tell(Credit(100 * BLOCK))
    code, report = daemon.end()
    assert code == 0
    assert report.progress.allocated_bytes == 9 * BLOCK
    assert daemon.equal()


def test_stop_while_waiting_for_credit(daemon: Daemon) -> None:
    traits = TargetTraits(SIZE + 4 * BLOCK, 512, thin_chunk_bytes=64 * KIB, pool_zeroes=True)
    daemon.begin(target=traits, credit_bytes=0)
    daemon.until(NeedCredit)
    daemon.tell(Stop())
    assert daemon.end()[0] == 5


def test_another_disk_is_refused(daemon: Daemon) -> None:
    daemon.begin()
    daemon.end()
    daemon.begin(binding=replace(daemon.start.binding, source_id="other"))
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == "CheckpointMismatch"
    assert "source id" in report.failure.message


def test_a_lost_checkpoint_is_refused(daemon: Daemon) -> None:
    daemon.begin(resume=True)
    code, report = daemon.end()
    assert code == 1
    assert report.failure is not None
    assert report.failure.name == "CheckpointMissing"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_it_has_no_privileges_while_it_copies(daemon: Daemon) -> None:
    daemon.begin(bandwidth_bytes_per_s=BLOCK)
    daemon.until(ProgressReport)
    assert daemon.worker is not None
    for task in Path(f"/proc/{daemon.worker.pid}/task").iterdir():
        status = dict(
            line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line
        )
        assert status["Uid"].split() == status["Gid"].split() == [str(NOBODY)] * 4
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert status["Groups"].strip() == ""
    daemon.tell(Stop())
    assert daemon.end()[0] == 5
