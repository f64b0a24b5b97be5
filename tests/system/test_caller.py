"""The unit of a process, from what the kernel says of its control group."""

import os
from pathlib import Path

import pytest

from p2vd.system.caller import unit_of


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/cron.service\n", "cron.service"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope"),
        ("0::/system.slice/virt.service/payload/x.scope\n", "virt.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/backup.service\n",
            "user@1000.service/backup.service",
        ),
        ("12:pids:/x.service\n1:name=systemd:/system.slice/ssh.service\n0::/\n", "ssh.service"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_the_unit_is_in_the_control_group(tmp_path: Path, cgroup: str, unit: str) -> None:
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711/cgroup").write_text(cgroup)
    assert unit_of(4711, tmp_path) == unit


def test_a_process_that_has_ended_has_none(tmp_path: Path) -> None:
    assert unit_of(4711, tmp_path) == ""


def test_the_kernels_own_file_is_understood() -> None:
    assert isinstance(unit_of(os.getpid()), str)
