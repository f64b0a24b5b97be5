"""p2vctl against the face on a private bus."""

import json
from pathlib import Path

import pytest

from p2vd.cli.contents import contents
from p2vd.cli.main import main
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run


def shown(p2vctl: Run, *arguments: str, text: str) -> str:
    """The output, in which `text` must be."""
    out = p2vctl(*arguments)[1]
    assert text in out
    return out


def test_sources_are_a_table_with_reasons_below(p2vctl: Run) -> None:
    status, out, _ = p2vctl("sources")
    assert status == 0
    assert out.splitlines()[1].split() == [
        values.WWID,
        "mpatha",
        "10",
        "GiB",
        "512",
        "iscsi",
        "1/2",
        "lab",
        "yes",
    ]
    assert f"{values.BUSY_WWID}: /dev/mapper/mpathb is mounted on /mnt. Unmount it." in out
    assert "! kpartx rules are in force. Install p2vd's rules." in out


@pytest.mark.parametrize("command", ["sources", "vgs", "jobs"])
def test_every_list_speaks_json(p2vctl: Run, command: str) -> None:
    p2vctl("migrate", values.PLAN_ID)
    status, out, _ = p2vctl(command, "--json")
    assert status == 0
    assert json.loads(out)[0]["Path"].startswith("/org/p2vd1/")


def test_sizes_in_json_are_bytes(p2vctl: Run) -> None:
    _, out, _ = p2vctl("vgs", "--json")
    (vg,) = json.loads(out)
    assert vg["Free"] == 40 << 30
    assert vg["ThinPools"][0]["Reserved"] == 4096


def test_vgs_show_pools(p2vctl: Run) -> None:
    _, out, _ = p2vctl("vgs")
    assert " ".join(out.splitlines()[2].split()) == "vg_san pool0 60 GiB 52.5 GiB 12.5 % 3.2 % 8 KiB well"


@pytest.mark.parametrize("name", [values.WWID, "36001405a", "mpatha", "/dev/mapper/mpatha", "/dev/dm-0"])
def test_a_plan_is_a_page_that_ends_with_the_next_command(p2vctl: Run, face: Face, name: str) -> None:
    status, out, _ = p2vctl("plan", name, "--source-offline", "--name", "erp1")
    assert status == 0
    assert "vg_san/erp1-disk0, thin in pool0, 10 GiB" in out
    assert "  1. Create the thin volume vg_san/erp1-disk0." in out
    assert "  ! Only 1 of 2 paths answers." in out
    assert out.splitlines()[-1].strip() == f"p2vctl migrate {values.PLAN_ID} --wait"
    asked = face.tell("what_was_asked")
    assert asked == [["plan", [values.WWID], {"source-offline": True, "name": "erp1"}, 1234]]


def test_the_declaration_is_never_made_for_the_administrator(p2vctl: Run, face: Face) -> None:
    p2vctl("plan", "mpatha")
    assert face.tell("what_was_asked")[0][2] == {}


def test_a_refusal_is_a_sentence(p2vctl: Run) -> None:
    status, out, err = p2vctl("plan", "mpathb")
    assert status == 1
    assert out == ""
    assert err.startswith("p2vctl: Source 36001405b0000000000000000000000ff is refused:")
    assert "Traceback" not in err


def test_an_ambiguous_beginning_names_what_it_may_be(p2vctl: Run) -> None:
    status, _, err = p2vctl("plan", "36001405")
    assert status == 1
    assert values.WWID in err
    assert values.BUSY_WWID in err


def test_migrate_says_how_to_watch(p2vctl: Run) -> None:
    status, out, _ = p2vctl("migrate", values.PLAN_ID)
    assert status == 0
    assert out == "erp1 is on its way: job 7c9e6679. Watch it: p2vctl watch 7c9e6679\n"


def test_an_outdated_plan_says_what_to_do(p2vctl: Run) -> None:
    status, _, err = p2vctl("migrate", "old")
    assert status == 1
    assert err.rstrip().endswith("Make a new plan.")


