"""p2vctl cutover, rollback and accept against the face on a private bus, and plans of several disks."""

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2vd.bus.names import JOB
from p2vd.bus.views_work import plan_page
from p2vd.bus.wire import Variant
from p2vd.cli.client import Exit, Object
from p2vd.cli.handover import kept
from p2vd.cli.outcome import of_machine
from p2vd.cli.plan_page import plan
from p2vd.model.plan import Cutover
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run

UUID = values.MACHINE_UUID


class Terminal(io.StringIO):
    """Standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def machine(p2vctl: Run, face: Face) -> Callable[..., None]:
    """Has a machine in a state, and says what the next verb comes to."""

    def prepare(state: str, *ends: str) -> None:
        p2vctl("migrate", values.PLAN_ID)
        face.tell("machine_state", UUID, state)
        face.tell("end_verbs", *ends)

    return prepare


def verbs(face: Face) -> list[Any]:
    return [asked for asked in face.tell("what_was_asked") if asked[0] in ("cutover", "rollback", "accept")]


def asked(**said: object) -> dict[str, object]:
    return {"start": None, "convert": None, "policy": False, **said}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], asked()),
        (["--start"], asked(start=True)),
        (["--no-start"], asked(start=False)),
        (["--no-conversion"], asked(convert=False)),
        (["--with-present-policy"], asked(policy=True)),
        (
            ["--with-present-policy", "--no-conversion", "--start"],
            asked(start=True, convert=False, policy=True),
        ),
    ],
)
def test_cutover_waits_until_it_is_registered(
    p2vctl: Run, face: Face, machine: Callable[..., None], options: list[str], said: dict[str, object]
) -> None:
    machine("ready", "registered", UUID)
    status, out, _ = p2vctl("cutover", "erp1", *options)
    assert (status, out) == (0, f"erp1 is registered. See it: virsh dominfo {UUID}\n")
    assert verbs(face) == [["cutover", UUID, said]]


def test_what_a_cutover_would_define_is_shown_and_nothing_is_done(
    p2vctl: Run, face: Face, machine: Callable[..., None]
) -> None:
    machine("ready", "registered", UUID)
    options = ("--with-present-policy", "--no-conversion")
    status, out, _ = p2vctl("cutover", "erp1", *options, "--dry-run")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0
    assert 'Said by the policy "lab" in force now' in lines
    assert "Domain qemu:///system, 2 CPUs, 2 GiB memory, bios" in lines
    assert "disk-bus sata. Nothing is known of virtio drivers in the guest." in lines
    assert "! It has no network." in lines
    assert lines[-1] == "p2vctl cutover erp1 --with-present-policy --no-conversion"
    assert verbs(face) == []
    assert face.tell("what_was_asked")[-1] == ["plan_cutover", UUID, asked(convert=False, policy=True)]
    assert "Said by     an earlier cutover" in p2vctl("cutover", "erp1", "--dry-run")[1]
    for said, start in (("--no-start", "p2vd does not start it"), ("--start", "p2vd starts it")):
        _, out, _ = p2vctl("cutover", "erp1", *options, said, "--dry-run")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert f"Start {start}" in lines
        assert lines[-1] == f"p2vctl cutover erp1 --with-present-policy --no-conversion {said}"
        chosen = asked(convert=False, policy=True, start=said == "--start")
        assert face.tell("what_was_asked")[-1] == ["plan_cutover", UUID, chosen]
    _, out, _ = p2vctl("cutover", "erp1", "--dry-run", "--json")
    assert json.loads(out)["Conversion"] == "none"
    assert json.loads(out)["Start"] is False


def test_a_cutover_that_is_tried_again_by_itself_says_so_and_does_not_wait(
    p2vctl: Run, machine: Callable[..., None]
) -> None:
    machine("ready", "ready", "", "libvirt cannot be reached: it is tried again by itself.")
    status, out, err = p2vctl("cutover", "erp1")
    assert (status, out) == (5, "")
    assert err == "p2vctl: erp1 is ready. libvirt cannot be reached: it is tried again by itself.\n"


def test_what_is_registered_and_did_not_start_is_both_said(p2vctl: Run, machine: Callable[..., None]) -> None:
    machine("ready", "registered", UUID, "It is registered, but was not started.")
    status, out, err = p2vctl("cutover", "erp1", "--start")
    assert status == 5
    assert "is registered" in out
    assert "was not started" in err


def test_rollback_says_what_is_kept(p2vctl: Run, machine: Callable[..., None]) -> None:
    machine("registered", "rolled-back")
    status, out, _ = p2vctl("rollback", "erp1")
    assert status == 0
    assert "its domain is gone" in out
    assert "/dev/vg_san/erp1-disk0" in out


@pytest.mark.parametrize(
    ("hypervisor", "command"),
    [
        ("qemu:///system", f" See it: virsh dominfo {UUID}"),
        ("xen:///system", f" See it: virsh -c xen:///system dominfo {UUID}"),
        ("xl", ""),
        ("none", ""),
    ],
)
def test_a_command_of_libvirts_is_named_where_libvirt_has_the_machine(
    p2vctl: Run, face: Face, machine: Callable[..., None], hypervisor: str, command: str
) -> None:
    face.tell("give_to", hypervisor)
    machine("ready", "registered", UUID)
    assert p2vctl("cutover", "erp1")[:2] == (0, f"erp1 is registered.{command}\n")
    assert ("virsh" in p2vctl("show", "erp1")[1]) is bool(command)
    assert json.loads(p2vctl("show", "erp1", "--json")[1])["Hypervisor"] == hypervisor
    face.tell("end_verbs", "rolled-back")
    assert ("its domain is gone" in p2vctl("rollback", "erp1")[1]) is bool(command)


@pytest.mark.parametrize(
    ("kind", "command"), [("lv", "lvremove"), ("file", "rm"), ("lun", "blkdiscard -z")], ids=str
)
def test_what_a_rollback_keeps_is_removed_as_what_it_is(kind: str, command: str) -> None:
    jobs = [Object("/j", JOB, {"Target": "/srv/a", "TargetKind": kind})] * 2
    assert kept(jobs) == f"What was copied is kept: /srv/a, /srv/a. To remove it: {command}"


def test_a_rollback_long_after_says_that_what_was_copied_is_kept() -> None:
    assert kept(()) == "What was copied is kept. Where, its receipts tell: p2vctl receipt"


def test_rollback_of_a_running_machine_fails_with_its_sentence(
    p2vctl: Run, machine: Callable[..., None]
) -> None:
    machine("registered", "registered", UUID, "The domain erp1 runs.")
    assert p2vctl("rollback", "erp1") == (5, "", "p2vctl: erp1 is registered. The domain erp1 runs.\n")


def test_what_is_not_in_that_state_is_refused(p2vctl: Run, machine: Callable[..., None]) -> None:
    machine("copying", "registered")
    for verb in (["cutover", "erp1"], ["rollback", "erp1"], ["accept", "erp1", "--yes"]):
        status, _, err = p2vctl(*verb)
        assert status == 1
        assert "is not possible now" in err


def test_accept_without_a_terminal_wants_a_yes(
    p2vctl: Run, face: Face, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("registered", "accepted", UUID)
    monkeypatch.setattr(sys, "stdin", io.StringIO("erp1\n"))
    status, out, err = p2vctl("accept", "erp1")
    assert (status, out) == (2, "")
    assert "--yes" in err
    assert verbs(face) == []
    assert p2vctl("accept", "erp1", "--yes")[0] == 0
    assert verbs(face) == [["accept", UUID]]


@pytest.mark.parametrize(("typed", "status"), [("erp1\n", 0), ("erp2\n", 1), ("y\n", 1)])
def test_accept_asks_for_the_name_on_a_terminal(
    p2vctl: Run,
    face: Face,
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    status: int,
) -> None:
    machine("registered", "accepted", UUID)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    done, out, _ = p2vctl("accept", "erp1")
    assert done == status
    assert values.WWID in out
    assert bool(verbs(face)) is (status == 0)


def test_each_prints_the_machine_as_json(p2vctl: Run, machine: Callable[..., None]) -> None:
    machine("registered", "rolled-back")
    _, out, _ = p2vctl("rollback", "erp1", "--json")
    assert json.loads(out)["State"] == "rolled-back"


# ---- plans of several disks --------------------------------------------------------------------


def page(*numbers: int, cutover: Cutover = Cutover.AUTO) -> dict[str, Any]:
    disks = tuple(
        replace(
            values.DISK_PLAN,
            source=replace(values.DISK_PLAN.source, id=f"wwid{number}"),
            target=replace(values.LV_TARGET, lv_name=f"erp1-{number}"),
        )
        for number in numbers
    )
    unwrapped: dict[str, Any]
    unwrapped = _unwrapped(plan_page(replace(values.PLAN, disks=disks, cutover=cutover, passport="erp1")))
    return unwrapped


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Variant):
        return _unwrapped(value.value)
    if isinstance(value, dict):
        return {key: _unwrapped(one) for key, one in value.items()}
    return [_unwrapped(one) for one in value] if isinstance(value, list | tuple) else value


def test_a_plan_of_several_disks_is_a_table_and_what_they_take_together() -> None:
    lines = [" ".join(line.split()) for line in plan(page(1, 2)).splitlines()]
    assert "1 wwid1 10 GiB iscsi vg_san/erp1-1 thin in pool0 read-back lab" in lines
    assert "2 wwid2 10 GiB iscsi vg_san/erp1-2 thin in pool0 read-back lab" in lines
    assert "Together up to 20 GiB of vg_san/pool0." in lines
    assert "Record erp1" in lines
    assert not any(line.startswith("Cutover") for line in lines)


def test_a_manual_cutover_is_said_in_the_plan() -> None:
    assert "Cutover    manual: registered when told to" in plan(page(1, cutover=Cutover.MANUAL))


def test_a_plan_wants_sources_or_a_record(p2vctl: Run, face: Face) -> None:
    status, _, err = p2vctl("plan")
    assert status == 2
    assert "--machine" in err
    p2vctl("plan", "mpatha", values.LOCAL_SOURCE.id[:9], "--machine", "erp1")
    assert face.tell("what_was_asked")[0][1:3] == [
        [values.WWID, values.LOCAL_SOURCE.id],
        {"machine": "erp1"},
    ]


def test_waiting_for_a_machine_that_did_not_start_ends_with_the_cause() -> None:
    said = "It is registered, but was not started."
    properties = {"Name": "erp1", "Uuid": UUID, "State": "registered", "Domain": UUID, "Error": ["X", said]}
    ended = of_machine(Object("/m", "m", properties), ())
    assert ended is not None
    assert ended.status is Exit.JOB_FAILED
    assert ended.sentence == f"erp1: {said} See it: virsh dominfo {UUID}"


def test_waiting_for_a_manual_machine_ends_when_it_is_ready() -> None:
    properties = {"Name": "erp1", "Uuid": UUID, "State": "ready", "CutoverMode": "manual", "Error": ["", ""]}
    ended = of_machine(Object("/m", "m", properties), ())
    assert ended is not None
    assert ended.status is Exit.OK
    assert ended.sentence.endswith(f"p2vctl cutover {UUID[:8]}")
    assert of_machine(Object("/m", "m", {**properties, "CutoverMode": "auto"}), ()) is None
