"""What policies and limits do to copies of the lab's SAN: windows, pauses, bandwidth, latency, estimates."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from integration.content import fill, fill_lun, require_same
from integration.host import JOB, MANAGER, Host, Properties
from integration.lab.vm import Vm
from p2vd.bus.names import ROOT

# With --full alone, until it was seen to pass on an idle machine.
pytestmark = pytest.mark.lab

MIB = 1 << 20
# Two minutes a copy, on a machine of any speed.
SLOW = "256 KiB"


def window(opens: datetime, closes: datetime) -> str:
    """A window of every day, for the end of the rule that host.policy() writes; times in UTC."""
    return f'[[rule.window]]\nfrom = "{opens:%H:%M}"\nto = "{closes:%H:%M}"\ntimezone = "UTC"\n'


def set_clock(vm: Vm, now: datetime) -> None:
    """Set the guest's wall clock; nothing sets it back."""
    vm.run(f"timedatectl set-ntp false 2>/dev/null; date -u -s '{now:%Y-%m-%d %H:%M:%S}'")


def identical(host: Host, job: Properties, lun: str, digest: str) -> None:
    """The copy is the source, byte for byte, and the source is as it was."""
    done = host.wait_registered(job, 600)
    require_same(host.vm, host.san[lun].backing, done["Target"], done["Bytes"])
    assert host.san.digest(lun) == digest


def test_a_window_closes_the_user_pauses_the_window_opens_still_paused(vm: Vm) -> None:
    """A user's pause outlives a window, and the copy goes on from where it was once he lets it."""
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    set_clock(vm, noon)
    host = Host(vm)
    host.policy(bandwidth=SLOW, more=window(noon - timedelta(hours=2), noon + timedelta(hours=2)))
    vm.run("systemctl start p2vd")
    digest = fill_lun(host.san, "boot1", 31)
    job = host.migrate(host.san["boot1"].wwid, "windowed")
    committed = host.wait_copied(job, MIB)["BytesCommitted"]
    assert host.at(job["path"])["Holds"] == []
    # p2vd sleeps until the window closes by the clock that it knew, and looks again within five minutes at
    # the latest when that is set. A restart looks at once; the job goes on as it stands in the store.
    set_clock(vm, noon + timedelta(hours=3))
    vm.run("systemctl restart p2vd")
    held = host.wait_job(
        job,
        "the hold window",
        lambda now: now["Holds"] == ["window"] and now["Waiting"].startswith("Its window opens on"),
    )
    assert held["BytesCommitted"] < held["Bytes"], "the copy was over before the window closed"
    host.verb(job, "Pause")
    host.wait_job(job, "both holds", lambda now: sorted(now["Holds"]) == ["user", "window"])
    set_clock(vm, noon + timedelta(hours=23))
    vm.run("systemctl restart p2vd")
    paused = host.wait_job(job, "the pause alone", lambda now: now["Holds"] == ["user"])
    assert paused["Activity"] == "idle"
    time.sleep(3)  # long enough for a worker to start, if one did
    still = host.at(job["path"])
    assert (still["Holds"], host.worker()) == (["user"], 0)
    assert still["BytesCommitted"] == paused["BytesCommitted"]
    host.verb(job, "Resume")
    resumed = host.wait_job(job, "the copy resumed", lambda now: now["ResumedFrom"] > 0)
    assert resumed["ResumedFrom"] >= committed
    host.full_speed(job)
    identical(host, job, "boot1", digest)


def rate_of(host: Host, job: Properties, seconds: float) -> float:
    """Bytes of the source that were read a second, by the guest's own clock."""

    def look() -> tuple[int, float]:
        at = float(host.vm.out("date +%s.%N"))
        now = host.at(job["path"])
        assert now["Stage"] == "copying", "the copy was over before it was measured"
        return now["BytesCopied"] + now["BytesZero"], at

    before, began = look()
    time.sleep(seconds)
    after, ended = look()
    return (after - before) / (ended - began)


