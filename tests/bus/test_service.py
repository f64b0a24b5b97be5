"""The whole API over a private bus, driven as a client drives it."""

import time
from typing import Any

import dbus
import pytest

from p2vd.bus.names import JOB, MACHINE, MANAGER, PROPERTIES, ROOT, SOURCE, VOLUME_GROUP, object_path
from tests.bus import values
from tests.bus.harness import Client, Face

JOB_PATH = object_path(JOB, values.JOB_UUID)
MACHINE_PATH = object_path(MACHINE, values.MACHINE_UUID)
SOURCE_PATH = object_path(SOURCE, values.WWID)
VG_PATH = object_path(VOLUME_GROUP, values.VG_UUID)
NONE: dict[str, object] = dbus.Dictionary({}, signature="sv")


def error_of(call: Any, *arguments: object) -> tuple[str, str]:
    with pytest.raises(dbus.DBusException) as caught:
        call(*arguments)
    return caught.value.get_dbus_name(), caught.value.get_dbus_message()


def migrate(client: Client) -> None:
    client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)


def test_objects_below_the_root_are_all_there(client: Client) -> None:
    objects = client.objects()
    assert set(objects) == {
        SOURCE_PATH,
        object_path(SOURCE, values.BUSY_WWID),
        object_path(SOURCE, values.LOCAL_SOURCE.id),
        VG_PATH,
    }
    source = objects[SOURCE_PATH][SOURCE]
    assert source["Size"] == 10 << 30
    assert isinstance(source["Size"], dbus.UInt64)
    assert source["Model"] == "erp system"
    assert (source["PathsTotal"], source["PathsReady"]) == (2, 1)
    assert (source["Usable"], source["MatchedPolicy"]) == (True, "lab")


def test_an_unusable_source_says_why(client: Client) -> None:
    path = object_path(SOURCE, values.BUSY_WWID)
    assert client.get(path, SOURCE, "Usable") == dbus.Boolean(False)
    assert client.get(path, SOURCE, "Reasons") == ["/dev/mapper/mpathb is mounted on /mnt. Unmount it."]


def test_thin_pools_have_numbers_of_declared_types(client: Client) -> None:
    (pool,) = client.get(VG_PATH, VOLUME_GROUP, "ThinPools")
    assert pool["DataPercent"] == 12.5
    assert pool["Reserved"] == 4096
    assert isinstance(pool["VirtualSize"], dbus.UInt64)


def test_paths_of_a_source(client: Client) -> None:
    first, second = client.call(SOURCE_PATH, SOURCE, "GetPaths", "a{sv}", NONE)
    assert (first["Device"], first["Portal"], first["State"]) == ("sda", "10.98.1.1:3260", "ready")
    assert second["State"] == "faulty"


def test_manager_says_version_and_problems(client: Client) -> None:
    everything = client.call(ROOT, PROPERTIES, "GetAll", "s", MANAGER)
    assert everything["Version"] == "1.2.3"
    assert everything["Problems"] == ["kpartx rules are in force. Install p2vd's rules."]


def test_plan_hands_over_options_and_returns_the_page(client: Client, face: Face) -> None:
    options = dbus.Dictionary({"source-offline": True, "name": "erp1"}, signature="sv")
    plan_id, page = client.manager("Plan", "asa{sv}", [values.WWID], options)
    assert plan_id == values.PLAN_ID
    assert page["Steps"] == list(values.PLAN.steps)
    assert page["TargetSize"] == 10 << 30
    (choice,) = values.PLAN.domain_choices
    assert [tuple(one) for one in page["DomainChoices"]] == [(choice.key, choice.value, choice.why)]
    asked = face.tell("what_was_asked")
    assert asked == [["plan", [values.WWID], {"source-offline": True, "name": "erp1"}, 1234]]


def test_a_refusal_carries_its_name_and_all_reasons(client: Client) -> None:
    name, message = error_of(client.manager, "Plan", "asa{sv}", [values.BUSY_WWID], NONE)
    assert name == "org.p2vd1.Error.Refused"
    assert "Unmount it." in message


