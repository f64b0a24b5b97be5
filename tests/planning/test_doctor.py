"""What the doctor finds, each with the remedy."""

from dataclasses import replace

import pytest

from p2vd.model.disk import PathState, Portal, Source, Transport
from p2vd.model.doctor import Finding, HostFacts, Multipath, Session, Severity, UdevRule
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Lv
from p2vd.planning.doctor import diagnose
from tests.planning.builders import IQN, SOURCE, THIN, VG, make_inventory, make_policies

LIB, ETC = "/usr/lib/udev/rules.d/59-x.rules", "/etc/udev/rules.d/59-x.rules"
SESSION = Session(
    "session1", IQN, Portal("10.98.1.1", 3260), recovery_s=5, ping_interval_s=5, ping_timeout_s=5
)
WELL = HostFacts(
    rules=(UdevRule("59-x.rules", LIB),),
    multipath=Multipath("yes"),
    sessions=(SESSION,),
)
MAPPED = replace(SOURCE, paths=tuple(replace(path, group=1) for path in SOURCE.paths))
OWNED = replace(VG, lock_type="", system_id="host1")


def found(
    facts: HostFacts = WELL,
    inventory: Inventory | None = None,
    policy: str = THIN,
    *,
    keeps_unknown: bool = True,
) -> dict[str, Finding]:
    """What the doctor finds by its code; the usual host is well."""
    inventory = make_inventory(MAPPED, OWNED, system_id="host1") if inventory is None else inventory
    findings = diagnose(facts, inventory, make_policies(policy), keeps_unknown=keeps_unknown)
    assert [finding.severity for finding in findings] == sorted(
        (finding.severity for finding in findings), key=list(Severity).index
    )
    return {finding.reason.code: finding for finding in findings}


def text(finding: Finding) -> str:
    return finding.reason.text


def test_a_well_host() -> None:
    assert found() == {}


def test_writes_to_a_full_pool_that_would_wait_for_ever() -> None:
    finding = found(replace(WELL, no_space_timeout_s=0))["no-space-timeout"]
    assert finding.severity is Severity.WRONG
    assert "echo 60 > /sys/module/dm_thin_pool/parameters/no_space_timeout" in text(finding)
    assert found(replace(WELL, no_space_timeout_s=60)) == {}


def test_a_hypervisor_that_cannot_be_reached() -> None:
    reason = Reason("hypervisor-unreachable", "libvirt is not there.")
    assert found(replace(WELL, hypervisors=(reason,))) == {reason.code: Finding(Severity.WRONG, reason)}


def test_exposures_come_first() -> None:
    facts = replace(
        WELL, exposures=(Reason("kpartx", "udev makes partition maps."),), multipath=Multipath("no")
    )
    findings = found(facts)
    assert list(findings) == ["kpartx", "recheck-wwid"]
    assert findings["kpartx"].severity is Severity.EXPOSED


@pytest.mark.parametrize(
    ("rule", "code", "says"),
    [
        (UdevRule("59-x.rules"), "rule-missing", "setup.py install_host"),
        (UdevRule("59-x.rules", ETC, masked=True), "rule-masked", f"rm {ETC}"),
        (UdevRule("59-x.rules", ETC, hides=LIB), "rule-overridden", f"diff {LIB} {ETC}"),
    ],
)
def test_p2vds_own_rules(rule: UdevRule, code: str, says: str) -> None:
    finding = found(replace(WELL, rules=(rule,)))[code]
    assert finding.severity is Severity.EXPOSED
    assert says in text(finding)


def test_multipathd_that_does_not_look_again() -> None:
    assert 'recheck_wwid "yes"' in text(found(replace(WELL, multipath=Multipath("no")))["recheck-wwid"])


def test_maps_that_queue_for_ever() -> None:
    maps = tuple(f"mpath{letter}" for letter in "abcdefg")
    finding = found(replace(WELL, multipath=Multipath("yes", maps)))["no-path-retry-queue"]
    assert "mpatha, mpathb, mpathc, mpathd, mpathe and 2 more" in text(finding)
    assert "no_path_retry 12" in text(finding)


def test_multipathd_that_does_not_answer() -> None:
    facts = replace(WELL, multipath=None, problems=("exit status 1",))
    assert list(found(facts)) == ["multipathd-silent"]


