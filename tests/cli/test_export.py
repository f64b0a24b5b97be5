"""p2vctl export: commands for an administrator to run, and none that p2vctl runs."""

import json
import shlex

import pytest

from p2vd.bus.names import JOB, MACHINE
from p2vd.cli.client import Object
from p2vd.cli.export import commands
from p2vd.cli.main import main
from tests.bus import values
from tests.bus.harness import Face


def disks(count: int) -> list[Object]:
    return [Object(f"/job/{n}", JOB, {"Target": f"/dev/vg_san/erp1-disk{n}"}) for n in range(count)]


def test_one_disk_has_the_machine_s_name() -> None:
    machine = Object("/m", MACHINE, {"Name": "erp 1/x"})
    assert commands(machine, disks(1), "vhdx", "/srv/out") == [
        shlex.split(
            "qemu-img convert -p -T none -f raw -O vhdx -o subformat=dynamic "
            "/dev/vg_san/erp1-disk0 /srv/out/erp_1_x.vhdx"
        )
    ]


def test_several_are_numbered_in_their_order() -> None:
    machine = Object("/m", MACHINE, {"Name": "erp1"})
    lines = commands(machine, disks(3), "vmdk", "/srv/out")
    assert [line[-1] for line in lines] == [f"/srv/out/erp1-disk{n}.vmdk" for n in range(3)]
    assert all("subformat=streamOptimized" in line for line in lines)


def test_only_what_is_proven_is_exported(
    bus_address: str, face: Face, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--bus", bus_address, "export", values.MACHINE_UUID, "--format", "vhdx", "--directory", "/srv"]
    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    assert main(words) == 1
    assert "are proven" in capsys.readouterr().err
    face.tell("stage", values.JOB_UUID, "proven")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0][0] == "qemu-img"
    assert main(words) == 0
    assert "lvchange -ay" in capsys.readouterr().out
    face.tell("forget", values.JOB_UUID)
    assert main(words) == 1
    assert capsys.readouterr() == (
        "",
        "p2vctl: Not every job of erp1 is listed any more, so not all its disks are known here. Their "
        "receipts tell: p2vctl receipt\n",
    )
