"""Machines made for one choice at a time."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.domain.errors import DomainImpossible
from p2vd.model.domain import DomainChoice
from p2vd.model.passport import GuestSystem, Passport
from p2vd.model.plan import DomainOptions
from tests.domain.machines import UUID, disk

XEN = DomainOptions("xen:///system")


def made(
    passport: Passport | None = None, *disks: DomainDisk, base: DomainOptions | None = None, **options: Any
) -> Definition:
    """A machine of one disk, or those given, with these options."""
    return define(
        "web1", UUID, passport, disks or (disk("web1"),), replace(base or DomainOptions(), **options)
    )


def guest(**system: Any) -> Passport:
    """A passport that tells of the system only."""
    return Passport("web1", system=GuestSystem(**system))


def choice(definition: Definition, key: str) -> DomainChoice:
    (found,) = [one for one in definition.choices if one.key == key]
    return found


def refusal(passport: Passport | None = None, *disks: DomainDisk, **options: Any) -> DomainImpossible:
    with pytest.raises(DomainImpossible) as caught:
        made(passport, *disks, **options)
    assert f"domain.{caught.value.key}" in str(caught.value)
    return caught.value
