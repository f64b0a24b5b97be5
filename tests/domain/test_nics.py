"""Which NICs a virtual machine gets, and why."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.domain.define import define
from p2vd.domain.definition import NetworkKind
from p2vd.model.domain import Conversion, MacChoice, NetworkRule, NicModel
from p2vd.model.passport import GuestSystem, Nic, NicKind, Passport
from p2vd.model.plan import DomainOptions
from tests.domain.machines import BONDED, CENTOS_5, DEBIAN, WEB, WINDOWS_2019, disk
from tests.domain.making import XEN, choice, made, refusal


def test_a_bond_is_one_nic_and_its_vlans_stay_inside() -> None:
    definition = made(BONDED, network="lan")
    assert [(nic.old, nic.mac) for nic in definition.nics] == [
        ("bond0", "00:25:90:ab:cd:01"),
        ("eth2", "00:25:90:ab:cd:03"),
    ]
    why = choice(definition, "nic bond0").why
    assert "One NIC for the bond of eth0, eth1" in why
    assert "VLANs 10, 20, 30 stay inside the guest" in why
    assert "bridge br20 stays" in why
    assert choice(definition, "nic eth3").value == "none"


@pytest.mark.parametrize(
    ("rule", "networks"),
    [
        (NetworkRule("a", nic="eth2"), ["lan", "a"]),
        (NetworkRule("a", nic="bond0.2?"), ["a", "lan"]),
        (NetworkRule("a", mac="00:25:90:*:03"), ["lan", "a"]),
        (NetworkRule("a", prefix="10.20.0.0/16"), ["a", "lan"]),
        (NetworkRule("a", prefix="192.168.0.0/16", vlan=20), ["lan", "lan"]),
        (NetworkRule("a", vlan=30), ["a", "lan"]),
        (NetworkRule("bridge:br7", vlan=30), ["br7", "lan"]),
    ],
)
def test_networks_by_policy(rule: NetworkRule, networks: list[str]) -> None:
    definition = made(BONDED, network="lan", networks=(rule,))
    assert [nic.network for nic in definition.nics] == networks
    bridged = [nic.kind is NetworkKind.BRIDGE for nic in definition.nics]
    assert bridged == [network == "br7" for network in networks]


def test_a_nic_without_a_network_is_left_out_and_told() -> None:
    definition = made(BONDED, networks=(NetworkRule("lan", nic="eth2"),))
    assert [nic.old for nic in definition.nics] == ["eth2"]
    assert "bond0 of the old machine has no counterpart" in definition.warnings[0]


def test_addresses_of_cards() -> None:
    new = made(WEB, network="lan", mac=MacChoice.NEW)
    assert new.nics[0].mac.startswith("52:54:00:")
    assert new == made(WEB, network="lan", mac=MacChoice.NEW)
    assert (
        define("x", "other", WEB, (disk("x"),), DomainOptions(network="lan", mac=MacChoice.NEW)).nics
        != new.nics
    )
    for mac in ("", "00:00:00:00:00:00", "01:00:5e:00:00:01", "nonsense"):
        odd = made(replace(WEB, nics=(replace(WEB.nics[0], mac=mac),)), network="lan")
        assert odd.nics[0].mac.startswith("52:54:00:")
        assert "gets a new address" in odd.warnings[0]


def test_a_plan_does_not_show_an_address_that_is_not_made_yet() -> None:
    planned = define("x", "", None, (disk("x"),), DomainOptions(network="lan"))
    assert choice(planned, "nics").value == "lan, a new address"


def test_cards_of_a_record_without_links_are_all_kept() -> None:
    passport = Passport("x", nics=(Nic("a", mac="00:25:90:ab:cd:01"), Nic("b", mac="00:25:90:ab:cd:02")))
    assert [nic.old for nic in made(passport, network="lan").nics] == ["a", "b"]


def test_a_bond_whose_cards_are_not_named() -> None:
    passport = Passport("x", nics=(Nic("bond0", NicKind.BOND, "00:25:90:ab:cd:01", members=("p1",)),))
    definition = made(passport, network="lan")
    assert definition.nics[0].mac == "00:25:90:ab:cd:01"
    assert "does not name" in choice(definition, "nic bond0").why


@pytest.mark.parametrize(
    ("system", "options", "card"),
    [
        (GuestSystem(), {}, NicModel.E1000E),
        (DEBIAN, {}, NicModel.VIRTIO),
        (CENTOS_5, {}, NicModel.E1000),
        (GuestSystem(id="x", drivers=("8139cp",)), {}, NicModel.RTL8139),
        (WINDOWS_2019, {}, NicModel.E1000E),
        (GuestSystem(id="windows", name="Windows Server 2008 R2"), {}, NicModel.E1000),
        (GuestSystem(id="windows", name="Windows Server 2003"), {}, NicModel.RTL8139),
        (WINDOWS_2019, {"conversion": Conversion.VIRT_V2V}, NicModel.VIRTIO),
        (DEBIAN, {"nic_model": NicModel.RTL8139}, NicModel.RTL8139),
        (DEBIAN, {"base": XEN}, NicModel.E1000),
        (GuestSystem(), {"base": XEN}, NicModel.E1000),
    ],
)
def test_card_by_what_the_guest_can(system: GuestSystem, options: dict[str, Any], card: NicModel) -> None:
    definition = made(Passport("x", nics=WEB.nics, system=system), network="lan", **options)
    assert definition.nics[0].model is card


def test_a_card_that_is_not_there() -> None:
    assert refusal(base=XEN, nic_model=NicModel.VIRTIO).key == "nic_model"