def test_a_fault_of_the_engine_is_an_answer_not_a_silence(client: Client) -> None:
    name, message = error_of(client.manager, "Plan", "asa{sv}", [values.LOCAL_SOURCE.id], NONE)
    assert name == "org.p2vd1.Error.Failed"
    assert "journalctl -u p2vd" in message


def test_unknown_options_are_refused_by_name(client: Client, face: Face) -> None:
    options = dbus.Dictionary({"force": True}, signature="sv")
    name, message = error_of(client.manager, "Migrate", "sa{sv}", values.PLAN_ID, options)
    assert name == "org.p2vd1.Error.OptionNotPermitted"
    assert "'force'" in message
    assert face.tell("what_was_asked") == []


def test_an_option_of_the_wrong_type_is_refused(client: Client) -> None:
    options = dbus.Dictionary({"source-offline": "yes"}, signature="sv")
    name, message = error_of(client.manager, "Plan", "asa{sv}", [values.WWID], options)
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert "source-offline" in message


def test_migrate_announces_objects_before_the_job(client: Client) -> None:
    path = client.manager("Migrate", "sa{sv}", values.PLAN_ID, NONE)
    assert path == MACHINE_PATH
    assert client.get(MACHINE_PATH, MACHINE, "Jobs") == [JOB_PATH]
    client.until(lambda: client.heard("JobNew"))
    members = [(path, member, arguments[0]) for path, _, member, arguments in client.signals]
    assert members.index((ROOT, "InterfacesAdded", JOB_PATH)) < members.index((ROOT, "JobNew", JOB_PATH))
    (added,) = [arguments for arguments in client.heard("InterfacesAdded") if arguments[0] == JOB_PATH]
    assert added[1][JOB]["Stage"] == "planned"
    assert added[1][JOB]["StartedByUID"] == 1234


def test_an_outdated_plan_is_refused(client: Client) -> None:
    name, _ = error_of(client.manager, "Migrate", "sa{sv}", "old", NONE)
    assert name == "org.p2vd1.Error.PlanOutdated"


def test_a_caller_sees_what_its_call_did(client: Client) -> None:
    migrate(client)
    client.call(JOB_PATH, JOB, "Pause", "a{sv}", NONE)
    assert client.get(JOB_PATH, JOB, "Holds") == ["user"]
    client.call(JOB_PATH, JOB, "Resume", "a{sv}", NONE)
    assert client.get(JOB_PATH, JOB, "Holds") == []


def test_only_what_changed_is_announced(client: Client, face: Face) -> None:
    migrate(client)
    client.forget()
    face.tell("stage", values.JOB_UUID, "copying")
    client.until(lambda: client.changes(JOB_PATH))
    assert client.changes(JOB_PATH) == [{"Stage": "copying"}]


def test_the_end_of_a_job_is_told_once(client: Client, face: Face) -> None:
    migrate(client)
    face.tell("stage", values.JOB_UUID, "copying")
    face.tell("stage", values.JOB_UUID, "failed", "the array said no")
    client.until(lambda: client.heard("Completed", JOB_PATH))
    assert client.heard("Completed", JOB_PATH) == [[False, "the array said no"]]
    assert client.get(JOB_PATH, JOB, "Error") == ("WriteFailed", "the array said no")
    client.call(JOB_PATH, JOB, "Retry", "a{sv}", NONE)
    assert client.get(JOB_PATH, JOB, "Stage") == "copying"
    face.tell("stage", values.JOB_UUID, "proven")
    client.until(lambda: len(client.heard("Completed", JOB_PATH)) == 2)
    assert client.heard("Completed", JOB_PATH)[1] == [True, ""]


