"""Give up every privilege for good, and check that it holds."""

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from p2vd.model.errors import P2vdError

# <linux/prctl.h>, <linux/capability.h>
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECURE_NO_ROOT_LOCKED = 0b11 | 0b1100  # NOROOT and NO_SETUID_FIXUP, each with its lock bit
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = 64

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(eq=False)
class PrivilegesKept(P2vdError):
    """A privilege could not be given up, so the process must not go on."""

    what: str
    template: ClassVar[str] = "The worker still has privileges it must not have: {what}. Nothing was copied."


def drop(uid: int, gid: int) -> None:
    """Become `uid`:`gid` without groups and capabilities; no new ones; not dumpable.

    Must be called before the first thread starts: capabilities belong to threads. A process that
    is not root already can only drop what it has and must name its own uid and gid.
    Raises PrivilegesKept if anything is left.
    """
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise PrivilegesKept("threads run already")
    if os.geteuid() == 0:
        os.setgroups([])
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        for capability in range(_CAPABILITIES):
            if _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
                _prctl(_PR_CAPBSET_DROP, capability)
        if uid == 0:
            _prctl(_PR_SET_SECUREBITS, _SECURE_NO_ROOT_LOCKED)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _clear_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)
    _check(uid, gid)


def become(uid: int, gid: int) -> None:
    """Do as `drop` does; who is not root stays who he is. Raises PrivilegesKept."""
    as_root = os.geteuid() == 0
    drop(uid if as_root else os.getuid(), gid if as_root else os.getgid())


def _check(uid: int, gid: int) -> None:
    if os.getresuid() != (uid,) * 3:
        raise PrivilegesKept(f"user ids {os.getresuid()}, wanted {uid}")
    if os.getresgid() != (gid,) * 3:
        raise PrivilegesKept(f"group ids {os.getresgid()}, wanted {gid}")
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        if int(status[name], 16):
            raise PrivilegesKept(f"capabilities {name} {status[name].strip()}")
    if uid and status["Groups"].split() not in ([], [str(gid)]) and int(status["CapBnd"], 16) == 0:
        raise PrivilegesKept(f"groups {status['Groups'].strip()}")
    if status["NoNewPrivs"].strip() != "1":
        raise PrivilegesKept("no_new_privs is not set")
    if _libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise PrivilegesKept("the process is dumpable")
    if uid:
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            return
        raise PrivilegesKept("root can be taken back")


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), 0) != 0:
        raise PrivilegesKept(f"prctl({option}, {argument}): {os.strerror(ctypes.get_errno())}")


def _clear_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise PrivilegesKept(f"capset: {os.strerror(ctypes.get_errno())}")