def test_a_host_without_luns_needs_no_multipathd() -> None:
    local = Source("virtio-x", "", "vdb", "vdb", "", 1 << 30, 512, Transport.VIRTIO)
    assert found(HostFacts(), make_inventory(local, OWNED, system_id="host1")) == {}


@pytest.mark.parametrize("code", ["map-missing", "stray-path"])
def test_paths_that_lack_their_map(code: str) -> None:
    source = replace(MAPPED, warnings=(Reason(code, "its paths"), Reason("other", "no business of ours")))
    assert list(found(inventory=make_inventory(source, OWNED, system_id="host1"))) == [code]


def test_luns_without_their_map() -> None:
    source = replace(MAPPED, reasons=(Reason("no-map", "make it"), Reason("mounted", "no business of ours")))
    assert list(found(inventory=make_inventory(source, OWNED, system_id="host1"))) == ["no-map"]


@pytest.mark.parametrize(("recovery_s", "says"), [(120, "120 s"), (-1, "for ever")])
def test_a_session_that_waits_long_under_multipath(recovery_s: int, says: str) -> None:
    session = replace(SESSION, recovery_s=recovery_s)
    finding = found(replace(WELL, sessions=(session,)))["iscsi-timeout"]
    assert says in text(finding)
    assert f"-T {IQN} -o update -n node.session.timeo.replacement_timeout -v 15" in text(finding)


def test_without_a_map_a_long_wait_is_right() -> None:
    alone = make_inventory(SOURCE, OWNED, system_id="host1")
    assert found(replace(WELL, sessions=(replace(SESSION, recovery_s=120),)), alone) == {}


@pytest.mark.parametrize("times", [{"ping_interval_s": 0}, {"ping_timeout_s": 0}])
def test_a_session_without_pings(times: dict[str, int]) -> None:
    session = replace(SESSION, **times)  # type: ignore[arg-type]  # by name
    assert "noop_out_interval" in text(found(replace(WELL, sessions=(session,)))["iscsi-pings"])


def test_a_target_without_a_system_id() -> None:
    bare = replace(OWNED, system_id="")
    finding = found(inventory=make_inventory(MAPPED, bare, system_id="host1"))["no-system-id"]
    assert finding.severity is Severity.WRONG
    assert "vgchange --systemid host1 vg_san" in text(finding)
    assert "lvmlocal.conf" not in text(finding)


def test_a_host_without_a_system_id_is_told_to_set_one_first() -> None:
    bare = replace(OWNED, system_id="")
    assert "lvmlocal.conf" in text(found(inventory=make_inventory(MAPPED, bare))["no-system-id"])


def test_where_the_policy_stands_for_it_that_is_advice() -> None:
    bare = make_inventory(MAPPED, replace(OWNED, system_id=""), system_id="host1")
    finding = found(inventory=bare, policy=THIN + "single_host = true\n")["no-system-id"]
    assert finding.severity is Severity.ADVICE
    assert "single_host" in text(finding)


def test_a_guests_volume_group_needs_none() -> None:
    guest = replace(OWNED, uuid="other", name="guestvg", system_id="", tags=frozenset())
    assert found(inventory=make_inventory(MAPPED, OWNED, guest, system_id="host1")) == {}


def test_a_volume_group_with_p2vds_volumes_is_a_target_whatever_policies_say() -> None:
    ours = Lv("lv", "erp1", 1 << 30, frozenset({"p2vd.job=1"}))
    former = replace(OWNED, uuid="other", name="old", system_id="", tags=frozenset(), lvs=(ours,))
    assert list(found(inventory=make_inventory(MAPPED, OWNED, former, system_id="host1"))) == ["no-system-id"]


def test_a_shared_volume_group_needs_none() -> None:
    assert found(inventory=make_inventory(MAPPED, VG)) == {}


def test_what_could_not_be_read() -> None:
    inventory = make_inventory(MAPPED, OWNED, system_id="host1", problems=("LVM complains.",))
    assert text(found(replace(WELL, problems=("odd",)), inventory)["unread"]) == "LVM complains."


def test_luns_never_seen_before_are_advice() -> None:
    finding = found(keeps_unknown=False)["unknown-luns"]
    assert finding.severity is Severity.ADVICE
    assert 'quarantine = "unknown"' in text(finding)


def test_a_path_is_under_a_map_by_its_group_only() -> None:
    assert MAPPED.paths[0].state is PathState.READY
    assert {path.group for path in SOURCE.paths} == {0}
