"""Every call that changes something is in the audit, before and after; what reads is not."""

import json
import os
from typing import Any

import dbus
import pytest

from p2vd.bus.introspection import interfaces
from p2vd.bus.names import (
    ACTION_AUDIT,
    ACTION_MANAGE_JOBS,
    ERROR_PREFIX,
    JOB,
    MACHINE,
    MANAGER,
    PASSPORT,
    ROOT,
    object_path,
)
from tests.bus import values
from tests.bus.harness import Client, Face

NONE = dbus.Dictionary({}, signature="sv")
PATH = object_path(JOB, values.JOB_UUID)


def options(**given: Any) -> Any:
    return dbus.Dictionary(given, signature="sv")


def recorded(face: Face) -> list[list[Any]]:
    found: list[list[Any]] = face.tell("what_was_recorded")
    return found


def refused(client: Client, path: str, interface: str, member: str, signature: str, *arguments: Any) -> str:
    with pytest.raises(dbus.DBusException) as caught:
        client.call(path, interface, member, signature, *arguments)
    return str(caught.value.get_dbus_name()).removeprefix(ERROR_PREFIX)


def test_a_verb_is_recorded_before_it_acts_and_after(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    client.call(PATH, JOB, "Cancel", "a{sv}", options(target="keep"))
    who = [1234, 0]
    assert recorded(face) == [
        ["asked", "Manager.Migrate", {"plan_id": values.PLAN_ID}, *who],
        ["ended", "Manager.Migrate", "answered", "", values.MACHINE_UUID],
        ["asked", "Job.Cancel", {"target": "keep"}, *who],
        ["ended", "Job.Cancel", "answered", "", ""],
    ]


def test_an_error_is_recorded_by_its_name(client: Client, face: Face) -> None:
    assert refused(client, ROOT, MANAGER, "Migrate", "sa{sv}", "old", NONE) == "PlanOutdated"
    assert recorded(face)[-1] == ["ended", "Manager.Migrate", "PlanOutdated", "", ""]


def test_a_plan_is_recorded_with_its_id(client: Client, face: Face) -> None:
    client.manager("Plan", "asa{sv}", [values.WWID], options(**{"source-offline": True}))
    asked, ended = recorded(face)
    assert asked[2] == {"sources": [values.WWID], "source-offline": True}
    assert ended[3] == values.PLAN_ID


def test_a_refusal_by_polkit_is_recorded(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    face.tell("deny", ACTION_MANAGE_JOBS)
    assert refused(client, PATH, JOB, "Pause", "a{sv}", NONE) == "NotAuthorized"
    assert recorded(face)[-1] == ["denied", "Job.Pause", ACTION_MANAGE_JOBS, 1234]


def test_nothing_is_done_that_cannot_be_recorded_and_reading_goes_on(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    face.tell("fill_the_disk", True)
    before = face.tell("what_was_asked")
    assert refused(client, PATH, JOB, "Pause", "a{sv}", NONE) == "AuditUnwritable"
    assert face.tell("what_was_asked") == before
    assert client.manager("Doctor", "a{sv}", NONE) == []
    assert list(client.get(PATH, JOB, "Holds")) == []
    client.until(lambda: "The audit is full." in client.get(ROOT, MANAGER, "Problems"))
    face.tell("fill_the_disk", False)
    client.call(PATH, JOB, "Pause", "a{sv}", NONE)
    client.until(lambda: "The audit is full." not in client.get(ROOT, MANAGER, "Problems"))


def test_a_look_at_the_host_is_no_change_but_a_scan_for_luns_is(client: Client, face: Face) -> None:
    client.manager("Rescan", "a{sv}", NONE)
    assert recorded(face) == []
    client.manager("Rescan", "a{sv}", options(scsi="7:0:0"))
    assert recorded(face)[0][:3] == ["asked", "Manager.Rescan", {"scsi": "7:0:0"}]


def test_secrets_are_never_recorded(client: Client, face: Face) -> None:
    read, write = os.pipe()
    os.write(write, b"verysecret12\n")
    os.close(write)
    given = options(**{"chap-user": "p2vhost", "chap-secret": dbus.types.UnixFd(read)})
    os.close(read)
    client.manager("AddPortal", "sa{sv}", "10.98.1.1:3260", given)
    (asked, _) = recorded(face)
    assert asked[2] == {
        "portal": "10.98.1.1:3260",
        "chap-user": "p2vhost",
        "chap-secret": "(a descriptor)",
    }


def test_huge_arguments_are_cut(client: Client, face: Face) -> None:
    refused(client, ROOT, MANAGER, "Migrate", "sa{sv}", "x" * 100_000, NONE)
    assert len(recorded(face)[0][2]["plan_id"]) == 201


def test_only_what_reads_says_that_it_does() -> None:
    reads = {
        f"{name}.{each.name}"
        for name, one in interfaces().items()
        for each in one.methods.values()
        if each.reads
    }
    assert reads == {
        *(
            f"{MANAGER}.{member}"
            for member in ("Rescan", "Doctor", "GetAudit", "VerifyAudit", "FindReceipts", "GetReceipt")
        ),
        *(f"{MANAGER}.{member}" for member in ("GetPolicy", "GetPolicyMatches", "GuessMachine")),
        *(f"{MANAGER}.{member}" for member in ("GetVerification", "GetVerifications")),
        *(f"{MANAGER}.{member}" for member in ("PlanWave", "GetWaves", "GetReport")),
        f"{JOB}.GetReceipt",
        f"{MACHINE}.PlanCutover",
        f"{PASSPORT}.GetRecord",
    }


def test_the_audit_is_read_page_by_page(client: Client, face: Face) -> None:
    for _ in range(3):
        client.manager("Reload", "a{sv}", NONE)
    lines, following = client.manager("GetAudit", "a{sv}", options(limit=dbus.UInt32(4)))
    assert [json.loads(line)["number"] for line in lines] == [1, 2, 3, 4]
    lines, following = client.manager("GetAudit", "a{sv}", options(after=dbus.UInt64(following)))
    assert ([json.loads(line)["number"] for line in lines], following) == ([5, 6], 0)


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_limit(client: Client, limit: int) -> None:
    given = options(limit=dbus.UInt32(limit))
    assert refused(client, ROOT, MANAGER, "GetAudit", "a{sv}", given) == "InvalidArgument"


@pytest.mark.parametrize("member", ["GetAudit", "VerifyAudit"])
def test_who_may_read_the_audit_is_polkits_to_say(client: Client, face: Face, member: str) -> None:
    face.tell("deny", ACTION_AUDIT)
    assert refused(client, ROOT, MANAGER, member, "a{sv}", NONE) == "NotAuthorized"
    assert recorded(face) == []


def test_a_finished_job_leaves_the_bus(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    assert refused(client, PATH, JOB, "Remove", "a{sv}", NONE) == "IllegalTransition"
    face.tell("stage", values.JOB_UUID, "proven")
    client.call(PATH, JOB, "Remove", "a{sv}", NONE)
    assert PATH not in client.objects()
    assert client.until(lambda: client.heard("JobRemoved")) == [[PATH, "done"]]


RECEIPT = {
    "job": values.JOB_UUID,
    "source": {"id": values.WWID},
    "machine": {"name": "erp1"},
    "end_time_us": 5,
}


def test_a_receipt_is_there_with_the_job_and_after_it(client: Client, face: Face) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    assert refused(client, PATH, JOB, "GetReceipt", "a{sv}", NONE) == "NotFound"
    face.tell("receipt", RECEIPT)
    assert json.loads(client.call(PATH, JOB, "GetReceipt", "a{sv}", NONE)) == RECEIPT
    face.tell("forget", values.JOB_UUID)
    (note,) = client.manager("FindReceipts", "sa{sv}", values.JOB_UUID[:8], NONE)
    assert (note["Job"], note["SourceId"], note["EndTime"], note["Problem"]) == (
        values.JOB_UUID,
        values.WWID,
        5,
        "",
    )
    assert json.loads(client.manager("GetReceipt", "sa{sv}", note["Job"], NONE)) == RECEIPT


def test_a_damaged_receipt_is_an_error_with_a_name(client: Client, face: Face) -> None:
    face.tell("receipt", RECEIPT, "it is torn, no whole JSON")
    assert refused(client, ROOT, MANAGER, "GetReceipt", "sa{sv}", values.JOB_UUID, NONE) == "ReceiptDamaged"
