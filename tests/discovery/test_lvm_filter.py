"""What this host's lvm.conf hides from LVM is refused as a target, by name."""

from pathlib import Path

import pytest

from p2vd.discovery.lvm_filter import HostFilter, read_filter
from p2vd.model.errors import OutputUnclear
from p2vd.system.command import CommandFailed
from tests.discovery.host import FILTER, NO_FILTER, Host, codes, recorded_host
from tests.fakes import FakeCommands

# The names that udev's links and the kernel give to the map of vg_san's PV in the recording.
MAP = ("/dev/dm-1", "/dev/mapper/mpathb", "/dev/disk/by-id/dm-uuid-mpath-36001405")


@pytest.fixture
def base(tmp_path: Path) -> Host:
    return recorded_host("base", tmp_path)


def said(filter_: str = '["a|.*|"]', global_: str = '["a|.*|"]', in_use: str = "0") -> str:
    """As `lvm lvmconfig --type full` writes them."""
    return f'filter={filter_}\nglobal_filter={global_}\nuse_devicesfile={in_use}\ndevicesfile="mine"\n'


def read(answer: str, root: Path = Path("/nowhere")) -> HostFilter:
    return read_filter(FakeCommands().on("lvm lvmconfig", answer), root)


# lvm.conf, devices/filter: the first pattern that matches a name counts for it; a device is accepted where
# one of its names is; names without a match count for nothing, and a device without any is accepted.
@pytest.mark.parametrize(
    ("patterns", "rejected"),
    [
        ('["a|.*|"]', False),
        ('["r|.*|"]', True),
        ('"r|.*|"', True),
        ("[]", False),
        ('["r|^/dev/mapper/mpathb$|"]', True),
        ('["r|^/dev/mapper/mpathb$|", "a|.*|"]', False),
        ('["a|^/dev/mapper/|", "r|.*|"]', False),
        ('["a|/by-id/dm-uuid-mpath-|", "r|.*|"]', False),
        ('["r|/by-id/dm-uuid-mpath-|", "r|mpath|", "r/dm-[0-9]+$/"]', True),
        ('["a|^/dev/sd|", "r{^/dev/(dm-|mapper)}", "r(by-id)"]', True),
        ('["r|/dev/cdrom|","r|^/dev/sd.*|"]', False),
        (r'["r|^/dev/mapper/mpath\\.$|", "r|^/dev/dm-{1}|"]', False),
    ],
)
def test_a_device_is_rejected_as_lvm_would(patterns: str, rejected: bool) -> None:
    assert read(said(patterns)).rejects(MAP) is rejected
    assert read(said(global_=patterns)).rejects(MAP) is rejected


def test_a_device_has_to_pass_both_filters() -> None:
    both = read(said('["a|mpathb|", "r|.*|"]', '["r|dm-1$|"]'))
    assert both.rejects(("/dev/dm-1", "/dev/mapper/mpatha"))
    assert both.rejects(MAP)
    assert not both.rejects(("/dev/mapper/mpathb",))


def test_with_a_devices_file_lvm_heeds_no_filter(tmp_path: Path) -> None:
    answer = said('["r|.*|"]', in_use="1")
    assert read(answer, tmp_path).rejects(MAP)  # it is not made yet
    (tmp_path / "etc/lvm/devices").mkdir(parents=True)
    (tmp_path / "etc/lvm/devices/mine").touch()
    assert not read(answer, tmp_path).rejects(MAP)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "use_devicesfile=\n",
        said('["x|.*|"]'),
        said('["a|.*"]'),
        said('["a"]'),
        said('["r|(|"]'),
        said('["a|.*|'),
        said("5"),
    ],
)
def test_a_filter_that_is_not_understood_is_no_filter_that_accepts(answer: str) -> None:
    with pytest.raises(OutputUnclear, match="devices/filter"):
        read(answer)


def test_a_setting_that_lvm_does_not_tell_is_its_default() -> None:
    assert read("use_devicesfile=0\n") == HostFilter()
    assert read(NO_FILTER) == HostFilter()


def test_the_volume_group_is_seen_and_says_why_it_is_no_target(base: Host) -> None:
    base.commands.replace(FILTER, said(global_='["a|/by-id/|", "r|mpathb|"]'))
    inventory = base.discovery.scan()
    seen = {vg.name: vg for vg in inventory.volume_groups}
    assert codes(seen["vg_san"].refusals(inventory.system_id)) == ["vg-filtered"]
    (reason,) = seen["vg_san"].refusals(inventory.system_id)
    assert "rejects /dev/mapper/mpathb" in reason.text
    assert seen["guestvg"].refusals(inventory.system_id) == ()


def test_a_link_of_udevs_that_is_accepted_accepts_the_device(base: Host) -> None:
    base.commands.replace(FILTER, said('["a|/by-id/dm-uuid-mpath-3600|", "r|.*|"]'))
    udev = base.root / "run/udev/data"
    udev.mkdir(parents=True)
    (udev / "b253:1").write_text(
        "S:disk/by-id/dm-uuid-mpath-36001405\nS:mapper/mpathb\nI:1234\nE:DM_NAME=x\n"
    )
    groups = {vg.name: vg for vg in base.discovery.scan().volume_groups}
    assert [pv.rejected for pv in groups["vg_san"].pvs] == [False]
    assert [pv.rejected for pv in groups["guestvg"].pvs] == [True]


def test_a_filter_that_cannot_be_read_leaves_no_whole_picture(base: Host) -> None:
    """Nothing is planned from it, and the next look asks again."""
    base.commands.replace(FILTER, CommandFailed(("lvm",), 5, "no config"), NO_FILTER)
    discovery = base.discovery
    assert any("no config" in problem for problem in discovery.scan().unread)
    assert discovery.refresh(["dm-1"]).unread == ()


def test_a_change_of_a_disk_does_not_read_it_again(base: Host) -> None:
    base.commands.replace(FILTER, said(global_='["r|mpathb|"]'))
    discovery = base.discovery
    discovery.scan()
    base.commands.calls.clear()
    groups = {vg.name: vg for vg in discovery.refresh(["dm-1"]).volume_groups}
    assert [pv.rejected for pv in groups["vg_san"].pvs] == [True]
    assert not [argv for argv in base.commands.queries if "devices/filter" in argv]
