"""p2vctl policy: against the face on a private bus, and `check` without any bus."""

import json
from pathlib import Path

import pytest

from p2vd.cli.main import main
from p2vd.config import Config, show
from tests.bus import values
from tests.bus.harness import Face
from tests.cli.conftest import Run
from tests.cli.test_commands import shown
from tests.policy.test_parse import FULL, SHORT

FILE = "/etc/p2vd/policy.d/50-lab.toml"


def test_the_rules_in_force_are_shown_in_order_with_what_is_only_a_default(p2vctl: Run) -> None:
    status, out, _ = p2vctl("policy", "show")
    assert status == 0
    assert out.splitlines() == [
        f"1. lab  ({FILE}:1)",
        "   match.wwid   3600*",
        "   target.name  {machine} *",
        "",
        f"2. fc  ({FILE}:9)",
        "   match.transport  fc",
        "",
        "* the file does not say it: the default",
    ]


def test_the_rules_as_json(p2vctl: Run) -> None:
    first, second = json.loads(p2vctl("policy", "show", "--json")[1])
    assert (first["Name"], first["File"], first["Line"]) == ("lab", FILE, 1)
    assert first["Settings"][1] == {
        "Section": "target",
        "Key": "name",
        "Text": "{machine}",
        "Default": True,
    }
    assert second["Line"] == 9


def test_errors_since_are_told_below_the_rules_of_before(p2vctl: Run, face: Face) -> None:
    face.tell("break_policies", f"{FILE}:3: rule.colour: there is no such key")
    for command in (["show"], ["explain", "mpatha"]):
        out = shown(p2vctl, "policy", *command, text="! ")
        assert out.splitlines()[-2:] == [
            "The files have errors since; the rules above were read before:",
            f"! {FILE}:3: rule.colour: there is no such key",
        ]


def test_without_rules_it_says_what_that_means(p2vctl: Run, face: Face) -> None:
    face.tell("no_rules")
    assert p2vctl("policy", "show")[1].startswith("No rule is in force: p2vd touches no disk.")


def test_explain_tells_why_and_why_not(p2vctl: Run, face: Face) -> None:
    status, out, _ = p2vctl("policy", "explain", "mpatha", "--name", "erp1")
    assert status == 0
    assert out.splitlines() == [
        f"1. fc  ({FILE}:9)",
        "   no: transport is iscsi, not fc",
        f"2. lab  ({FILE}:1)",
        "   matches, and is the first that does: this rule counts",
    ]
    assert face.tell("what_was_asked") == [["explain_policy", values.WWID, "erp1"]]
    (_, lab) = json.loads(p2vctl("policy", "explain", "mpatha", "--json")[1])
    assert (lab["Name"], lab["Matches"], lab["Chosen"], lab["Failed"]) == ("lab", True, True, [])


def test_a_disk_without_a_rule_is_said_to_be_left_alone(p2vctl: Run) -> None:
    _, out, _ = p2vctl("policy", "explain", values.LOCAL_SOURCE.id)
    assert out.splitlines()[-1] == f"No rule matches {values.LOCAL_SOURCE.id}: it is never touched."


def test_a_disk_that_is_not_there(p2vctl: Run) -> None:
    status, _, err = p2vctl("policy", "explain", "nothing")
    assert (status, err) == (1, "p2vctl: There is no source 'nothing'.\n")


# ---- check ------------------------------------------------------------------------------------------


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run it where there is no bus at all."""
    status = main(["--bus", "unix:path=/nowhere", "policy", "check", *arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with directories `etc` over `usr`."""
    for name in ("etc", "usr"):
        (tmp_path / name).mkdir()
    path = tmp_path / "p2vd.toml"
    path.write_text(show(Config(policy_dirs=(tmp_path / "etc", tmp_path / "usr"))))
    return path


def test_a_right_file_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text(FULL + SHORT)
    assert check(capsys, str(tmp_path / "a.toml")) == (0, "2 rules in 1 file, no errors.\n")
    (tmp_path / "b.toml").write_text('[[nbd]]\nuri = "nbd://rescue/"\n')
    assert check(capsys, str(tmp_path / "b.toml")) == (0, "0 rules and 1 NBD export in 1 file, no errors.\n")


def test_errors_go_by_file_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.toml"
    file.write_text(SHORT.replace("thick", "thik") + "colour = 1\n")
    status, out = check(capsys, str(file))
    assert status == 6
    assert out.splitlines() == [
        f'{file}:6: rule.target.provisioning: must be "thin" or "thick", not \'thik\'',
        f"{file}:7: rule.target.colour: there is no such key; allowed here: autoactivate, format, kind, "
        "name, provisioning, sector_size_remedy, single_host, thin_pool, volume_groups",
        "",
        "2 errors: none of the rules would be used.",
    ]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out = check(capsys, str(tmp_path / "none.toml"))
    assert status == 6
    assert out.startswith(f"{tmp_path}/none.toml: cannot be read: No such file or directory\n")


def test_without_a_file_it_is_all_that_would_be_read(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "usr/10-a.toml").write_text("nonsense")
    (tmp_path / "etc/10-a.toml").write_text(SHORT)  # hides the nonsense
    (tmp_path / "usr/20-b.toml").write_text(FULL)
    assert check(capsys, "--config", str(config)) == (0, "2 rules in 2 files, no errors.\n")
    status, out = check(capsys, "--config", str(config), "--json")
    found = json.loads(out)
    assert status == 0
    assert found["Files"] == [str(tmp_path / "etc/10-a.toml"), str(tmp_path / "usr/20-b.toml")]
    assert [rule["Name"] for rule in found["Rules"]] == ["short", "all of it"]
    (tmp_path / "etc/30-c.toml").write_text("\n" + SHORT)
    status, out = check(capsys, "--config", str(config), "--json")
    (error,) = json.loads(out)["Errors"]
    assert status == 6
    assert (error["File"], error["Line"], error["Key"]) == (str(tmp_path / "etc/30-c.toml"), 3, "rule.name")
    assert 'a rule "short" is already in' in error["Problem"]


def test_a_configuration_with_errors_ends_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("max_jobs = 0\n")
    status, out = check(capsys, "--config", str(config))
    assert status == 1
    assert f"{config}:1: max_jobs: must be a whole number" in out


def test_a_configuration_that_is_not_there_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = check(capsys, "--config", str(tmp_path / "p2vdd.toml"))
    assert status == 1
    assert f"{tmp_path}/p2vdd.toml: cannot be read: No such file" in out
