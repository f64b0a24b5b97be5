"""The mounts on which a path may be, by what proc(5) tells."""

import pytest

from p2vd.system.mountinfo import Mount, above, read

TEXT = r"""24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 24 0:27 / /srv rw - autofs systemd-1 rw,fd=60,timeout=600
31 30 0:50 / /srv rw,relatime shared:2 master:1 - nfs4 filer:/exports/old\040disks rw,vers=4.2
32 31 0:51 / /srv/two\040words rw - xfs /dev/mapper/vg-lv rw
garbage
33 24 0:52
"""


@pytest.mark.parametrize(
    ("path", "mounts"),
    [
        (
            "/srv/a.gz",
            ["/srv (nfs4, filer:/exports/old disks)", "/srv (autofs, systemd-1)", "/ (ext4, /dev/sda1)"],
        ),
        (
            "/srv",
            ["/srv (nfs4, filer:/exports/old disks)", "/srv (autofs, systemd-1)", "/ (ext4, /dev/sda1)"],
        ),
        ("/srv2/a.gz", ["/ (ext4, /dev/sda1)"]),
    ],
)
def test_the_longest_and_latest_comes_first(path: str, mounts: list[str]) -> None:
    assert [str(mount) for mount in above(path, TEXT)] == mounts


def test_names_are_as_they_are() -> None:
    assert above("/srv/two words/a.gz", TEXT)[0] == Mount("/srv/two words", "xfs", "/dev/mapper/vg-lv", "32")


def test_this_hosts_own_are_understood() -> None:
    assert above("/", read())[0].kind
