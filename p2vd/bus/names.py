"""Every name that p2vd has on the bus, in one place. Pure: clients import it too."""

import re
from typing import Final

BUS_NAME: Final = "org.p2vd1"
ROOT: Final = "/org/p2vd1"

MANAGER: Final = "org.p2vd1.Manager"
SOURCE: Final = "org.p2vd1.Source"
VOLUME_GROUP: Final = "org.p2vd1.VolumeGroup"
MACHINE: Final = "org.p2vd1.Machine"
JOB: Final = "org.p2vd1.Job"
PORTAL: Final = "org.p2vd1.Portal"
PASSPORT: Final = "org.p2vd1.Passport"
INTERFACES: Final = (MANAGER, SOURCE, VOLUME_GROUP, MACHINE, JOB, PORTAL, PASSPORT)

PROPERTIES: Final = "org.freedesktop.DBus.Properties"
INTROSPECTABLE: Final = "org.freedesktop.DBus.Introspectable"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"

# The last part of an object's path names its kind: /org/p2vd1/KIND/ID.
KIND: Final = {
    SOURCE: "source",
    VOLUME_GROUP: "volume_group",
    MACHINE: "machine",
    JOB: "job",
    PORTAL: "portal",
    PASSPORT: "passport",
}

ACTION_MIGRATE: Final = "org.p2vd1.migrate"
ACTION_INSPECT: Final = "org.p2vd1.inspect"
ACTION_MANAGE_JOBS: Final = "org.p2vd1.manage-jobs"
ACTION_REMOVE_TARGET: Final = "org.p2vd1.remove-target"
ACTION_RELOAD: Final = "org.p2vd1.reload"
ACTION_MANAGE_PORTALS: Final = "org.p2vd1.manage-portals"
ACTION_CUTOVER: Final = "org.p2vd1.cutover"
ACTION_ROLLBACK: Final = "org.p2vd1.rollback"
ACTION_ACCEPT: Final = "org.p2vd1.accept"
ACTION_AUDIT: Final = "org.p2vd1.audit"
ACTIONS: Final = (
    ACTION_INSPECT,
    ACTION_MIGRATE,
    ACTION_MANAGE_JOBS,
    ACTION_REMOVE_TARGET,
    ACTION_RELOAD,
    ACTION_MANAGE_PORTALS,
    ACTION_CUTOVER,
    ACTION_ROLLBACK,
    ACTION_ACCEPT,
    ACTION_AUDIT,
)

ERROR_PREFIX: Final = "org.p2vd1.Error."