def test_a_job_that_leaves_is_announced_and_gone(client: Client, face: Face) -> None:
    migrate(client)
    face.tell("stage", values.JOB_UUID, "proven")
    face.tell("forget", values.JOB_UUID)
    client.until(lambda: client.heard("JobRemoved"))
    client.until(lambda: client.heard("InterfacesRemoved"))
    assert client.heard("JobRemoved") == [[JOB_PATH, "done"]]
    assert client.heard("InterfacesRemoved") == [[JOB_PATH, [JOB]]]
    name, _ = error_of(client.call, JOB_PATH, JOB, "Pause", "a{sv}", NONE)
    assert name == "org.freedesktop.DBus.Error.UnknownObject"


def test_a_source_that_goes_leaves_the_bus(client: Client, face: Face) -> None:
    face.tell("unplug", values.WWID)
    client.until(lambda: client.heard("InterfacesRemoved"))
    assert client.heard("InterfacesRemoved") == [[SOURCE_PATH, [SOURCE]]]
    assert SOURCE_PATH not in client.objects()


def test_cancel_wants_to_know_what_becomes_of_the_target(client: Client, face: Face) -> None:
    migrate(client)
    name, message = error_of(client.call, JOB_PATH, JOB, "Cancel", "a{sv}", NONE)
    assert name == "org.p2vd1.Error.InvalidArgument"
    assert "keep, or remove" in message
    options = dbus.Dictionary({"target": "keep"}, signature="sv")
    client.call(JOB_PATH, JOB, "Cancel", "a{sv}", options)
    assert face.tell("what_was_asked")[-1] == ["cancel", values.JOB_UUID, True]
    assert client.get(JOB_PATH, JOB, "Stage") == "cancelled"


def test_a_machine_acts_on_all_its_jobs(client: Client, face: Face) -> None:
    migrate(client)
    client.call(MACHINE_PATH, MACHINE, "Pause", "a{sv}", NONE)
    assert client.get(JOB_PATH, JOB, "Holds") == ["user"]
    client.call(MACHINE_PATH, MACHINE, "Resume", "a{sv}", NONE)
    client.call(
        MACHINE_PATH, MACHINE, "Cancel", "a{sv}", dbus.Dictionary({"target": "remove"}, signature="sv")
    )
    assert face.tell("what_was_asked")[-1] == ["cancel", values.JOB_UUID, False]
    name, message = error_of(client.call, MACHINE_PATH, MACHINE, "Pause", "a{sv}", NONE)
    assert name == "org.p2vd1.Error.IllegalTransition"
    assert "Machine erp1" in message


def test_bandwidth_reaches_the_engine(client: Client, face: Face) -> None:
    migrate(client)
    client.call(JOB_PATH, JOB, "SetBandwidth", "ta{sv}", 50 << 20, NONE)
    assert face.tell("what_was_asked")[-1] == ["set_bandwidth", values.JOB_UUID, 50 << 20]


def test_each_verb_asks_for_its_action(client: Client, face: Face) -> None:
    migrate(client)
    remove = dbus.Dictionary({"target": "remove"}, signature="sv")
    client.call(SOURCE_PATH, SOURCE, "GetPaths", "a{sv}", NONE)
    client.call(JOB_PATH, JOB, "Pause", "a{sv}", NONE, ask=True)
    client.call(JOB_PATH, JOB, "Cancel", "a{sv}", remove)
    client.manager("Reload", "a{sv}", dbus.Dictionary({"auth.no_user_interaction": False}, signature="sv"))
    client.manager("Rescan", "a{sv}", NONE)
    assert [tuple(question) for question in face.tell("what_was_decided")] == [
        ("org.p2vd1.migrate", False),
        ("", False),
        ("org.p2vd1.manage-jobs", True),
        ("org.p2vd1.remove-target", False),
        ("org.p2vd1.reload", True),
        ("org.p2vd1.inspect", False),
    ]


def test_polkits_no_keeps_the_engine_untouched(client: Client, face: Face) -> None:
    face.tell("deny", "org.p2vd1.migrate")
    name, message = error_of(client.manager, "Migrate", "sa{sv}", values.PLAN_ID, NONE)
    assert name == "org.p2vd1.Error.NotAuthorized"
    assert "org.p2vd1.migrate" in message
    assert face.tell("what_was_asked") == []


