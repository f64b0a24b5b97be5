"""When a plan's copies run, as the policy says."""

from p2vd.model.codec import from_json, to_json
from p2vd.model.plan import Plan
from p2vd.planning.plan import PlanRequest, make_plan
from tests.planning.builders import THIN, WWID, make_inventory, make_policies

WHEN = THIN.replace(
    "[rule.match]",
    """priority = 7
window = [
    { days = "mon-fri", from = "22:00", to = "05:00", timezone = "Europe/Berlin" },
    { days = "sat-sun", timezone = "Europe/Berlin" },
]
[rule.match]""",
)
REQUEST = PlanRequest((WWID,), source_offline=True)


def test_a_plan_says_when_it_is_done() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(WHEN))
    assert plan.steps[2].endswith(
        "It is done only mon-fri 22:00-05:00 Europe/Berlin or sat-sun 00:00-24:00 Europe/Berlin."
    )
    assert from_json(Plan, to_json(plan)) == plan


def test_another_window_is_another_plan() -> None:
    plan = make_plan(REQUEST, make_inventory(), make_policies(WHEN))
    assert plan.id != make_plan(REQUEST, make_inventory(), make_policies(THIN)).id


def test_a_plan_of_an_earlier_version_is_done_at_any_time() -> None:
    text = to_json(make_plan(REQUEST, make_inventory(), make_policies(THIN)))
    old = text.replace(',"priority":0', "").replace(',"windows":[]', "")
    assert old != text
    assert to_json(from_json(Plan, old)) == text
