"""A rule in words."""

import tomllib
from typing import Any

from p2vd.model.rule import RuleView
from p2vd.policy.describe import describe
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load
from tests.policy.test_parse import FULL, SHORT


def described(text: str) -> RuleView:
    (rule,) = load([PolicyText("f", text)]).rules
    return describe(rule)


def by_key(view: RuleView) -> dict[str, tuple[str, bool]]:
    """Text, and whether it is a default, by `section.key`."""
    found = {f"{one.section}.{one.key}": (one.text, one.is_default) for one in view.settings}
    assert len(found) == len(view.settings)
    return found


def keys_of(table: dict[str, Any]) -> set[str]:
    """All keys that a rule says; its name is its title."""
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    own = {f".{name}" for name in table.keys() - tables.keys() - {"name"}}
    return own | {f"{name}.{key}" for name, values in tables.items() for key in values}


def test_everything_that_is_written_is_shown_and_no_default() -> None:
    (table,) = tomllib.loads(FULL)["rule"]
    found = by_key(described(FULL))
    assert {key for key, (_, is_default) in found.items() if not is_default} == keys_of(table)


def test_values_are_in_words() -> None:
    found = by_key(described(FULL))
    assert found["match.transport"][0] == "iscsi or fc"
    assert found["match.size"][0] == "from 1 GiB up to 2 TiB"
    assert found["target.volume_groups"][0] == "vg_a, else those tagged tag"
    assert found["target.single_host"][0] == "yes"
    assert found["copy.bandwidth"][0] == "at most 100 MiB/s"
    assert found["pool.over_commit"][0] == "promises at most 2 times its size"
    assert found[".window"][0] == "mon-fri 22:00-05:00 Europe/Berlin"
    assert found["domain.memory"][0] == "4 GiB"
    assert found["domain.type"][0] == "qemu"
    assert found["domain.firmware"][0] == "uefi"


def test_what_is_not_written_is_a_default() -> None:
    view = described(SHORT)
    assert (view.name, view.path, view.line) == ("short", "f", 1)
    found = by_key(view)
    assert {key for key, (_, is_default) in found.items() if not is_default} == {
        "match.wwid",
        "target.volume_groups",
        "target.provisioning",
    }
    assert found["copy.bandwidth"] == ("no limit", True)
    assert found[".window"] == ("any time", True)
    assert found["copy.bad_sectors"] == ("none may be unreadable", True)
    assert found["source.offline"] == ("no: each plan needs --source-offline", True)
    assert found["domain.hypervisor"] == ("qemu:///system", True)
    assert found["domain.network"] == ("none", True)


def test_a_bound_of_the_latency_is_read_and_told() -> None:
    text = SHORT + '[rule.copy]\nmax_latency = "20 ms"\n'
    (rule,) = load([PolicyText("f", text)]).rules
    assert rule.copy.max_latency_us == 20_000
    assert by_key(describe(rule))["copy.max_latency"] == ("slower while a read takes more than 20 ms", False)
    assert by_key(described(SHORT))["copy.max_latency"] == ("no bound", True)


def test_a_thick_rule_says_nothing_of_pools() -> None:
    assert not [one for one in described(SHORT).settings if one.section == "pool" or one.key == "thin_pool"]
    thin = by_key(described(SHORT.replace("thick", "thin")))
    assert thin["target.thin_pool"] == ("the only one of the volume group", True)
    assert thin["pool.reserve_percent"] == ("5 % stay free", True)


def test_one_end_of_a_size_is_enough() -> None:
    text = SHORT.replace('wwid = "*"', 'size = { min = "1 GiB" }')
    assert by_key(described(text))["match.size"] == ("from 1 GiB", False)
    text = SHORT.replace('wwid = "*"', 'size.max = "1 TiB"')
    assert by_key(described(text))["match.size"] == ("up to 1 TiB", False)


def test_what_the_record_says_and_when_a_machine_is_registered() -> None:
    said = by_key(described(SHORT))
    assert said[".cutover"] == ("auto", True)
    assert said["domain.memory"] == said["domain.vcpus"] == ("as the machine's record says", True)
