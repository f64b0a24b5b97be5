"""What a machine may be called."""

import pytest

from p2vd.model import names


@pytest.mark.parametrize("name", ["web1", "db.example.com", "A+b_c-d", "0"])
def test_good_machine_names(name: str) -> None:
    assert names.machine_name_problem(name) == ""


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "é", "a\n", "x" * 64])
def test_bad_machine_names(name: str) -> None:
    assert names.machine_name_problem(name) != ""
