"""Receipts: what they say, and that a damaged one shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from p2vd.model.copying import Progress, Verify
from p2vd.model.disk import Transport
from p2vd.model.job import Caller, Job, Stage
from p2vd.model.plan import CopyOptions, DiskPlan, LvTarget, Provisioning, SourceBinding
from p2vd.records.receipt import build_receipt, is_whole, write_receipt

JOB = Job(
    uuid="0c3e9cf6-8f3f-4c6e-9a55-3a0f7b6b1c11",
    machine_uuid="7a1c6a0e-40a6-4f7e-8f6c-0f2f4c2d9a01",
    plan=DiskPlan(
        id="plan-1",
        machine_name="web1",
        source=SourceBinding("36001405", "36001405", Transport.ISCSI, 10 << 30, 512),
        target=LvTarget("vg-uuid", "san", "web1", Provisioning.THIN, 10 << 30, 512, "pool-uuid", "pool"),
        copy=CopyOptions(verify=Verify.BOTH),
        policy="servers",
        policy_file="/etc/p2vd/policy.d/10-servers.toml",
        source_offline=True,
        worst_case_bytes=10 << 30,
        digest_parts=(("source", "36001405"), ("policy", "servers")),
    ),
    stage=Stage.PROVEN,
    lv_uuid="lv-uuid",
    generation=2,
    progress=Progress(bytes_copied=6 << 30, bytes_zero=4 << 30, bytes_verified=10 << 30, bad_bytes=512),
    digest="xxh3:abcdef",
    source_stable="proven",
    bad_ranges=((4096, 512),),
    started_by=Caller(1000, ":1.42"),
    offline_declared_us=1_700_000_000_000_000,
    start_time_us=1_700_000_001_000_000,
    end_time_us=1_700_003_601_000_000,
)
VERSIONS = {"p2vd": "0.1.0"}


def test_a_receipt_names_both_ends_the_declaration_and_the_proof() -> None:
    receipt = build_receipt(JOB, VERSIONS, "san1")
    assert receipt["source"]["wwid"] == "36001405"
    assert receipt["source"]["size_bytes"] == 10 << 30
    assert receipt["target"]["lv_uuid"] == "lv-uuid"
    assert receipt["target"]["vg_uuid"] == "vg-uuid"
    assert receipt["activation"] == {"host": "san1", "at_boot": True}
    assert receipt["source_offline"] == {
        "declared": True,
        "by": {"uid": 1000, "bus_name": ":1.42", "pid": 0, "unit": ""},
        "declared_us": 1_700_000_000_000_000,
    }
    assert receipt["proof"] == {
        "verify": "both",
        "source_stable": "proven",
        "digest": "xxh3:abcdef",
        "generation": 2,
    }
    assert receipt["bytes"]["bad"] == 512
    assert receipt["bad_ranges"] == [[4096, 512]]
    assert receipt["plan"]["policy_file"] == "/etc/p2vd/policy.d/10-servers.toml"
    assert receipt["versions"] == VERSIONS


def test_an_edited_receipt_shows() -> None:
    receipt = build_receipt(JOB, VERSIONS)
    assert is_whole(receipt)
    assert is_whole(json.loads(json.dumps(receipt))), "JSON and back changes nothing"
    assert not is_whole({**receipt, "job": "another"})
    assert not is_whole({key: value for key, value in receipt.items() if key != "sha256"})


def test_writing_again_keeps_the_first_receipt(tmp_path: Path) -> None:
    path = write_receipt(JOB, tmp_path / "job")
    first = path.read_bytes()
    assert is_whole(json.loads(first))
    assert path.stat().st_mode & 0o777 == 0o600
    write_receipt(replace(JOB, generation=3), tmp_path / "job")
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["receipt.json"]


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"job": "another"}', "\udcff"], ids=repr)
def test_a_damaged_receipt_is_written_anew(tmp_path: Path, damage: str) -> None:
    (tmp_path / "receipt.json").write_text(damage, errors="surrogateescape")
    path = write_receipt(JOB, tmp_path)
    assert is_whole(json.loads(path.read_text()))