def test_reload_tells_the_errors_of_policies(client: Client, face: Face) -> None:
    face.tell("break_policies", "50-lab.toml:3: pool: unknown key")
    name, message = error_of(client.manager, "Reload", "a{sv}", NONE)
    assert name == "org.p2vd1.Error.PolicyInvalid"
    assert "50-lab.toml:3" in message
    assert client.get(ROOT, MANAGER, "PolicyErrors") == ["50-lab.toml:3: pool: unknown key"]
    client.until(lambda: client.changes(ROOT))
    assert list(client.changes(ROOT)[0]) == ["PolicyErrors"]


def test_a_long_scan_answers_and_goes_on(client: Client, face: Face) -> None:
    face.tell("scan_slowly")
    client.manager("Rescan", "a{sv}", NONE)
    assert client.get(ROOT, MANAGER, "Scanning") == dbus.Boolean(True)
    face.tell("end_scans", "sdq")
    client.until(lambda: any("Scanning" in change for change in client.changes(ROOT)[1:]))
    assert client.get(ROOT, MANAGER, "Scanning") == dbus.Boolean(False)
    assert "sdq" in client.get(ROOT, MANAGER, "Problems")[0]


def test_a_stuck_engine_delays_nobody_else(client: Client, face: Face) -> None:
    face.tell("block", True)
    answers: list[object] = []
    client.connection.call_async(
        "org.p2vd1",
        ROOT,
        MANAGER,
        "Plan",
        "asa{sv}",
        ([values.WWID], NONE),
        lambda plan_id, page: answers.append(plan_id),
        answers.append,
    )
    assert client.get(ROOT, MANAGER, "Version") == "1.2.3"
    migrate(client)
    assert answers == []
    face.tell("block", False)
    client.until(lambda: answers)
    assert answers == [values.PLAN_ID]


def test_a_stuck_engine_does_not_hinder_the_stop(client: Client, face: Face) -> None:
    face.tell("block", True)
    client.connection.call_async(
        "org.p2vd1", ROOT, MANAGER, "Plan", "asa{sv}", ([values.WWID], NONE), print, print
    )
    client.get(ROOT, MANAGER, "Version")
    assert face.stop() == 0


def test_a_flood_of_calls_is_refused_not_queued(client: Client, face: Face) -> None:
    face.tell("block", True)
    errors: list[str] = []
    for _ in range(40):
        client.connection.call_async(
            "org.p2vd1",
            ROOT,
            MANAGER,
            "Plan",
            "asa{sv}",
            ([values.WWID], NONE),
            lambda plan_id, page: None,
            lambda error: errors.append(error.get_dbus_name()),
        )
    client.until(lambda: len(errors) == 8)
    assert set(errors) == {"org.p2vd1.Error.Busy"}
    face.tell("block", False)


def test_a_storm_of_progress_is_told_a_few_times(client: Client, face: Face) -> None:
    """At most two signals of counters a second, however long the storm takes on this machine."""
    migrate(client)
    began = time.monotonic()
    client.forget()
    for step in range(1, 201):
        face.tell("progress", values.JOB_UUID, {"bytes_copied": step << 20, "rate_bytes_per_s": 1000})
    last = 200 << 20
    assert client.get(JOB_PATH, JOB, "BytesCopied") <= last
    client.until(lambda: any(change.get("BytesCopied") == last for change in client.changes(JOB_PATH)))
    told = [change for change in client.changes(JOB_PATH) if "BytesCopied" in change]
    assert len(told) <= 2 * (time.monotonic() - began) + 1