def test_a_limit_halves_the_rate_of_a_running_copy(vm: Vm) -> None:
    """Twice in one copy: of the job itself, then of all together. Ratios of one run, not rates."""
    # Limits that a slow machine reaches, of a disk that is not over by them before it was measured.
    host = Host(vm)
    host.san.add("large", "256M")
    host.policy(bandwidth="1 MiB")
    vm.run("systemctl start p2vd")
    digest = fill_lun(host.san, "large", 32)
    job = host.migrate(host.san["large"].wwid, "limited")
    host.wait_copied(job, 2 * MIB)
    worker = host.worker()
    whole = rate_of(host, job, 16)
    host.call(job["path"], JOB, "SetBandwidth", "ta{sv}", MIB // 2, {})
    # By the worker's own count, over its last ten seconds, it keeps to it.
    host.wait_job(
        job, "the limit", lambda now: now["Bandwidth"] == MIB // 2 and 0 < now["Rate"] < 3 * MIB // 4
    )
    half = rate_of(host, job, 16)
    assert 0.3 < half / whole < 0.7, f"{half / MIB:.2f} of {whole / MIB:.2f} MiB/s"
    host.call(ROOT, MANAGER, "SetBandwidth", "ta{sv}", MIB, {})
    host.full_speed(job)  # but for the total
    shared = host.wait_job(
        job, "its share", lambda now: now["Bandwidth"] == MIB and now["Rate"] > 3 * MIB // 4
    )
    assert shared["BandwidthReason"] == "All that copies may have together."
    again = rate_of(host, job, 16)
    assert 1.4 < again / half < 3.0, f"{again / MIB:.2f} after {half / MIB:.2f} MiB/s"
    assert host.worker() == worker, "a limit is changed without another worker"
    assert "1 MiB/s" in vm.out("p2vctl bandwidth")
    vm.run("p2vctl bandwidth none")
    identical(host, job, "large", digest)


def test_two_copies_share_a_total_evenly_and_one_has_it_all_once_the_other_pauses(vm: Vm) -> None:
    host = Host(vm)
    names = ("one", "other")
    for name in names:
        host.san.add(name, "96M")
    host.policy()
    vm.run("systemctl start p2vd")
    digests = {name: fill_lun(host.san, name, seed) for seed, name in enumerate(names, 33)}
    # The least total there is: both still copy, however long the machine takes for what is done meanwhile.
    host.call(ROOT, MANAGER, "SetBandwidth", "ta{sv}", MIB, {})
    jobs = {name: host.migrate(host.san[name].wwid, f"of-{name}") for name in digests}
    for job in jobs.values():
        host.wait_job(job, "its half", lambda now: now["Bandwidth"] == MIB // 2)
        host.wait_copied(job, MIB)
    first, second = jobs.values()
    host.verb(second, "Pause")
    host.wait_job(first, "all of it", lambda now: now["Bandwidth"] == MIB)
    host.verb(second, "Resume")
    host.wait_job(second, "its half again", lambda now: now["Bandwidth"] == MIB // 2)
    host.call(ROOT, MANAGER, "SetBandwidth", "ta{sv}", 0, {})
    for name, job in jobs.items():
        identical(host, job, name, digests[name])


def test_a_source_that_answers_late_is_read_slower_and_the_job_says_so(vm: Vm) -> None:
    """On the emulated machine each read of 1 MiB takes longer than the least bound there is.

    p2vd decides once a second: the copy lasts longer, by its limit.
    """
    host = Host(vm)
    host.policy(bandwidth=SLOW, more='copy.max_latency = "100 us"\n')
    vm.run("systemctl start p2vd")
    digest = fill_lun(host.san, "boot1", 35)
    job = host.migrate(host.san["boot1"].wwid, "polite")
    slowed = host.wait_job(job, "the back-off", lambda now: now["BackOff"])
    assert slowed["ReadLatency"] > 100
    assert "copy.max_latency = 100 us" in slowed["BackOff"]
    assert "Slowed down to" in vm.out("p2vctl jobs")
    host.full_speed(job)  # but for the back-off
    identical(host, job, "boot1", digest)


def test_a_plan_says_how_long_it_takes_once_a_copy_was_measured(vm: Vm) -> None:
    """What was measured outlives a restart; it changes no plan's id."""
    host = Host(vm)
    host.policy()
    vm.run("systemctl start p2vd")
    # A copy is kept that took long or was of much: the first is of much, on machines of any speed.
    for seed, (name, size) in enumerate({"measured": "512M", "later": "32M"}.items(), 36):
        host.san.add(name, size)
        fill(vm, host.san[name].backing, seed)
        host.source(host.san[name].wwid)
    later = host.san["later"].wwid
    unknown = host.plan_page(later, "later")
    assert "by its limit of 1 GiB/s; no copy from this array" in unknown["Estimate"]
    host.wait_registered(host.migrate(host.san["measured"].wwid, "first"))
    vm.run("systemctl restart p2vd")
    host.source(later)
    known = host.plan_page(later, "later")
    assert "measured on 1 copy from this array to this place." in known["Estimate"]
    assert known["EstimatedSeconds"] > 0
    assert known["Id"] == unknown["Id"]
    assert known["Estimate"] in vm.out(f"p2vctl plan {later} --source-offline --name later")
