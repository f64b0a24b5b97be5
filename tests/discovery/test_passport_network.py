"""The network, read three ways; the answers are of iproute2 6.1 and, in words, 4.11."""

import json
from pathlib import Path
from typing import Any

import pytest

from p2vd.discovery.passport import network as module
from p2vd.discovery.passport.network import Tables, network, read_tables
from tests.discovery.machine_tree import Machine

ADDRESSES = [
    {
        "ifname": "lo",
        "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host"}],
    },
    {
        "ifname": "eth0",
        "permaddr": "3c:fd:fe:00:00:01",
        "addr_info": [
            {"family": "inet", "local": "10.1.2.3", "prefixlen": 24, "scope": "global", "label": "eth0"},
            {"family": "inet6", "local": "2001:db8::3", "prefixlen": 64, "scope": "global"},
            {
                "family": "inet6",
                "local": "2001:db8::aaaa",
                "prefixlen": 64,
                "scope": "global",
                "temporary": True,
            },
            {"family": "inet6", "local": "fe80::3", "prefixlen": 64, "scope": "link"},
        ],
    },
    {
        "ifname": "tun0",
        "addr_info": [{"family": "inet", "local": "10.8.0.2", "address": "10.8.0.1", "prefixlen": 32}],
    },
    {},
]
ROUTES_4 = [
    {"dst": "default", "gateway": "10.1.2.1", "dev": "eth0", "protocol": "static", "flags": []},
    {
        "dst": "10.1.2.0/24",
        "dev": "eth0",
        "protocol": "kernel",
        "scope": "link",
        "prefsrc": "10.1.2.3",
        "flags": [],
    },
    {"dst": "10.9.0.1", "dev": "tun0", "scope": "link", "flags": []},
    {"type": "blackhole", "dst": "10.66.0.0/16", "flags": []},
    {
        "dst": "172.16.0.0/12",
        "flags": [],
        "nexthops": [
            {"gateway": "10.1.2.7", "dev": "eth0", "weight": 1, "flags": []},
            {"gateway": "10.1.2.8", "dev": "eth0", "weight": 1, "flags": []},
        ],
    },
    {"dst": "192.0.2.0/24", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0", "flags": []},
]
ROUTES_6 = [
    {"dst": "2001:db8::/64", "dev": "eth0", "protocol": "kernel", "metric": 256, "flags": []},
    {"dst": "2001:db8:1::5", "dev": "eth0", "metric": 1024, "flags": []},
    {"dst": "default", "gateway": "fe80::1", "dev": "eth0", "protocol": "ra", "metric": 100, "flags": []},
]
JSON = {
    "ip -j addr show": (json.dumps(ADDRESSES), ""),
    "ip -j -4 route show": (json.dumps(ROUTES_4), ""),
    "ip -j -6 route show": (json.dumps(ROUTES_6), ""),
}
WORDS = {
    "ip -j addr show": ("", 'Option "-j" is unknown, try "ip -help".'),
    "ip -o addr show": (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
        "2: eth0    inet 10.1.2.3/24 brd 10.1.2.255 scope global eth0\\       valid_lft forever\n"
        "2: eth0    inet6 2001:db8::3/64 scope global \\       valid_lft forever preferred_lft forever\n"
        "2: eth0    inet6 2001:db8::aaaa/64 scope global temporary dynamic \\       valid_lft 86394sec\n"
        "2: eth0    inet6 fe80::3/64 scope link \\       valid_lft forever preferred_lft forever\n"
        "5: tun0    inet 10.8.0.2 peer 10.8.0.1/32 scope global tun0\\       valid_lft forever\n",
        "",
    ),
    "ip -o -4 route show": (
        "default via 10.1.2.1 dev eth0 proto static metric 100 \n"
        "10.1.2.0/24 dev eth0 proto kernel scope link src 10.1.2.3 \n"
        "10.9.0.1 dev tun0 scope link \n"
        "blackhole 10.66.0.0/16 \n"
        "172.16.0.0/12 \\\tnexthop via 10.1.2.7  dev eth0 weight 1 "
        "\\\tnexthop via 10.1.2.8  dev eth0 weight 1 \n"
        "192.0.2.0/24 via inet6 fe80::1 dev eth0 \n",
        "",
    ),
    "ip -o -6 route show": (
        "2001:db8::/64 dev eth0 proto kernel metric 256  pref medium\n"
        "2001:db8:1::5 dev eth0 metric 1024  pref medium\n"
        "default via fe80::1 dev eth0 proto ra metric 100  expires 1700sec pref medium\n",
        "",
    ),
}
FOUND = Tables(
    {},
    {"lo": ["127.0.0.1/8"], "eth0": ["10.1.2.3/24", "2001:db8::3/64"], "tun0": ["10.8.0.2/32"]},
    [
        ("default", "eth0", "10.1.2.1"),
        ("10.9.0.1/32", "tun0", ""),
        ("172.16.0.0/12", "eth0", "10.1.2.7"),
        ("172.16.0.0/12", "eth0", "10.1.2.8"),
        ("192.0.2.0/24", "eth0", "fe80::1"),
        ("2001:db8:1::5/128", "eth0", ""),
        ("default", "eth0", "fe80::1"),
    ],
)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without pyroute2."""

    def missing(_: object) -> Tables:
        raise ImportError("No module named 'pyroute2'")

    monkeypatch.setattr(module, "_by_pyroute2", missing)


@pytest.mark.parametrize("answers", [JSON, WORDS], ids=["JSON", "words"])
@pytest.mark.usefixtures("alone")
def test_every_ip_tells_the_same(tmp_path: Path, answers: dict[str, tuple[str, str]]) -> None:
    host = Machine(tmp_path, answers).host()
    found = read_tables(host)
    assert found._replace(macs={}) == FOUND
    assert {name: mac for name, mac in found.macs.items() if mac} in ({}, {"eth0": "3c:fd:fe:00:00:01"})
    assert host.problems == []


@pytest.mark.usefixtures("alone")
def test_without_any_way_it_is_said(tmp_path: Path) -> None:
    host = Machine(tmp_path).host()
    assert read_tables(host) == Tables({}, {}, [])
    (problem,) = host.problems
    assert problem.startswith(
        "Addresses and routes are not known: No module named 'pyroute2'; ip -j addr show:"
    )


@pytest.mark.parametrize("said", ["not json", "[1]", '[{"ifname": "x"}]', '{"a": 1}'])
@pytest.mark.usefixtures("alone")
def test_garbled_json_leads_to_words(tmp_path: Path, said: str) -> None:
    host = Machine(tmp_path, {**WORDS, "ip -j addr show": (said, "")}).host()
    assert read_tables(host) == FOUND


def test_this_hosts_tables_are_the_same_with_pyroute2_and_ip(tmp_path: Path) -> None:
    from p2vd.discovery.passport.reading import Host

    host = Host()
    by_netlink, by_json, by_words = (
        way(host) for way in (module._by_pyroute2, module._by_json, module._by_words)
    )
    assert by_netlink.addresses == {name: found for name, found in by_json.addresses.items() if found}
    assert by_netlink.routes == by_json.routes
    assert by_words.addresses == by_netlink.addresses
    assert by_words.routes == by_netlink.routes
    assert host.problems == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A server with a bond of two cards, a VLAN on it, a bridge on that; a guest's tap, a container's end."""
    tables = Tables(
        {"eth1": "3c:fd:fe:00:00:01"},
        {"br42": ["10.42.0.9/24"], "tun0": ["10.8.0.2/32"], "lo": ["127.0.0.1/8"]},
        [("default", "br42", "10.42.0.1"), ("10.244.0.7/32", "cali1", ""), ("10.9.0.0/16", "tun0", "")],
    )
    monkeypatch.setattr(module, "read_tables", lambda _: tables)
    machine = Machine(tmp_path)
    machine.nic("lo", 1, address="00:00:00:00:00:00")
    machine.nic(
        "eth2",
        3,
        card=True,
        address="3c:fd:fe:00:00:01",
        speed="10000",
        bonding_slave__perm_hwaddr="3c:fd:fe:00:00:02",
    )
    machine.nic("eth1", 2, card=True, address="3c:fd:fe:00:00:01", speed="10000")
    machine.nic(
        "bond0",
        10,
        address="3c:fd:fe:00:00:01",
        mtu="9000",
        bonding__mode="802.3ad 4",
        bonding__slaves="eth1 eth2",
    )
    machine.nic("bond0.42", 11, address="3c:fd:fe:00:00:01")
    machine.nic("br42", 12, address="3c:fd:fe:00:00:01", bridge__bridge_id="8000.3cfdfe000001")
    for port in ("bond0.42", "tap0"):
        machine.write(f"/sys/class/net/br42/brif/{port}")
    machine.nic("tap0", 13, address="fe:00:00:00:00:01")
    machine.nic("cali1", 14, address="ee:ee:ee:ee:ee:ee")
    machine.nic("tun0", 15)
    machine.write("/sys/class/net/bonding_masters", "bond0\n")
    machine.write(
        "/proc/net/vlan/config",
        "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n"
        "bond0.42       | 42  | bond0\n",
    )
    machine.write("/etc/resolv.conf", "# x\nnameserver 10.1.0.53\nnameserver 10.1.0.53\nsearch example.org\n")
    return machine


def test_bonds_vlans_and_bridges(machine: Machine) -> None:
    host = machine.host()
    found = network(host)
    nics: dict[str, dict[str, Any]] = {nic["name"]: nic for nic in found["nics"]}
    assert list(nics) == ["eth1", "eth2", "bond0", "bond0.42", "br42", "tun0"]
    assert [nic["kind"] for nic in nics.values()] == [
        "physical",
        "physical",
        "bond",
        "vlan",
        "bridge",
        "other",
    ]
    assert [nics[name]["mac"][-2:] for name in ("eth1", "eth2")] == ["01", "02"]
    assert (nics["eth1"]["driver"], nics["eth1"]["speed_mbps"]) == ("igb", 10000)
    assert (nics["bond0"]["bond_mode"], nics["bond0"]["members"]) == ("802.3ad", ["eth1", "eth2"])
    assert (nics["bond0"]["mtu"], nics["bond0"]["driver"], nics["bond0"]["speed_mbps"]) == (9000, "", 0)
    assert (nics["bond0.42"]["parent"], nics["bond0.42"]["vlan_id"]) == ("bond0", 42)
    assert (nics["br42"]["members"], nics["br42"]["addresses"]) == (["bond0.42"], ["10.42.0.9/24"])
    assert found["routes"] == [
        {"destination": "default", "nic": "br42", "gateway": "10.42.0.1"},
        {"destination": "10.9.0.0/16", "nic": "tun0", "gateway": ""},
    ]
    assert found["dns"] == ["10.1.0.53"]
    assert host.problems == []


def test_a_team_is_kept_with_its_cards(machine: Machine) -> None:
    machine.nic("team0", 20)
    machine.link("/sys/class/net/team0/lower_eth1", "../eth1")
    machine.link("/sys/class/net/eth1/master", "../team0")
    (team,) = [nic for nic in network(machine.host())["nics"] if nic["name"] == "team0"]
    assert (team["kind"], team["members"]) == ("other", ["eth1"])


def test_a_mac_that_was_set_is_said_to_hide_the_cards_own(machine: Machine) -> None:
    machine.nic("eth9", 30, card=True, address="02:00:00:00:00:09", addr_assign_type="3")
    host = machine.host()
    assert network(host)["nics"][-1]["mac"] == "02:00:00:00:00:09"
    assert host.problems == [
        "eth9's own MAC is not known: 02:00:00:00:00:09 was set, and this kernel does not tell what it was."
    ]


@pytest.mark.parametrize("speed", ["-1", "4294967295", "", "fast"])
def test_a_speed_that_is_none_is_0(machine: Machine, speed: str) -> None:
    machine.nic("eth1", 2, card=True, speed=speed)
    assert network(machine.host())["nics"][0]["speed_mbps"] == 0


def test_dns_behind_systemds_stub(machine: Machine) -> None:
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n")
    machine.write(
        "/run/systemd/resolve/resolv.conf",
        "nameserver 10.1.0.53\nnameserver fe80::1%2\nnameserver 2001:db8::53 # x\nnameserver abc\n",
    )
    assert network(machine.host())["dns"] == ["10.1.0.53", "2001:db8::53"]


@pytest.mark.parametrize("address", ["0a:01:02:03", "", "00"])
def test_what_a_tunnel_has_for_a_mac_is_none(machine: Machine, address: str) -> None:
    machine.nic("tun0", 15, address=address)
    assert network(machine.host())["nics"][-1]["mac"] == ""


def test_a_vlan_on_what_is_not_the_machines_has_no_parent(machine: Machine) -> None:
    machine.nic("cali1.7", 40)
    machine.write("/proc/net/vlan/config", "cali1.7 | 7 | cali1\n")
    vlan = network(machine.host())["nics"][-1]
    assert (vlan["kind"], vlan["vlan_id"], vlan["parent"]) == ("vlan", 7, "")