def test_jobs_are_listed_with_their_errors(p2vctl: Run, face: Face) -> None:
    assert p2vctl("jobs")[1] == "There are no jobs.\n"
    p2vctl("migrate", values.PLAN_ID)
    face.tell("stage", values.JOB_UUID, "failed", "The array said no.")
    out = shown(p2vctl, "jobs", text="7c9e6679: The array said no.")
    assert "/dev/vg_san/erp1-disk0" in out


def test_show_finds_jobs_machines_and_sources(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("stage", values.JOB_UUID, "failed", "The array said no.")
    assert "To go on: p2vctl retry 7c9e6679" in p2vctl("show", "7c9e")[1]
    shown = p2vctl("show", "erp1")[1]
    assert "State        planned" in shown
    assert "/dev/vg_san/erp1-disk0" in shown
    assert "10.98.2.1:3260" in p2vctl("show", "mpatha")[1]
    assert json.loads(p2vctl("show", "mpatha", "--json")[1])["Paths"][1]["State"] == "faulty"
    status, _, err = p2vctl("show", "nothing")
    assert status == 1
    assert "See: p2vctl jobs or p2vctl sources" in err


def test_a_volume_group_is_shown_with_its_disks_and_volumes(p2vctl: Run) -> None:
    _, out, _ = p2vctl("show", "vg_san")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "/dev/mapper/mpathz 36001405pv 100 GiB 40 GiB well" in lines
    assert "other 1 GiB pool0 yes a, p2vd.job=1" in lines
    page = json.loads(p2vctl("show", "vg_san", "--json")[1])
    assert page["LogicalVolumes"][0]["Tags"] == ["a", "p2vd.job=1"]
    assert page["FreeExtents"] == page["Free"] // page["ExtentSize"]


def test_the_fabric_is_a_line_for_each_remote_port(p2vctl: Run) -> None:
    _, out, _ = p2vctl("fabric")
    assert " ".join(out.splitlines()[1].split()) == (
        "host7 20:00:02:fc:00:00:00:01 Online 10 Gbit 20:00:02:fc:00:00:00:02 Online target 7:0:0 0"
    )
    (hba,) = json.loads(p2vctl("fabric", "--json")[1])
    assert hba["RemotePorts"][0]["Roles"] == ["FCP Target"]


def test_rescan_passes_a_place_on(p2vctl: Run, face: Face) -> None:
    p2vctl("rescan", "7:0:0:3")
    assert face.tell("what_was_asked") == [["rescan", "7:0:0:3"]]
    assert face.tell("what_was_decided") == [["org.p2vd1.manage-portals", True]]


def test_pause_and_resume_take_jobs_or_machines(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    assert p2vctl("pause", "7c9")[1] == "Job 7c9e6679 is held. To go on: p2vctl resume 7c9e6679\n"
    assert "held: user" in p2vctl("jobs")[1]
    assert p2vctl("resume", "erp1")[1].startswith("Machine erp1 goes on.")
    assert "held" not in p2vctl("jobs")[1]


def test_a_machine_whose_jobs_have_left_the_list_does_not_go_on(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("forget", values.JOB_UUID)
    assert p2vctl("retry", "erp1") == (
        1,
        "",
        "p2vctl: No job of erp1 is listed any more: there is nothing to try again.\n",
    )


def test_retry_of_a_machine_retries_what_failed(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("stage", values.JOB_UUID, "failed", "The array said no.")
    status, out, _ = p2vctl("retry", "erp1")
    assert status == 0
    assert out.startswith("Machine erp1 goes on.")
    assert face.tell("what_was_asked")[-1] == ["retry", values.JOB_UUID]


@pytest.mark.parametrize(("option", "keep"), [("--keep-target", True), ("--remove-target", False)])
def test_cancel_hands_on_what_becomes_of_the_volume(p2vctl: Run, face: Face, option: str, keep: bool) -> None:
    p2vctl("migrate", values.PLAN_ID)
    status, out, _ = p2vctl("cancel", "7c9", option)
    assert status == 0
    assert ("its volume stays" in out) == keep
    assert "is being cancelled" in out  # lvremove may take long yet, and may fail
    assert "is removed" not in out
    assert face.tell("what_was_asked")[-1] == ["cancel", values.JOB_UUID, keep]


def test_cancel_without_a_word_on_the_volume_is_a_wrong_use(p2vctl: Run) -> None:
    with pytest.raises(SystemExit) as caught:
        p2vctl("cancel", "7c9")
    assert caught.value.code == 2


def test_who_may_not_gets_a_status_of_its_own(p2vctl: Run, face: Face) -> None:
    face.tell("deny", "org.p2vd1.migrate")
    status, _, err = p2vctl("migrate", values.PLAN_ID)
    assert status == 4
    assert err.rstrip().endswith("Run p2vctl as root.")


def test_reload_with_errors_shows_them(p2vctl: Run, face: Face) -> None:
    assert p2vctl("reload")[0] == 0
    face.tell("break_policies", "50-lab.toml:3: pool: unknown key")
    status, _, err = p2vctl("reload")
    assert status == 1
    assert "50-lab.toml:3: pool: unknown key. Correct the files, then: p2vctl reload" in err
    assert "! 50-lab.toml:3: pool: unknown key" in p2vctl("sources")[1]


def test_rescan_counts_what_is_there(p2vctl: Run) -> None:
    assert p2vctl("rescan")[1].startswith("p2vd sees 3 disks.")


def test_without_a_bus_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bus", f"unix:path={tmp_path}/none", "jobs"]) == 3
    assert "Cannot connect to the bus" in capsys.readouterr().err


def test_without_a_daemon_it_says_how_to_start_it(
    bus_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bus", bus_address, "jobs"]) == 3
    assert "systemctl start p2vd" in capsys.readouterr().err


def test_the_doctor_of_a_well_host(p2vctl: Run) -> None:
    assert p2vctl("doctor") == (0, "All is well.\n", "")


def test_the_doctor_says_what_is_wrong_and_how_bad(p2vctl: Run, face: Face) -> None:
    face.tell("find", "exposed", "kpartx", "udev makes partition maps. Install the rules.")
    face.tell("find", "advice", "unknown-luns", "Set quarantine.")
    status, out, _ = p2vctl("doctor")
    assert status == 6
    assert out == (
        "exposed: kpartx\n  udev makes partition maps. Install the rules.\n\n"
        "advice: unknown-luns\n  Set quarantine.\n"
    )


def test_advice_alone_is_no_failure(p2vctl: Run, face: Face) -> None:
    face.tell("find", "advice", "unknown-luns", "Set quarantine.")
    assert p2vctl("doctor")[0] == 0


def test_the_doctor_speaks_json(p2vctl: Run, face: Face) -> None:
    face.tell("find", "wrong", "recheck-wwid", "Set it.")
    status, out, _ = p2vctl("doctor", "--json")
    assert (status, json.loads(out)) == (
        6,
        [{"Severity": "wrong", "Code": "recheck-wwid", "Text": "Set it."}],
    )


def test_a_doctor_that_still_looks_is_asked_again(p2vctl: Run, face: Face) -> None:
    face.tell("look_slowly", 2)
    assert p2vctl("doctor")[0] == 0
    assert face.tell("what_was_asked") == [["doctor"]] * 3


def test_a_plan_of_a_disk_that_is_being_looked_at_is_asked_for_again(p2vctl: Run, face: Face) -> None:
    face.tell("examine_slowly", 2)
    status, out, _ = p2vctl("plan", "mpatha", "--source-offline")
    assert status == 0
    assert values.PLAN_ID in out


def test_show_tells_what_is_on_a_source(p2vctl: Run) -> None:
    _, out, _ = p2vctl("show", values.WWID)
    assert "Contents: GPT, boots by UEFI, physical sectors of 512 bytes" in out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "PARTITION START SIZE TYPE HOLDS LABEL" in lines
    assert "1 1 MiB 512 MiB EFI system vfat EFI" in lines
    assert "2 513 MiB 9 GiB 0x8e LVM2_member of guestvg -" in lines
    assert "PATH HCTL HOST STATE PRIORITY GROUP PORTAL" in lines
    assert "sda 3:0:0:1 host3 ready 50 1 10.98.1.1:3260" in lines
    assert "sdb 3:0:0:1 host3 faulty - - 10.98.2.1:3260" in lines


def test_show_tells_what_nobody_looked_at(p2vctl: Run) -> None:
    assert "Contents: not looked at" in p2vctl("show", values.BUSY_WWID)[1]


def test_and_of_what_nobody_can_look_at_why() -> None:
    said = contents({"State": "no", "Problem": "It can only be read from its start."})
    assert said == "Contents: known only after its copy\nIt can only be read from its start."


def test_sources_count_warnings(p2vctl: Run) -> None:
    rows = [line for line in p2vctl("sources")[1].splitlines() if line.startswith(values.LOCAL_SOURCE.id)]
    assert rows[0].endswith("yes, 1 warning")


def test_sources_are_filtered(p2vctl: Run) -> None:
    status, out, _ = p2vctl("sources", "--filter", "transport=iscsi", "--filter", "usable=yes")
    assert status == 0
    assert values.WWID in out
    assert values.BUSY_WWID not in out
    assert values.LOCAL_SOURCE.id not in out
    (found,) = json.loads(p2vctl("sources", "--filter", values.WWID[-8:], "--json")[1])
    assert found["Id"] == values.WWID
    assert "None of the" in p2vctl("sources", "--filter", "vendor=nobody")[1]
    with pytest.raises(SystemExit) as wrong:
        p2vctl("sources", "--filter", "colour=red")
    assert wrong.value.code == 2


def test_jobs_that_wait_stand_in_the_order_of_the_queue_and_say_what_for(p2vctl: Run, face: Face) -> None:
    uuids = [f"{number}{values.JOB_UUID[1:]}" for number in (1, 2, 3)]
    for number, uuid in enumerate(uuids):
        face.tell("add", uuid, f"{number}{values.MACHINE_UUID[1:]}")
    reason = "4 jobs work already (max_jobs = 4)."
    face.tell("make_wait", uuids[0], 2, reason)
    face.tell("make_wait", uuids[2], 1, reason)
    lines = shown(p2vctl, "jobs", text=f"2 jobs wait: {reason}").splitlines()
    assert [line[:8] for line in lines[1:4]] == ["2c9e6679", "3c9e6679", "1c9e6679"]
    assert "held: slot (number 1)" in lines[2]
    assert lines[-2:] == [f"2 jobs wait: {reason}", "  3c9e6679, 1c9e6679"]
    face.tell("make_wait", uuids[0], 2, "The array iqn.a has 1 at work already (limits.per_array = 1).")
    shown(p2vctl, "jobs", text=f"3c9e6679: {reason}")
    assert json.loads(p2vctl("show", uuids[2], "--json")[1])["QueuePlace"] == 1


def test_resume_says_what_a_job_still_waits_for_and_may_ignore_its_window(p2vctl: Run, face: Face) -> None:
    p2vctl("migrate", values.PLAN_ID)
    face.tell("make_wait", values.JOB_UUID, 0, "Its window opens on Sat 2026-11-28 22:00 UTC.")
    shown(p2vctl, "jobs", text="Its window opens")
    _, out, _ = p2vctl("resume", "7c9")
    assert out.startswith(
        "Job 7c9e6679 is no longer paused, but waits. Its window opens on Sat 2026-11-28 22:00 UTC. Watch it:"
    )
    assert not [each for each in face.tell("what_was_asked") if each[0] == "ignore_window"]
    for name in ("7c9", "erp1"):
        p2vctl("resume", name, "--ignore-window")
        assert face.tell("what_was_asked")[-2:] == [
            ["ignore_window", values.JOB_UUID, 1234],
            ["resume", values.JOB_UUID],
        ]
