"""Logging in to a portal's targets and out again: what is p2vd's own, and what is only used.

A record of open-iscsi, or a session, that was there before is another's: it is used, and neither
changed nor ended. What p2vd makes it remembers before it makes it, so that a crash leaves nothing
unknown.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from p2vd.discovery.iscsi import Session
from p2vd.discovery.iscsi_errors import (
    IscsiError,
    IscsiTransient,
    PortalNotOffered,
    RecordForeign,
    RecordGone,
)
from p2vd.discovery.iscsiadm import Iscsiadm
from p2vd.model.errors import P2vdError
from p2vd.model.portal import Chap, Node, PortalRecord

log = logging.getLogger(__name__)

_NAMED = 4


@dataclass(frozen=True)
class Connector:
    """Carries out, with no thread and no memory of its own; `remember` is durable when it returns."""

    iscsiadm: Iscsiadm
    sessions: Callable[[], Sequence[Session]]
    remember: Callable[[PortalRecord], None]
    boot_id: str

    def connect(self, record: PortalRecord, chap: Chap | None) -> PortalRecord:
        """Discover and log in to what is wanted of it; again after it failed half-way.

        Raises IscsiError; `undo` then takes back what was made.
        """
        if not self.iscsiadm.has_interface(record.name):
            record = self._remembered(replace(record, interface_made=True))
            self.iscsiadm.make_interface(record.name)
        for node in wanted(self.iscsiadm.discover(record.name, chap), record):
            record = self._log_in(record, node, chap)
        return self._remembered(replace(record, settled=True))

    def reconnect(self, record: PortalRecord) -> PortalRecord:
        """Log in again to what is remembered, by open-iscsi's records; to each target that lets us.

        Raises the first IscsiError, and a refusal before what is worth trying again.
        """
        if not record.nodes:
            if record.chap:
                raise RecordGone(record.id, "it had not been connected yet")
            return self.connect(record, None)
        refusal: IscsiError | None = None
        for node in record.nodes:
            try:
                record = self._log_in_again(record, node)
            except IscsiError as error:
                if refusal is None or isinstance(refusal, IscsiTransient):
                    refusal = error
        if refusal is not None:
            raise refusal
        return self._remembered(replace(record, settled=True))

    def _log_in_again(self, record: PortalRecord, node: Node) -> PortalRecord:
        if self.session(record, node) is not None:
            return record
        file = self.iscsiadm.record(node, record.interface)
        if file is None and (record.chap or not node.record_made):
            raise RecordGone(record.id, f"open-iscsi has no record of {node.target_iqn}")
        return self._log_in(record, node, None)

    def undo(self, record: PortalRecord, before: PortalRecord) -> None:
        """Take back what an attempt made beyond `before`. What cannot be taken back is logged."""
        known = {node.key: node for node in before.nodes}
        for node in record.nodes:
            was = known.get(node.key, replace(node, record_made=False, session_boot=""))
            made_session = node.session_boot == self.boot_id and was.session_boot != self.boot_id
            made_record = node.record_made and not was.record_made
            self._tolerant(lambda: self._end(record, node, session=made_session, entry=made_record))  # noqa: B023
        if record.interface_made and not before.interface_made:
            self._tolerant(lambda: self.iscsiadm.delete_interface(record.name))

    def disconnect(self, record: PortalRecord, *, keep_interface: bool) -> None:
        """End the sessions that p2vd made, and delete its records. Raises IscsiError."""
        for node in record.nodes:
            self._end(record, node, session=self.ours(node), entry=node.record_made)
        if record.interface_made and not keep_interface:
            self.iscsiadm.delete_interface(record.name)

    def session(self, record: PortalRecord, node: Node) -> Session | None:
        """The session to a target by this portal and interface."""
        for session in self.sessions():
            same = (session.target_iqn, session.portal) == node.key
            if same and session.interface == record.interface:
                return session
        return None

    def ours(self, node: Node) -> bool:
        """Whether the session to a target is p2vd's: by its record, or logged in since the host's boot."""
        return node.record_made or node.session_boot == self.boot_id

    def _log_in(self, record: PortalRecord, node: Node, chap: Chap | None) -> PortalRecord:
        known = next((one for one in record.nodes if one.key == node.key), None)
        node = known or node
        if self.session(record, node) is not None:
            return self._with(record, node)
        there = self.iscsiadm.record(node, record.interface) is not None
        if there and chap is not None and not node.record_made:
            raise RecordForeign(f"{record.id} ({node.target_iqn})", "in /etc/iscsi/nodes")
        if not there or (chap is not None and node.record_made):
            node = replace(node, record_made=True)
            record = self._with(record, node)
            self.iscsiadm.make_record(node, record.interface, chap)
        record = self._with(record, node)
        if self.iscsiadm.log_in(node, record.interface):
            record = self._with(record, replace(node, session_boot=self.boot_id))
        return record

    def _end(self, record: PortalRecord, node: Node, *, session: bool, entry: bool) -> None:
        there = self.session(record, node) if session else None
        if there is not None:
            self.iscsiadm.log_out(there.number, f"{record.id} ({node.target_iqn})")
        if entry and self.iscsiadm.record(node, record.interface) is not None:
            self.iscsiadm.delete_record(node, record.interface)

    def _with(self, record: PortalRecord, node: Node) -> PortalRecord:
        """Return `record` with `node` in place of what was known of that target, remembered."""
        others = tuple(one for one in record.nodes if one.key != node.key)
        return self._remembered(replace(record, nodes=(*others, node)))

    def _remembered(self, record: PortalRecord) -> PortalRecord:
        self.remember(record)
        return record

    @staticmethod
    def _tolerant(step: Callable[[], None]) -> None:
        try:
            step()
        except P2vdError as error:
            log.error("portal: what was begun could not be taken back: %s", error)  # noqa: TRY400


def wanted(offers: Sequence[Node], record: PortalRecord) -> tuple[Node, ...]:
    """Return what of a portal's offers to log in to: at this very portal, and of the targets asked for.

    Other portals are for the administrator to add: what a target announces may be unreachable from
    here. Raises PortalNotOffered.
    """
    here = [node for node in offers if node.portal == record.portal]
    if not here:
        portals = dict.fromkeys(str(node.portal) for node in offers)
        raise PortalNotOffered(record.id, f"at {_list(tuple(portals))}")
    names = dict.fromkeys(node.target_iqn for node in here)
    missing = [glob for glob in record.targets if not any(fnmatchcase(name, glob) for name in names)]
    if missing:
        raise PortalNotOffered(record.id, f"it has {_list(tuple(names))}, not {_list(missing)}")
    if not record.targets:
        return tuple(here)
    return tuple(node for node in here if any(fnmatchcase(node.target_iqn, glob) for glob in record.targets))


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
