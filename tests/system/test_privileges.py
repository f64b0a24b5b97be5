"""Giving up privileges, in children that can afford it."""

import os
import subprocess
import sys

import pytest

NOBODY = 65534


def child(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_an_ordinary_user_gives_up_what_it_has() -> None:
    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    gid = NOBODY if os.geteuid() == 0 else os.getgid()
    done = child(
        f"""
from p2vd.system import privileges
privileges.drop({uid}, {gid})
status = open("/proc/self/status").read()
assert "NoNewPrivs:\\t1" in status, status
assert "CapEff:\\t0000000000000000" in status, status
print("dropped")
"""
    )
    assert (done.stdout, done.stderr) == ("dropped\n", "")


def test_an_ordinary_user_becomes_nobody_else() -> None:
    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    gid = NOBODY if os.geteuid() == 0 else os.getgid()
    done = child(
        f"""
import os
from p2vd.system import privileges
if os.geteuid() == 0:
    os.setresgid({gid}, {gid}, {gid})
    os.setresuid({uid}, {uid}, {uid})
privileges.become(1, 1)
print(os.getuid(), os.getgid())
"""
    )
    assert (done.stdout, done.stderr) == (f"{uid} {gid}\n", "")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_cannot_come_back() -> None:
    done = child(
        f"""
import os
from p2vd.system import privileges
privileges.drop({NOBODY}, {NOBODY})
for attempt in (lambda: os.setuid(0), lambda: open("/etc/shadow")):
    try:
        attempt()
    except PermissionError:
        continue
    raise SystemExit("came back")
assert os.getgroups() == []
print("held")
"""
    )
    assert (done.stdout, done.stderr) == ("held\n", "")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs capabilities to drop")
def test_root_without_a_user_to_become_loses_its_capabilities() -> None:
    done = child(
        """
import os
from p2vd.system import privileges
privileges.drop(0, 0)
try:
    os.setuid(1)
except PermissionError:
    print("held")
"""
    )
    assert (done.stdout, done.stderr) == ("held\n", "")


def test_threads_that_run_already_would_keep_theirs() -> None:
    done = child(
        """
import threading, os
from p2vd.system import privileges
release = threading.Event()
threading.Thread(target=release.wait).start()
try:
    privileges.drop(os.getuid(), os.getgid())
except privileges.PrivilegesKept as error:
    print(error.what)
release.set()
"""
    )
    assert done.stdout == "threads run already\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_a_user_that_it_cannot_become_is_an_error() -> None:
    done = child(
        """
from p2vd.system import privileges
try:
    privileges.drop(1, 1)
except privileges.PrivilegesKept as error:
    print(error.what)
"""
    )
    assert done.stdout.startswith("user ids")
