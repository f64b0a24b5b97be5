"""The three kinds of targets in a rule: what each needs, and what does not go together."""

import pytest

from p2vd.model.forms import Compression, TargetFormat, TargetKind
from p2vd.model.size import MIB
from p2vd.policy.describe import describe
from p2vd.policy.model import FileRule, Match, PolicyText, Rule, TargetRule
from p2vd.policy.parse import load

HEAD = """[[rule]]
name = "one"
match.wwid = "*"
"""
FILE = (
    HEAD
    + """[rule.target]
directory = "/srv/images"
"""
)
LUN = (
    HEAD
    + """[rule.target]
lun = { vendor = "PURE", size = { min = "1 GiB" } }
"""
)


def rule_of(text: str) -> Rule:
    policies = load([PolicyText("f", text)])
    assert policies.errors == ()
    (rule,) = policies.rules
    return rule


def errors_of(text: str) -> list[str]:
    return [str(error) for error in load([PolicyText("f", text)]).errors]


def test_a_directory_is_all_that_files_need() -> None:
    target = rule_of(FILE).target
    assert target == TargetRule(kind=TargetKind.FILE, files=FileRule("/srv/images"))
    assert not target.is_thin


def test_every_key_of_files() -> None:
    more = """kind = "file"
format = "raw"
require_mount = "/srv//"
owner = "libvirt-qemu"
group = "kvm"
mode = "0640"
name = "disk-{wwid}"
[rule.pool]
reserve_percent = 10
"""
    rule = rule_of(FILE + more)
    assert rule.target.files == FileRule(
        "/srv/images", TargetFormat.RAW, "/srv", "libvirt-qemu", "kvm", 0o640
    )
    assert rule.copy.pool_reserve_percent == 10


def test_a_criterion_is_all_that_luns_need() -> None:
    target = rule_of(LUN).target
    assert target == TargetRule(kind=TargetKind.LUN, luns=Match(vendor=("PURE",), size_min_bytes=1024 * MIB))
    assert rule_of(LUN + "unmap = true\n").target.unmap


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (FILE + 'kind = "lv"\n', '4: rule.target.volume_groups: is missing: a list of names or "@tags"'),
        (FILE + 'kind = "lv"\n', '5: rule.target.directory: is for kind = "file", and this is "lv"'),
        (FILE + 'volume_groups = "vg"\n', '5: rule.target.directory: is for kind = "file"'),
        (FILE + 'provisioning = "thin"\n', '6: rule.target.provisioning: is for kind = "lv"'),
        (FILE + "unmap = true\n", '6: rule.target.unmap: is for kind = "lun"'),
        (HEAD + 'target.kind = "file"\n', "4: rule.target.directory: is missing: where the files are made"),
        (FILE.replace("/srv", "srv"), "5: rule.target.directory: must be an absolute path without . and .."),
        (FILE.replace("/srv", "/srv/.."), "5: rule.target.directory: must be an absolute path without"),
        (FILE + 'require_mount = "/mnt"\n', "6: rule.target.require_mount: /srv/images is not below /mnt"),
        (FILE + 'mode = "rw"\n', '6: rule.target.mode: must be three octal digits, as "0660"'),
        (
            FILE + 'format = "qcow2"\ncompression = "zstd"\ncluster_size = "1 MiB"\n',
            "8: rule.target.cluster_size: must",
        ),
        (
            FILE + 'format = "raw.zst"\n',
            '6: rule.target.format: no hypervisor starts a machine from "raw.zst"',
        ),
        (FILE + 'owner = "a b"\n', "6: rule.target.owner: 'a b' is no name of a user or group"),
        (FILE + 'cluster_size = "2 MiB"\n', '6: rule.target.cluster_size: is for format = "qcow2", not'),
        (FILE + "[rule.pool]\nover_commit = 2\n", "7: rule.pool.over_commit: is for thin pools; of a filesy"),
        (
            FILE + '[rule.domain]\nconversion = "virt-v2v-in-place"\n',
            "7: rule.domain.conversion: needs an undo point of each disk",
        ),
        (
            FILE + '[rule.domain]\nhypervisor = "kubevirt"\ndirectory = "/d"\nnodes = "n"\n',
            "4: rule.target.kind: a node of Kubernetes has no files of this host",
        ),
        (HEAD + 'target.kind = "lun"\n', "4: rule.target.lun: is missing: a table of what the LUNs are"),
        (LUN + 'name = "{machine}"\n', "6: rule.target.name: a LUN has the name that the array gave it"),
        (LUN + 'format = "qcow2"\n', '6: rule.target.format: "qcow2" is for files; with kind = "lun"'),
        (LUN + "[rule.pool]\nreserve_percent = 1\n", "6: rule.pool: a whole LUN has no pool"),
        (LUN.replace('vendor = "PURE"', 'machine = "m"'), "5: rule.target.lun.machine: an empty LUN belongs"),
        (
            LUN.replace('vendor = "PURE", size = { min = "1 GiB" }', ""),
            "5: rule.target.lun: a rule needs a cr",
        ),
        (
            FILE + '[rule.domain]\nhypervisor = "none"\nstart = true\n',
            '8: rule.domain.start: "none" starts nothing',
        ),
    ],
)
def test_what_does_not_go_together_is_told_by_line_and_key(text: str, error: str) -> None:
    found = errors_of(text)
    assert any(each.startswith(f"f:{error}") for each in found), found


def test_a_rule_is_described_by_its_kind() -> None:
    told = {f"{one.section}.{one.key}": one.text for one in describe(rule_of(LUN)).settings}
    assert (told["target.kind"], told["target.lun.vendor"]) == ("lun", "PURE")
    assert "target.volume_groups" not in told
    told = {f"{one.section}.{one.key}": one.text for one in describe(rule_of(FILE)).settings}
    assert (told["target.directory"], told["target.mode"]) == ("/srv/images", "0600")
    assert told["pool.reserve_percent"] == "5 % stay free"


def test_qcow2_defaults() -> None:
    assert (FileRule("/d").cluster_bytes, FileRule("/d").compression) == (65536, Compression.NONE)