# Every error a client may meet, by the last part of its name; anything else arrives as `Failed`.
ERRORS: Final = {
    "DomainImpossible": "the hypervisor has no such virtual machine as the policy asks for",
    "Failed": "something went wrong that has no name of its own; the sentence says what",
    "Busy": "too many calls are under way; ask again",
    "NotAuthorized": "polkit does not let the caller do this",
    "OptionNotPermitted": "the method knows no such option",
    "PolicyInvalid": "policy files have errors; the policies read before stay in force",
    "InvalidArgument": "an argument or an option's value is wrong",
    "StillLooking": "the answer takes longer than a call may; ask again",
    "NotFound": "there is no such source, plan, job, machine, record or portal",
    "Refused": "the disk may not be copied as asked; all reasons are in the sentence",
    "IllegalTransition": "the job or machine is not in a state in which this can happen",
    "PlanOutdated": "what the plan was made from has changed",
    "IdentityChanged": "a device is not the one the job is bound to",
    "DeviceInUse": "somebody else holds the device",
    "DeviceAbsent": "the device is not attached now",
    "CommandFailed": "a command of the host failed; the sentence holds its words",
    "CommandTimedOut": "a command of the host did not answer in time",
    "CommandNotStarted": "this host has no process, memory or open file for a command now; nothing was done",
    "CommandKilled": "a command of the host was ended by a signal before it answered",
    "ChangeUnknown": "whether a command changed the host is not known",
    "ScanFailed": "the host could not be read; what was known before stays in force",
    "OutputUnclear": "a command or a file of the kernel says what could not be understood",
    "ReportFailed": "LVM's report could not be read or understood",
    "ScsiScanFailed": "the kernel's scan for LUNs did not work everywhere",
    "MultipathdUnclear": "multipathd's answer could not be understood",
    "DmUnclear": "device-mapper's answer could not be understood",
    "PortalUnreachable": "nothing answers at the portal; p2vd tries again",
    "LoginTimedOut": "the portal answers, but the login did not end; p2vd tries again",
    "IscsidUnavailable": "this host's iscsid does not do its work; p2vd tries again",
    "IscsiadmNotStarted": "this host could not start iscsiadm; p2vd tries again",
    "LoginRefused": "the target refuses this host: CHAP, or the initiator's name",
    "LoginRejected": "the login failed for good, for another reason than what this host proved",
    "NoTargets": "the portal offers this initiator no target",
    "PortalNotOffered": "the portal offers what was asked for only at another address, or not at all",
    "RecordForeign": "open-iscsi has a record of the target that p2vd did not make and does not change",
    "RecordGone": "the CHAP secret of a remembered portal is no longer there",
    "InterfaceMissing": "the host has no network interface and no iface of that name",
    "IscsiDriverMissing": "the kernel has no iSCSI transport that could be used",
    "IscsiadmFailed": "iscsiadm failed for a reason of its own",
    "IscsiadmUnclear": "iscsiadm's answer could not be understood",
    "PortalInUse": "disks behind the portal are in use, so its sessions stay",
    "PortalFault": "p2vd failed at a portal for a reason of its own",
    "NoRoute": "no interface of this host reaches the portal",
    "PassportInvalid": "the record of a machine has mistakes; each is named with its place",
    "PassportExists": "there is another record of that machine, and nobody said to replace it",
    "MarkerUnwritable": "a quarantine marker could not be written",
    "BootTestCannotRun": "this host cannot start the machine for a test",
    "BootTestEnded": "the boot test ended before it could tell anything",
    "BootTestInterrupted": "the boot test was ended from outside",
    "MachineRuns": "the machine runs: it cannot be started for a test",
    "MonitorFailed": "QEMU refused a command, or ended",
    "PoolShort": "a thin pool has no room for what the conversion of a guest writes",
    "VolumeInUse": "a volume of the machine is open; a boot test needs it at rest",
    "VolumeWritten": "something wrote to a volume while the machine was tested",
    "VerifyCannotRun": "a volume, or what it is to be compared with, is not there",
    "VerifyMachineRuns": "the machine runs: its volumes change and cannot be verified",
    "VerifyInterrupted": "a verification was ended from outside",
    "VerifyFailed": "the process that verifies a volume ended badly",
    "VolumeBusy": "a volume is open by somebody else; it is verified at rest",
    "VolumeUsedMeanwhile": "something wrote to a volume while it was verified",
    "FileNotOurs": "a file that p2vd did not write has the name of a machine's definition",
    "DefinitionUnwritable": "the files of a machine's definition cannot be written",
    "StartedElsewhere": "the machine is defined by files, which another tool takes",
    "StoreUnusable": "the file of the job store cannot be opened or read now; it is not damaged for that",
    "StoreUnwritable": "the job store takes no change now, so nothing was done",
    "NoThread": "this host lets p2vd start no more threads now, so nothing was begun",
    "StoreDamaged": "the job store cannot be trusted",
    "StoreNewer": "the job store is of a newer p2vd",
    "AuditUnwritable": "what was asked cannot be recorded in the audit, so it was not done",
    "AuditUnreadable": "the audit's files cannot be read",
    "ReceiptDamaged": "a receipt is torn or was edited; what it says is worth nothing",
    "ConfigInvalid": "a settings file has errors",
}


def error_name(name: str) -> str:
    """Return the full D-Bus name of the error `name`: one of the table, or Failed."""
    return ERROR_PREFIX + (name if name in ERRORS else "Failed")


_NOT_PLAIN = re.compile(rb"^[0-9]|[^A-Za-z0-9]")


def encode_label(text: str) -> str:
    """Return `text` as one element of an object path, escaped as sd_bus_path_encode does.

    ASCII letters stay, digits too unless first; each other byte becomes `_xx`; "" becomes `_`.
    """
    return _NOT_PLAIN.sub(lambda byte: b"_%02x" % byte[0][0], text.encode()).decode("ascii") or "_"


def decode_label(label: str) -> str:
    """Return what `encode_label` was given. Raises ValueError where `label` is none of its results."""
    if label == "_":
        return ""
    first, *rest = label.split("_")
    raw = first.encode("ascii")
    for part in rest:
        if len(part) < 2:
            raise ValueError(f"{label!r} is not an escaped path element")
        raw += bytes([int(part[:2], 16)]) + part[2:].encode("ascii")
    return raw.decode()


def object_path(interface: str, object_id: str) -> str:
    """Return the path of the object with `interface` and the id or UUID `object_id`."""
    return f"{ROOT}/{KIND[interface]}/{encode_label(object_id)}"


def object_id(path: str) -> str:
    """Return the id or UUID that `path` was made from; "" for the root object."""
    return "" if path == ROOT else decode_label(path.rpartition("/")[2])
