"""A plan's page as p2vctl prints it."""

from typing import Any

from p2vd.cli import plan_page

DISK: dict[str, Any] = {
    "SourceId": "36001405",
    "SourceSize": 10 << 30,
    "SourceSectorSize": 512,
    "Transport": "iscsi",
    "VolumeGroup": "vg_san",
    "LogicalVolume": "erp1",
    "Provisioning": "thin",
    "Pool": "pool0",
    "TargetSize": 10 << 30,
    "WorstCaseBytes": 10 << 30,
    "Policy": "lab",
    "PolicyFile": "/etc/p2vd/policy.d/50-lab.toml",
    "Verify": "read-back",
    "Bandwidth": 0,
    "SourceOffline": True,
    "Estimate": "About 2.3 h at 310 MiB/s, measured on 5 copies from this array.",
}
PAGE: dict[str, Any] = {
    "Id": "027f7decd00ae6f6",
    "MachineName": "erp1",
    "Record": "",
    **DISK,
    "Disks": [DISK],
    "Cutover": "auto",
    "Hypervisor": "qemu:///system",
    "Firmware": "bios",
    "Memory": 2 << 30,
    "Cpus": 2,
    "Steps": ["Copy it."],
    "Warnings": [],
}
CHOICES = [
    ("memory", "2 GiB", "Neither policy nor passport says how much: the default."),
    (
        "nic bond0",
        "lan, 00:25:90:ab:cd:01",
        "One NIC for the bond of eth0, eth1: the second cable is the host's matter now. The bond inside the "
        "guest stays, with one card.",
    ),
]


def test_it_says_how_long_it_takes_and_how_that_is_known() -> None:
    lines = plan_page.plan({**PAGE, "DomainChoices": []}).splitlines()
    assert "  Time       About 2.3 h at 310 MiB/s, measured on 5 copies from this array." in lines


def test_each_choice_has_its_reason_beside_it() -> None:
    lines = plan_page.plan({**PAGE, "DomainChoices": CHOICES}).splitlines()
    start = lines.index("Virtual machine")
    assert lines[start + 1 : start + 4] == [
        "  memory     2 GiB. Neither policy nor passport says how much: the default.",
        "  nic bond0  lan, 00:25:90:ab:cd:01. One NIC for the bond of eth0, eth1: the second cable is the",
        "             host's matter now. The bond inside the guest stays, with one card.",
    ]
