"""Which rule is for a disk."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2vd.model.disk import Portal, Source, Transport
from p2vd.model.size import GIB
from p2vd.policy.match import explain, first_match
from p2vd.policy.model import PolicySet
from tests.planning.builders import PATHS, SOURCE, THICK, make_policies, make_source


def policies_with(*matches: str) -> PolicySet:
    """One rule for each `matches`."""
    return make_policies(
        *(
            THICK.replace('wwid = "*"', match).replace(
                '"thick"\n[rule.match', f'"rule {number}"\n[rule.match'
            )
            for number, match in enumerate(matches)
        )
    )


@pytest.mark.parametrize(
    ("match", "failed"),
    [
        ('transport = "iscsi"', None),
        ('transport = ["fc", "iscsi"]', None),
        ('transport = ["fc", "nvme"]', "transport is iscsi, not fc, nvme"),
        ('wwid = "36001405*"', None),
        ('wwid = ["x", "*bbbb"]', None),
        ('wwid = "36001405"', f"wwid is {SOURCE.wwid}, which does not fit 36001405"),
        ('vendor = "LIO*"', None),
        ('vendor = "lio*"', "vendor is LIO-ORG, which does not fit lio*"),
        ('model = "i?"', None),
        ('model = ["x", "y"]', "model is i0, which does not fit x or y"),
        ('serial = "d2*"', None),
        ('serial = "e2*"', "serial is d2f5c1d3, which does not fit e2*"),
        ('portal = "10.98.2.1:3260"', None),
        ('portal = "10.98.3.*"', "portal is 10.98.1.1:3260, 10.98.2.1:3260, which does not fit 10.98.3.*"),
        ('target = "iqn.2026-01.*:t1"', None),
        ('target = "*:t2"', "target is iqn.2026-01.org.example:t1, which does not fit *:t2"),
        ('machine = "p2v-*"', None),
        ('machine = "web*"', "machine is p2v-b8c9aaaabbbb, which does not fit web*"),
        ('size = { min = "10 GiB", max = "10 GiB" }', None),
        ('size = { min = "11 GiB" }', "size is 10 GiB, less than 11 GiB"),
        ('size = { max = "9.5 GiB" }', "size is 10 GiB, more than 9.5 GiB"),
    ],
)
def test_each_criterion(match: str, failed: str | None) -> None:
    (explanation,) = explain(policies_with(match), SOURCE)
    assert explanation.failed == (() if failed is None else (failed,))
    assert explanation.matches is explanation.chosen is (failed is None)


@pytest.mark.parametrize("size", ['min = "1 GiB"', 'max = "1 GiB"'])
def test_a_size_that_is_not_known_yet_fits_no_bound(size: str) -> None:
    """Else an image of any size would be read to its end for a rule that then does not match."""
    (explanation,) = explain(policies_with(f"size = {{ {size} }}"), replace(SOURCE, size_bytes=0))
    assert explanation.failed == ("its size is not known",)


@pytest.mark.parametrize(
    ("glob", "fits"),
    [
        ("20:00:02:fc:00:00:00:02", True),
        ("0x200002FC00000002", True),
        ("20:00:02:*", True),
        ("*:00:0[1-3]", True),
        ("20:00:02:fc:00:00:00:0?", True),
        ("20:00:02:fc:00:00:00:01", False),
        ("50:*", False),
    ],
)
def test_the_port_of_the_array_however_it_is_written(glob: str, fits: bool) -> None:
    path = replace(PATHS[0], hba_wwpn="20:00:02:fc:00:00:00:01", target_wwpn="20:00:02:fc:00:00:00:02")
    (explanation,) = explain(policies_with(f'wwpn = "{glob}"'), make_source(paths=(PATHS[1], path)))
    assert explanation.matches is fits
    assert fits or explanation.failed[0].startswith("wwpn is 20:00:02:fc:00:00:00:02, which does not fit")


def test_a_disk_without_fibre_channel_has_no_wwpn() -> None:
    (explanation,) = explain(policies_with('wwpn = "*"'), SOURCE)
    assert explanation.failed == ("wwpn is unknown, which does not fit *",)


def test_a_disk_without_paths_has_no_portal() -> None:
    (explanation,) = explain(policies_with('portal = "*"\ntarget = "*"'), make_source(paths=()))
    assert explanation.failed == (
        "portal is unknown, which does not fit *",
        "target is unknown, which does not fit *",
    )


def test_an_empty_value_is_named() -> None:
    (explanation,) = explain(policies_with('vendor = "X"'), make_source(vendor=""))
    assert explanation.failed == ("vendor is empty, which does not fit X",)


def test_an_ipv6_portal_needs_no_quoting() -> None:
    source = make_source(paths=(replace(PATHS[0], portal=Portal("fd00::1", 3260)),))
    assert first_match(policies_with('portal = "[fd00::1]:3260"'), source)


def test_every_criterion_that_fails_is_told() -> None:
    (explanation,) = explain(policies_with('transport = "fc"\nvendor = "X"'), SOURCE)
    assert len(explanation.failed) == 2


def test_the_first_rule_that_matches_wins() -> None:
    policies = policies_with('vendor = "X"', 'wwid = "*"', 'vendor = "LIO*"')
    rule = first_match(policies, SOURCE)
    assert rule is policies.rules[1]
    assert [(e.matches, e.chosen) for e in explain(policies, SOURCE)] == [
        (False, False),
        (True, True),
        (True, False),
    ]


def test_no_rule_no_match() -> None:
    assert first_match(policies_with('transport = "loop"'), SOURCE) is None


def test_a_given_machine_name_counts_instead_of_the_default() -> None:
    policies = policies_with('machine = "web*"')
    assert first_match(policies, SOURCE, "web1")
    assert first_match(policies, SOURCE) is None


@given(
    st.builds(
        make_source,
        transport=st.sampled_from(Transport),
        vendor=st.text(max_size=3),
        size_bytes=st.integers(0, 20 * GIB),
    )
)
def test_explanation_and_match_agree(source: Source) -> None:
    policies = policies_with('transport = "fc"', 'vendor = "a*"', 'size = { min = "10 GiB" }')
    chosen = [explanation.rule for explanation in explain(policies, source) if explanation.chosen]
    rule = first_match(policies, source)
    assert chosen == ([rule] if rule else [])
    assert rule is first_match(policies, source)
