"""The policies in force: those that were read last without an error."""

from p2vd.jobs.policies import PolicyKeeper
from p2vd.model.rule import RuleMatch
from p2vd.policy.model import PolicyText
from tests.jobs.values import source

GOOD = """
[[rule]]
name = "all"
match.transport = ["iscsi"]
target.volume_groups = ["vg_san"]
target.provisioning = "thick"
"""


def test_policies_with_an_error_leave_the_old_ones_in_force() -> None:
    texts = [PolicyText("/etc/p2vd/policy.d/a.toml", GOOD)]
    keeper = PolicyKeeper(lambda: texts)
    assert keeper.reload() == ()
    before = keeper.current()
    texts[0] = PolicyText("/etc/p2vd/policy.d/a.toml", GOOD + "colour = 3\n")
    (error,) = keeper.reload()
    assert "a.toml" in error
    assert "colour" in error
    assert keeper.current() == before
    assert keeper.errors() == (error,)


def test_where_none_were_read_before_it_is_not_known_what_the_policies_are() -> None:
    texts = [PolicyText("a.toml", "colour = 3\n")]
    keeper = PolicyKeeper(lambda: texts)
    assert keeper.current().errors == ()  # nobody has looked yet
    (error,) = keeper.reload()
    assert [str(each) for each in keeper.current().errors] == [error]
    texts[0] = PolicyText("a.toml", GOOD)
    assert keeper.reload() == ()
    assert [rule.name for rule in keeper.current().rules] == ["all"]
    assert keeper.current().errors == ()


def test_the_rules_in_force_are_told_and_explained() -> None:
    texts = [PolicyText("a.toml", GOOD.replace('"iscsi"', '"fc"') + GOOD.replace('"all"', '"rest"'))]
    keeper = PolicyKeeper(lambda: texts)
    keeper.reload()
    assert [(rule.name, rule.line) for rule in keeper.rules()] == [("all", 2), ("rest", 8)]
    assert keeper.explain(source()) == (
        RuleMatch("all", "a.toml", 2, ("transport is iscsi, not fc",), chosen=False),
        RuleMatch("rest", "a.toml", 8, (), chosen=True),
    )


def test_an_unreadable_policy_file_is_an_error_too() -> None:
    def fail() -> list[PolicyText]:
        raise PermissionError(13, "Permission denied", "/etc/p2vd/policy.d/a.toml")

    assert PolicyKeeper(fail).reload() == ("/etc/p2vd/policy.d/a.toml: Permission denied",)
