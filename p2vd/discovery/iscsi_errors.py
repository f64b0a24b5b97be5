"""What can go wrong between this host and an iSCSI portal, by open-iscsi's exit statuses.

The numbers are those of open-iscsi 2.1.8, include/iscsi_err.h, and of iscsiadm(8), EXIT STATUS.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError
from p2vd.system.command import CommandFailed


@dataclass(eq=False)
class IscsiError(P2vdError):
    """Root of what open-iscsi reports of a portal; `problem` is in its words."""

    portal: str
    problem: str


class IscsiTransient(IscsiError):
    """What may be well in a moment: worth trying again. Nothing else is."""


class PortalUnreachable(IscsiTransient):
    """Nothing answers at the portal."""

    template: ClassVar[str] = (
        "The portal {portal} does not answer in time: {problem}. Check the address and the port, the network "
        "on the way (ip route, MTU) and that the array serves iSCSI there."
    )


class LoginTimedOut(IscsiTransient):
    """The portal took the connection and then did not finish, or asked to come back later."""

    template: ClassVar[str] = (
        "The portal {portal} answers, but the login did not end: {problem}. The array may be busy or failing "
        "over; a path with a smaller MTU than both ends looks like this too."
    )


class IscsidUnavailable(IscsiTransient):
    """This host's iscsid does not do its work."""

    template: ClassVar[str] = (
        "iscsid of this host did not carry out the request for {portal}: {problem}. Look at "
        "systemctl status iscsid."
    )


class IscsiadmNotStarted(IscsiTransient):
    """This host could not start iscsiadm: nothing was asked of the portal, and nothing changed."""

    template: ClassVar[str] = "iscsiadm was not run for {portal}: {problem}"


class LoginRefused(IscsiError):
    """The target does not let this initiator in."""

    template: ClassVar[str] = (
        "The target behind {portal} refuses this host: {problem}. Either the CHAP user or secret is wrong, "
        "or the array does not permit this initiator's name (/etc/iscsi/initiatorname.iscsi)."
    )


class LoginRejected(IscsiError):
    """The login failed for good, and not for what this host proved."""

    template: ClassVar[str] = (
        "The login at {portal} failed for good: {problem}. The target could not prove itself (chap-user-in, "
        "chap-secret-in), is no longer there, or wants what this initiator does not offer; the log says "
        "which: journalctl -u iscsid."
    )


class NoTargets(IscsiError):
    """The portal answers and offers nothing to this initiator."""

    template: ClassVar[str] = (
        "The portal {portal} offers no target: {problem}. Permit this initiator's name "
        "(/etc/iscsi/initiatorname.iscsi) on the array, then add the portal again."
    )


class PortalNotOffered(IscsiError):
    """The portal offers targets, but none that is wanted at this address."""

    template: ClassVar[str] = (
        "The portal {portal} offers what was asked for only elsewhere: {problem}. Add one of these portals "
        "instead, or ask for one of these targets."
    )


class RecordForeign(IscsiError):
    """open-iscsi has a record of the target that p2vd did not make, with credentials of its own."""

    template: ClassVar[str] = (
        "This host already has a record of {portal} that p2vd did not make ({problem}), and p2vd changes no "
        "such record. Add the portal without CHAP options to use the record as it is, or delete it "
        "(iscsiadm -m node -o delete)."
    )


class RecordGone(IscsiError):
    """The credentials of a remembered portal are no longer there."""

    template: ClassVar[str] = (
        "The CHAP secret for {portal} is no longer on this host ({problem}): add the portal again with its "
        "secret."
    )


class InterfaceMissing(IscsiError):
    """There is neither an iface of open-iscsi nor a network interface of that name."""

    template: ClassVar[str] = (
        "{portal} cannot be reached by {problem}: this host has neither a network interface nor an iface of "
        "open-iscsi of that name. See ip link and iscsiadm -m iface."
    )


class IscsiDriverMissing(IscsiError):
    """The kernel has no iSCSI transport, or one that cannot do what is asked."""

    template: ClassVar[str] = (
        "The kernel's iSCSI driver cannot reach {portal}: {problem}. Load it (modprobe iscsi_tcp), then add "
        "the portal again."
    )


class IscsiadmFailed(IscsiError):
    """Any other failure of iscsiadm."""

    template: ClassVar[str] = (
        "iscsiadm failed for {portal}: {problem}. Look at journalctl -u iscsid and at /etc/iscsi."
    )


class IscsiadmUnclear(IscsiError):
    """iscsiadm said something that this version does not understand."""

    template: ClassVar[str] = "iscsiadm said of {portal} what p2vd does not understand: {problem!r}."


SESSION_EXISTS = 15
NO_OBJECTS_FOUND = 21
NO_SESSION = (2, 21, 22)
"""Of `-m session -r N`: SESS_NOT_FOUND, NO_OBJS_FOUND, and what 2.1.8 says in fact, SYSFS_LOOKUP."""

_BY_STATUS: dict[int, type[IscsiError]] = {
    4: PortalUnreachable,  # ISCSI_ERR_TRANS
    5: LoginTimedOut,  # ISCSI_ERR_LOGIN: the target asked to try again, until the time was over
    8: PortalUnreachable,  # ISCSI_ERR_TRANS_TIMEOUT
    11: LoginTimedOut,  # ISCSI_ERR_PDU_TIMEOUT
    12: IscsiDriverMissing,  # ISCSI_ERR_TRANS_NOT_FOUND
    14: IscsiDriverMissing,  # ISCSI_ERR_TRANS_CAPS
    18: IscsidUnavailable,  # ISCSI_ERR_ISCSID_COMM_ERR
    19: LoginRejected,  # ISCSI_ERR_FATAL_LOGIN
    20: IscsidUnavailable,  # ISCSI_ERR_ISCSID_NOTCONN
    21: NoTargets,  # ISCSI_ERR_NO_OBJS_FOUND
    24: LoginRefused,  # ISCSI_ERR_LOGIN_AUTH_FAILED
    28: IscsidUnavailable,  # ISCSI_ERR_BUSY
    29: IscsidUnavailable,  # ISCSI_ERR_AGAIN
    31: IscsidUnavailable,  # ISCSI_ERR_CHILD_TERMINATED
    33: IscsidUnavailable,  # ISCSI_ERR_REQ_TIMEDOUT
}

# A discovery that could not connect ends as PDU_TIMEOUT, or as NO_OBJS_FOUND where others could: its words
# tell (usr/io.c: "cannot make connection to ...", "connect to ... timed out").
_NOT_CONNECTED = re.compile(r"cannot make connection to|connect to \S+ timed out")

# systemd-run: the same command of an earlier daemon has not ended yet.
_STILL_RUNS = "was already loaded"


def iscsi_error(error: CommandFailed, portal: str) -> IscsiError:
    """Return the named error that a failure of iscsiadm is."""
    problem = _words(error.stderr) or f"exit status {error.returncode}"
    kind = _BY_STATUS.get(error.returncode, IscsiadmFailed)
    if _STILL_RUNS in error.stderr:
        kind = IscsidUnavailable
    if kind in (LoginTimedOut, NoTargets) and _NOT_CONNECTED.search(error.stderr):
        kind = PortalUnreachable
    return kind(portal, problem)


def _words(stderr: str) -> str:
    """Return iscsiadm's complaint in one line, each sentence once and without its name in front."""
    lines = (line.strip().removeprefix("iscsiadm:").strip(" .") for line in stderr.splitlines())
    return "; ".join(dict.fromkeys(line for line in lines if line))
