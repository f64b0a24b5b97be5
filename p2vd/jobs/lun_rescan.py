"""A rescan of the LUNs behind some sessions: new, grown, vanished, and numbers given to another LUN.

What is stale is taken away first, because the kernel would keep it for ever; but never what
somebody uses as his only way to a disk.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from p2vd.discovery import luns
from p2vd.discovery.iscsi import Session
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.discovery.luns import Answer, Found
from p2vd.jobs.lun_use import LunUse, carrying, paths_by
from p2vd.model.disk import Source
from p2vd.model.errors import P2vdError
from p2vd.model.inventory import Inventory
from p2vd.model.portal import RescanReport
from p2vd.model.size import format_size
from p2vd.system.clock import now_us
from p2vd.system.command import CommandFailed, CommandNotStarted, Commands

log = logging.getLogger(__name__)

_STALE = (Found.GONE, Found.OTHER)


@dataclass
class _Findings:
    vanished: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class LunRescan:
    """Carries a rescan out. `look` scans the host now; `use` says who uses what of it.

    `release` ends p2vd's own look at what is on a disk, which would count as use.
    """

    commands: Commands
    iscsiadm: Iscsiadm
    sessions: Callable[[], Sequence[Session]]
    look: Callable[[], Inventory]
    use: Callable[[Inventory], LunUse]
    release: Callable[[str], None]

    def run(self, sessions: Sequence[Session], told: str) -> RescanReport:
        """Rescan the LUNs of `sessions`, and of no other but where the same LUN is stale there too.

        Raises IscsiError, CommandFailed, CommandTimedOut, ScanFailed.
        """
        hosts = frozenset(session.host for session in sessions if session.state == "LOGGED_IN")
        before = self.look()
        findings = _Findings()
        touched = self._remove_stale(before, hosts, findings)
        for session in self.sessions():
            if session.host in hosts | touched:
                self.iscsiadm.rescan(session.number, f"{told} ({session.target_iqn})")
        luns.settle(self.commands)
        after = self.look()
        grown = self._grow(before, after)
        if grown:
            self.look()
        return RescanReport(
            time_us=now_us(),
            new=tuple(sorted(_wwids(after, hosts) - _wwids(before, hosts))),
            grown=tuple(grown),
            vanished=tuple(findings.vanished),
            replaced=tuple(findings.replaced),
            left_alone=tuple(findings.left_alone),
        )

    # ---- stale paths -------------------------------------------------------------------------

    def _remove_stale(self, before: Inventory, hosts: frozenset[str], findings: _Findings) -> frozenset[str]:
        """Take away the paths that no longer lead where they did; return the hosts they were on."""
        found = [(source, self._stale(source, hosts)) for source in before.sources if source.wwid]
        found = [(source, stale) for source, stale in found if stale]
        for source, _ in found:
            self.release(source.id)
        use = self.use(before)
        touched: set[str] = set()
        for source, stale in found:
            users = use.of(source)
            sound = [path for path in carrying(source) if path.device not in stale]
            text = _sentence(source, stale)
            if users and not sound:
                findings.left_alone.append(f"{text} It was left alone: {' '.join(users)}")
                log.error("rescan: %s It is in use: %s", text, " ".join(users))
                continue
            if self._forget(source, stale, whole=not sound, findings=findings, text=text):
                touched |= {path.host for path in source.paths if path.device in stale}
        return frozenset(touched)

    def _stale(self, source: Source, hosts: frozenset[str]) -> dict[str, Answer]:
        mine = paths_by(source, hosts)
        answers = {device: luns.ask(self.commands, device, source.wwid) for device in mine}
        if any(answer.found in _STALE for answer in answers.values()):
            for path in source.paths:
                if path.device not in answers:
                    answers[path.device] = luns.ask(self.commands, path.device, source.wwid)
        return {device: answer for device, answer in answers.items() if answer.found in _STALE}

    def _forget(
        self, source: Source, stale: dict[str, Answer], *, whole: bool, findings: _Findings, text: str
    ) -> bool:
        try:
            if whole and source.dm_uuid:
                luns.flush_map(self.commands, source.name)
            for device in stale:
                luns.remove_path(self.commands, device)
        except (CommandFailed, CommandNotStarted) as error:
            findings.left_alone.append(f"{text} It could not be taken away: {error}")
            return False
        log.warning("rescan: %s", text)
        replaced = any(answer.found is Found.OTHER for answer in stale.values())
        (findings.replaced if replaced else findings.vanished).append(text)
        return True

    # ---- grown LUNs --------------------------------------------------------------------------

    def _grow(self, before: Inventory, after: Inventory) -> list[str]:
        """Tell which LUNs have grown; give the maps that nobody uses their new size.

        A LUN has when all its paths say so: those by another portal may have said it at an earlier rescan.
        """
        sizes = {source.wwid: source.size_bytes for source in before.sources if source.wwid}
        use = self.use(after)
        told = []
        for source in after.sources:
            now, was = _path_sizes(source), sizes.get(source.wwid)
            if len(now) != 1 or was is None or max(now) <= was:
                continue
            text = f"{source.id} ({source.name}) has {format_size(max(now))}, it had {format_size(was)}."
            if source.dm_uuid and source.size_bytes < max(now):
                users = use.of(source)
                if users:
                    text += f" Its map keeps the old size: {' '.join(users)}"
                else:
                    text += self._resize(source)
            told.append(text)
        return told

    def _resize(self, source: Source) -> str:
        try:
            luns.resize_map(self.commands, source.name)
        except P2vdError as error:
            return f" Its map keeps the old size: {error}"
        return ""


def _path_sizes(source: Source) -> frozenset[int]:
    return frozenset(path.size_bytes for path in carrying(source))


def _wwids(inventory: Inventory, hosts: frozenset[str]) -> frozenset[str]:
    return frozenset(source.wwid for source in inventory.sources if source.wwid and paths_by(source, hosts))


def _sentence(source: Source, stale: dict[str, Answer]) -> str:
    addresses = {path.device: path.hctl for path in source.paths}
    parts = [
        f"{device} ({addresses[device]}) is now {answer.wwid}"
        if answer.found is Found.OTHER
        else f"{device} ({addresses[device]}) is no longer mapped"
        for device, answer in sorted(stale.items())
    ]
    return f"{source.id} ({source.name}): {', '.join(parts)}."
