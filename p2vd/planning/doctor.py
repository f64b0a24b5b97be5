"""What is not as it should be on this host, each with the remedy. Pure."""

from collections.abc import Iterator

from p2vd.model.disk import Transport
from p2vd.model.doctor import Finding, HostFacts, Severity
from p2vd.model.errors import Reason
from p2vd.model.inventory import Inventory
from p2vd.model.lvm import Vg
from p2vd.policy.model import PolicySet

_MAX_RECOVERY_S = 20
"""open-iscsi's README asks for 5 to 15 s under multipath; its default is 120."""

_ACT_ON_NEW_LUNS = ("kpartx", "mdadm", "event-activation")
_NAMED = 5


def diagnose(
    facts: HostFacts, inventory: Inventory, policies: PolicySet, *, keeps_unknown: bool
) -> tuple[Finding, ...]:
    """Return all findings, the worst first.

    `keeps_unknown`: LUNs that were never seen before are in quarantine too (p2vd.toml's `quarantine`).
    """
    found = [
        *(Finding(Severity.EXPOSED, reason) for reason in facts.exposures),
        *_rules(facts),
        *_multipath(facts, inventory),
        *_maps(inventory),
        *_sessions(facts, inventory),
        *_volume_groups(inventory, policies),
        *_thin_pools(facts),
        *(Finding(Severity.WRONG, reason) for reason in facts.hypervisors),
        *_problems(facts, inventory),
        *_quarantine(facts, inventory, keeps_unknown=keeps_unknown),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _finding(severity: Severity, code: str, text: str) -> Finding:
    return Finding(severity, Reason(code, text))


def _rules(facts: HostFacts) -> Iterator[Finding]:
    for rule in facts.rules:
        if rule.masked:
            yield _finding(
                Severity.EXPOSED,
                "rule-masked",
                f"{rule.file} hides p2vd's udev rule {rule.name}: nothing keeps the host's hands off guests' "
                f"disks. Remove it (rm {rule.file}), then udevadm control --reload.",
            )
        elif not rule.file:
            yield _finding(
                Severity.EXPOSED,
                "rule-missing",
                f"p2vd's udev rule {rule.name} is not installed. Install it (setup.py install_host), then "
                "udevadm control --reload.",
            )
        elif rule.hides:
            yield _finding(
                Severity.EXPOSED,
                "rule-overridden",
                f"udev reads {rule.file} in place of p2vd's own {rule.hides}, and they differ. Compare them "
                f"(diff {rule.hides} {rule.file}); without a reason for it, remove {rule.file}, then "
                "udevadm control --reload.",
            )


def _multipath(facts: HostFacts, inventory: Inventory) -> Iterator[Finding]:
    if facts.multipath is None:
        remote = [
            source for source in inventory.sources if source.transport in (Transport.ISCSI, Transport.FC)
        ]
        if remote or any(source.dm_uuid for source in inventory.sources):
            yield _finding(
                Severity.WRONG,
                "multipathd-silent",
                "multipathd does not answer, so a path that fails is not noticed and none is brought back. "
                "Start it: systemctl enable --now multipathd (package multipath-tools).",
            )
        return
    if facts.multipath.recheck_wwid == "no":
        yield _finding(
            Severity.WRONG,
            "recheck-wwid",
            "multipathd does not look at a path's WWID again when the path comes back (recheck_wwid no): a "
            "LUN that was mapped anew meanwhile is taken for the old one. p2vd looks by itself before it "
            'proves a disk, but cannot keep reads from the wrong one. Set recheck_wwid "yes" in the defaults '
            "section of /etc/multipath.conf, then multipathd reconfigure.",
        )
    if facts.multipath.queueing:
        yield _finding(
            Severity.WRONG,
            "no-path-retry-queue",
            f"I/O to {_list(facts.multipath.queueing)} waits for ever when all paths are gone (no_path_retry "
            "queue), and every LVM command with it. Set a number of retries, such as no_path_retry 12, in "
            "/etc/multipath.conf, then multipathd reconfigure.",
        )


def _maps(inventory: Inventory) -> Iterator[Finding]:
    for source in inventory.sources:
        told = [reason for reason in source.reasons if reason.code == "no-map"]
        told += [warning for warning in source.warnings if warning.code in ("map-missing", "stray-path")]
        yield from (Finding(Severity.WRONG, reason) for reason in told)


def _sessions(facts: HostFacts, inventory: Inventory) -> Iterator[Finding]:
    # Without a map behind it a long wait is right: nothing else would take over.
    under_maps = {path.target_iqn for source in inventory.sources for path in source.paths if path.group}
    for session in facts.sessions:
        if session.target_iqn not in under_maps:
            continue
        to = f"The iSCSI {session.name} to {session.target_iqn} at {session.portal}"
        node = f"iscsiadm -m node -T {session.target_iqn} -o update"
        if session.recovery_s < 0 or session.recovery_s > _MAX_RECOVERY_S:
            # multipathd writes its own into the session's recovery_tmo (libmultipath/discovery.c).
            wait = f"{session.recovery_s} s" if session.recovery_s >= 0 else "for ever"
            yield _finding(
                Severity.WRONG,
                "iscsi-timeout",
                f"{to} holds I/O back {wait} when it breaks, before multipath takes another path. Set "
                "node.session.timeo.replacement_timeout = 15 in /etc/iscsi/iscsid.conf and for this target "
                f"({node} -n node.session.timeo.replacement_timeout -v 15); the next login takes it. A "
                "fast_io_fail_tmo in /etc/multipath.conf overrides it: then that is what to lower.",
            )
        if session.ping_interval_s <= 0 or session.ping_timeout_s <= 0:
            yield _finding(
                Severity.WRONG,
                "iscsi-pings",
                f"{to} sends no pings: a portal that goes without a word is not noticed. Set "
                "node.conn[0].timeo.noop_out_interval = 5 and noop_out_timeout = 5 in /etc/iscsi/iscsid.conf "
                f"and for this target ({node} -n NAME -v 5); the next login takes them.",
            )


def _volume_groups(inventory: Inventory, policies: PolicySet) -> Iterator[Finding]:
    host = (
        ""
        if inventory.system_id
        else ' This host has none: first set global/system_id_source = "uname" in /etc/lvm/lvmlocal.conf.'
    )
    trusting = {
        word for rule in policies.rules if rule.target.single_host for word in rule.target.volume_groups
    }
    for vg in inventory.volume_groups:
        if vg.lock_type not in ("", "none") or vg.system_id or not _is_target(vg, policies):
            continue
        told = any(vg.is_called(word) for word in trusting)
        only = ", against which only the policy stands (single_host)" if told else ""
        yield _finding(
            Severity.ADVICE if told else Severity.WRONG,
            "no-system-id",
            f"The volume group {vg.name} carries no system ID: another host that sees its LUNs may change it "
            f"at the same time{only}. Give it this host's: vgchange --systemid "
            f"{inventory.system_id or '$(uname -n)'} {vg.name} (lvmsystemid(7)).{host}",
        )


def _thin_pools(facts: HostFacts) -> Iterator[Finding]:
    # Linux, Documentation/admin-guide/device-mapper/thin-provisioning.rst: 60 s by default, 0 is for ever.
    if facts.no_space_timeout_s == 0:
        yield _finding(
            Severity.WRONG,
            "no-space-timeout",
            "Writes to a full thin pool wait for ever (no_space_timeout = 0 of dm_thin_pool): whoever wrote "
            "hangs in the kernel, and LVM's commands may hang behind it. Let them fail after a minute: "
            "echo 60 > /sys/module/dm_thin_pool/parameters/no_space_timeout, and for the next boot "
            '"options dm_thin_pool no_space_timeout=60" in /etc/modprobe.d/dm_thin_pool.conf (and in the '
            "initramfs: update-initramfs -u).",
        )


def _is_target(vg: Vg, policies: PolicySet) -> bool:
    """Whether p2vd makes volumes in it: a policy says so, or some are there."""
    words = {word for rule in policies.rules for word in rule.target.volume_groups}
    ours = any(tag.startswith("p2vd.") for lv in vg.lvs for tag in lv.tags)
    return ours or any(vg.is_called(word) for word in words)


def _problems(facts: HostFacts, inventory: Inventory) -> Iterator[Finding]:
    if facts.multipath is not None:
        yield from (_finding(Severity.WRONG, "unread", problem) for problem in facts.problems)
    yield from (_finding(Severity.WRONG, "unread", problem) for problem in inventory.problems)


def _quarantine(facts: HostFacts, inventory: Inventory, *, keeps_unknown: bool) -> Iterator[Finding]:
    exposed = any(reason.code in _ACT_ON_NEW_LUNS for reason in facts.exposures)
    if _has_remote(inventory) and not keeps_unknown and not exposed:
        yield _finding(
            Severity.ADVICE,
            "unknown-luns",
            "A LUN is in quarantine only once p2vd has seen it: what it holds may be assembled or activated "
            'before. Set quarantine = "unknown" in /etc/p2vd/p2vd.toml before LUNs of other machines are '
            "mapped.",
        )


def _has_remote(inventory: Inventory) -> bool:
    return any(source.transport in (Transport.ISCSI, Transport.FC) for source in inventory.sources)


def _list(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
