"""Policy rules as they go over the bus: what Manager.GetPolicy and GetPolicyMatches return."""

from p2vd.bus.wire import Variant
from p2vd.model.rule import RuleMatch, RuleView, Setting


def rule_view(rule: RuleView) -> dict[str, Variant]:
    """One element of what GetPolicy returns."""
    return {
        "Name": Variant("s", rule.name),
        "File": Variant("s", rule.path),
        "Line": Variant("u", rule.line),
        "Settings": Variant("aa{sv}", tuple(_setting(setting) for setting in rule.settings)),
    }


def _setting(setting: Setting) -> dict[str, Variant]:
    return {
        "Section": Variant("s", setting.section),
        "Key": Variant("s", setting.key),
        "Text": Variant("s", setting.text),
        "Default": Variant("b", setting.is_default),
    }


def rule_match(match: RuleMatch) -> dict[str, Variant]:
    """One element of what GetPolicyMatches returns."""
    return {
        "Name": Variant("s", match.name),
        "File": Variant("s", match.path),
        "Line": Variant("u", match.line),
        "Matches": Variant("b", not match.failed),
        "Chosen": Variant("b", match.chosen),
        "Failed": Variant("as", match.failed),
    }