@pytest.mark.parametrize(
    ("path", "interface", "member", "signature", "arguments", "expected"),
    [
        (ROOT, MANAGER, "Explode", "a{sv}", [NONE], "UnknownMethod"),
        (ROOT, MANAGER, "Migrate", "s", ["x"], "InvalidArgs"),
        (ROOT + "/job/none", JOB, "Pause", "a{sv}", [NONE], "UnknownObject"),
        (ROOT, PROPERTIES, "Get", "ss", [MANAGER, "Colour"], "UnknownProperty"),
        (ROOT, PROPERTIES, "Get", "ss", [JOB, "Stage"], "UnknownInterface"),
        (ROOT, PROPERTIES, "Set", "ssv", [MANAGER, "Version", "2"], "PropertyReadOnly"),
    ],
)
def test_wrong_calls_get_the_names_of_the_specification(
    client: Client,
    path: str,
    interface: str,
    member: str,
    signature: str,
    arguments: list[object],
    expected: str,
) -> None:
    def call() -> object:
        return client.call(path, interface, member, signature, *arguments)

    assert error_of(call)[0] == f"org.freedesktop.DBus.Error.{expected}"


def test_a_second_daemon_is_turned_away(client: Client, bus_address: str, face: Face) -> None:
    with pytest.raises(AssertionError):
        Face(bus_address)
    assert client.get(ROOT, MANAGER, "Version") == "1.2.3"


# ---- machines as a whole -----------------------------------------------------------------------


CUTOVER = {"start": True, "convert": None, "policy": False}


@pytest.mark.parametrize(
    ("method", "before", "after", "action", "asked"),
    [
        ("Cutover", "ready", "registering", "org.p2vd1.cutover", ["cutover", values.MACHINE_UUID, CUTOVER]),
        ("Rollback", "registered", "rolling-back", "org.p2vd1.rollback", ["rollback", values.MACHINE_UUID]),
        ("Accept", "registered", "accepting", "org.p2vd1.accept", ["accept", values.MACHINE_UUID]),
    ],
)
def test_a_verb_of_a_machine_returns_at_once_and_its_state_is_there(
    client: Client, face: Face, method: str, before: str, after: str, action: str, asked: list[object]
) -> None:
    migrate(client)
    options = dbus.Dictionary({"start": True} if method == "Cutover" else {}, signature="sv")
    name, _ = error_of(client.call, MACHINE_PATH, MACHINE, method, "a{sv}", options)
    assert name == "org.p2vd1.Error.IllegalTransition"
    face.tell("machine_state", values.MACHINE_UUID, before)
    client.call(MACHINE_PATH, MACHINE, method, "a{sv}", options)
    assert client.get(MACHINE_PATH, MACHINE, "State") == after
    assert face.tell("what_was_asked")[-1] == asked
    assert face.tell("what_was_decided")[-1][0] == action


def test_who_may_not_accept_is_refused(client: Client, face: Face) -> None:
    migrate(client)
    face.tell("machine_state", values.MACHINE_UUID, "registered")
    face.tell("deny", "org.p2vd1.accept")
    name, _ = error_of(client.call, MACHINE_PATH, MACHINE, "Accept", "a{sv}", NONE)
    assert name == "org.p2vd1.Error.NotAuthorized"
    assert client.get(MACHINE_PATH, MACHINE, "State") == "registered"


def test_a_plan_may_name_a_record_and_no_source(client: Client, face: Face) -> None:
    options = dbus.Dictionary({"machine": "erp1"}, signature="sv")
    nobody = dbus.Array([], signature="s")
    _, page = client.manager("Plan", "asa{sv}", nobody, options)
    assert face.tell("what_was_asked") == [["plan", [], {"machine": "erp1"}, 1234]]
    (disk,) = page["Disks"]
    assert (disk["SourceId"], disk["LogicalVolume"]) == (values.WWID, "erp1-disk0")
    assert isinstance(disk["TargetSize"], dbus.UInt64)
    assert (page["Cutover"], page["Record"], page["SourceId"]) == ("auto", "", values.WWID)
    name, _ = error_of(client.manager, "Plan", "asa{sv}", nobody, NONE)
    assert name == "org.p2vd1.Error.InvalidArgument"
