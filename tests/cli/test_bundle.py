"""The support bundle: what is in it, what is not, and that nothing keeps it from being made."""

import io
import json
import sqlite3
import tarfile
from pathlib import Path

import pytest

from p2vd.cli.bundle import Bundle, collect
from p2vd.cli.bundle_parts import COMMANDS, Host, job_store
from p2vd.cli.client import Client
from p2vd.cli.main import main
from p2vd.config import Config
from p2vd.jobs.store import Store
from p2vd.system.command import CommandTimedOut
from tests.bus.harness import Face
from tests.fakes import FakeCommands
from tests.jobs.values import plan

SECRET = "planted-secret-123"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose iscsid has a secret, which has also come into the journal and into a policy's comment."""
    root = tmp_path / "root"
    node = root / "etc/iscsi/nodes/iqn.2026-01.org.example:t1/10.1.1.10,3260,1/default"
    node.parent.mkdir(parents=True)
    node.write_text(f"node.session.auth.username = host\nnode.session.auth.password = {SECRET}\n")
    (root / "etc/iscsi/iscsid.conf").write_text(f"node.session.auth.password_in = {SECRET}-in\n")
    policies = tmp_path / "policy.d"
    policies.mkdir()
    (policies / "10-erp.toml").write_text(f"# asked with {SECRET}\n[[rule]]\nname = 'erp'\n")
    state = tmp_path / "state"
    state.mkdir()
    store = Store(state / "state.db")
    store.put_plan(plan())
    store.close()
    commands = FakeCommands()
    for argv in COMMANDS.values():
        commands.on(argv, f"of {argv[0]}\n")
    commands.replace(COMMANDS["journal-p2vd.txt"], f"p2vd: login as host, {SECRET}-in\n")
    commands.replace(COMMANDS["multipath/topology.txt"], CommandTimedOut(("multipath", "-ll"), 30))
    return Host(Config(state_dir=state, policy_dirs=(policies,)), commands, root)


def made(host: Host, address: str = "unix:path=/nowhere") -> tuple[Bundle, dict[str, str]]:
    """A bundle, and its parts by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        bundle = collect(archive, "bundle", host, Client(address), config=host.root / "p2vd.toml")
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        parts = {}
        for entry in archive.getmembers():
            content = archive.extractfile(entry)
            assert content is not None
            parts[entry.name.removeprefix("bundle/")] = content.read().decode()
    return bundle, parts


def test_a_planted_secret_is_nowhere_in_it(host: Host) -> None:
    _, parts = made(host)
    assert "node.session.auth.username = host" in parts["iscsi/records.txt"]
    assert [name for name, text in parts.items() if SECRET in text] == []


def test_what_failed_is_named_and_keeps_nothing_else_away(host: Host) -> None:
    bundle, parts = made(host)
    manifest = json.loads(parts["MANIFEST.json"])
    failed = {note["part"]: note["failed"] for note in manifest["parts"] if "failed" in note}
    assert "gave no answer in 30 s" in failed["multipath/topology.txt"]
    assert "Cannot connect to the bus" in failed["p2vd/objects.json"]
    assert [note["part"] for note in bundle.failed] == list(failed)
    there = {note["part"] for note in manifest["parts"]} - set(failed)
    assert there == set(parts) - {"MANIFEST.json"}
    assert {"lvm/volumes.json", "state/job-store.json", "packages.txt"} <= there


def test_the_job_store_is_json_and_stays_as_it_is(host: Host) -> None:
    path = host.config.state_dir / "state.db"
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    kept = json.loads(made(host)[1]["state/job-store.json"])
    assert kept["plan"][0]["machine_name"] == "erp1"
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_the_job_store_is_read_beside_a_daemon_that_runs(host: Host) -> None:
    store = Store(host.config.state_dir / "state.db")
    store.put_plan(plan("another"))
    kept = json.loads(job_store(host.config.state_dir / "state.db"))
    store.close()
    assert [each["id"] for each in kept["plan"]] == [plan().id, "another"]


def test_a_damaged_job_store_is_a_part_that_failed(host: Host) -> None:
    (host.config.state_dir / "state.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(sqlite3.Error):
        job_store(host.config.state_dir / "state.db")
    bundle, _ = made(host)
    assert "state/job-store.json" in {note["part"] for note in bundle.failed}


def test_what_only_p2vd_knows_comes_over_the_bus(host: Host, bus_address: str, face: Face) -> None:
    face.tell("find", "advice", "auto-scan", "Set it.")
    _, parts = made(host, bus_address)
    objects = json.loads(parts["p2vd/objects.json"])
    assert {"mpatha", "vg_san"} <= {item.get("Name") for item in objects}
    assert "auto-scan" in parts["p2vd/doctor.json"]


def test_p2vctl_makes_a_file_that_only_its_owner_reads(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("p2vd.cli.bundle._host", lambda _: (host, ""))
    path = tmp_path / "help.tar.gz"
    assert main(["--bus", "unix:path=/nowhere", "support-bundle", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{path}: " in said
    assert "multipath/topology.txt: The command multipath -ll gave no answer" in said
    assert path.stat().st_mode & 0o777 == 0o600
    assert main(["--bus", "unix:path=/nowhere", "support-bundle", "-o", str(path)]) == 2
    assert "cannot be made: File exists" in capsys.readouterr().err


def test_it_is_not_made_of_another_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "root@san1", "support-bundle"]) == 2
    assert "Run p2vctl there" in capsys.readouterr().err
