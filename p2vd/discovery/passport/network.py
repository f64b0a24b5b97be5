"""The machine's network: interfaces from /sys and /proc, addresses and routes from the kernel's tables.

Those tables are read by pyroute2 where it is installed, else by `ip -j`, else by `ip` of a time before it
wrote JSON. All three give the same. Left out are the loopback and what belongs to containers and guests.
"""

import ipaddress
import json
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from p2vd.discovery.passport.reading import Host, number

_NET = "/sys/class/net"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5,19}$")
_UNKNOWN_SPEED = 0xFFFFFFFF  # -1 of a virtual card, as some kernels write it
_RESOLVED = ("127.0.0.53", "127.0.0.54")  # systemd-resolved's own stub

# linux/rtnetlink.h, linux/if_addr.h
_MAIN_TABLE, _BY_KERNEL, _UNICAST = 254, 2, 1
_LINK_SCOPE, _TEMPORARY, _INET6 = 253, 0x01, 10

Route = Tuple[str, str, str]  # destination, interface, gateway


class Tables(NamedTuple):
    """The kernel's tables: permanent MACs and addresses by interface; routes."""

    macs: Dict[str, str]
    addresses: Dict[str, List[str]]
    routes: List[Route]


def network(host: Host) -> Dict[str, Any]:
    """Return the record's lists `nics`, `routes` and `dns`."""
    tables = read_tables(host)
    nics = list(_nics(host, tables))
    names = {nic["name"] for nic in nics}
    for nic in nics:
        nic["members"] = [member for member in nic["members"] if member in names]
        nic["parent"] = nic["parent"] if nic["parent"] in names else ""
    routes = sorted(
        set(tables.routes), key=lambda route: (":" in route[0] + route[2], tables.routes.index(route))
    )
    return {
        "nics": nics,
        "routes": [
            {"destination": destination, "nic": nic, "gateway": gateway}
            for destination, nic, gateway in routes
            if nic in names
        ],
        "dns": _dns(host),
    }


def read_tables(host: Host) -> Tables:
    """Return the kernel's tables, by the first way that works; by none: empty, and noted."""
    why = []
    for read in (_by_pyroute2, _by_json, _by_words):
        try:
            return read(host)
        except Exception as error:  # of any version of pyroute2, of ip: the next way is tried
            why.append(str(error) or type(error).__name__)
    host.problem(f"Addresses and routes are not known: {'; '.join(why)}.")
    return Tables({}, {}, [])


def _nics(host: Host, tables: Tables) -> Iterator[Dict[str, Any]]:
    vlans = _vlans(host)
    order = sorted(host.names(_NET), key=lambda name: (number(host.text(f"{_NET}/{name}/ifindex")), name))
    for name in order:
        place = f"{_NET}/{name}"
        if name == "lo" or not host.has(f"{place}/ifindex"):
            continue
        kind, members = _kind(host, name, vlans)
        addresses = tables.addresses.get(name, [])
        of_the_machine = addresses or host.has(f"{place}/bonding_slave") or any(map(_is_card(host), members))
        if kind == "other" and not of_the_machine:
            continue
        parent, vlan_id = vlans.get(name, ("", 0))
        speed = number(host.text(f"{place}/speed")) if kind == "physical" else 0
        yield {
            "name": name,
            "kind": kind,
            "mac": _mac(host, name, kind, tables),
            "driver": host.link(f"{place}/device/driver").rpartition("/")[2] if kind == "physical" else "",
            "speed_mbps": 0 if speed == _UNKNOWN_SPEED else speed,
            "mtu": number(host.text(f"{place}/mtu")),
            "addresses": addresses,
            "members": members,
            "bond_mode": host.text(f"{place}/bonding/mode").split(" ")[0],
            "parent": parent,
            "vlan_id": vlan_id,
        }


def _kind(host: Host, name: str, vlans: Dict[str, Tuple[str, int]]) -> Tuple[str, List[str]]:
    place = f"{_NET}/{name}"
    if host.has(f"{place}/bonding"):
        return "bond", host.text(f"{place}/bonding/slaves").split()
    if host.has(f"{place}/bridge"):
        return "bridge", host.names(f"{place}/brif")
    if name in vlans:
        return "vlan", []
    if host.has(f"{place}/device"):
        return "physical", []
    lower = [entry[len("lower_") :] for entry in host.names(place) if entry.startswith("lower_")]
    return "other", [one for one in lower if host.link(f"{_NET}/{one}/master").rpartition("/")[2] == name]


def _is_card(host: Host) -> Callable[[str], bool]:
    return lambda name: host.has(f"{_NET}/{name}/device")


def _vlans(host: Host) -> Dict[str, Tuple[str, int]]:
    """Return each VLAN interface's parent and number."""
    found = {}
    for line in host.text("/proc/net/vlan/config").splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 3 and words[1].isdigit():
            found[words[0]] = (words[2], int(words[1]))
    return found


def _mac(host: Host, name: str, kind: str, tables: Tables) -> str:
    """Return a card's own MAC; of bonds and what is made of others the one they have."""
    now = host.text(f"{_NET}/{name}/address")
    if not _MAC.match(now):  # of a tunnel it is an IP address, of others nothing
        return ""
    if kind not in ("physical", "other"):
        return now
    own = tables.macs.get(name, "") or host.text(f"{_NET}/{name}/bonding_slave/perm_hwaddr")
    # NET_ADDR_SET: somebody gave the card this one.
    if not own and kind == "physical" and host.text(f"{_NET}/{name}/addr_assign_type") == "3":
        host.problem(
            f"{name}'s own MAC is not known: {now} was set, and this kernel does not tell what it was."
        )
    return own or now


def _dns(host: Host) -> List[str]:
    servers = _nameservers(host.own_text("/etc/resolv.conf"))
    if servers and set(servers) <= set(_RESOLVED):
        servers = _nameservers(host.text("/run/systemd/resolve/resolv.conf"))
    return servers


def _nameservers(text: str) -> List[str]:
    # A link-local one has its interface behind a %: of no use to another machine.
    found = re.findall(r"^\s*nameserver\s+([^\s%]+)(?:\s|$)", text, re.MULTILINE)
    return sorted(filter(_is_address, set(found)), key=found.index)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


# ---- the kernel's tables, three ways -------------------------------------------------------------


def _by_pyroute2(_: Host) -> Tables:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        links, found, routes = netlink.get_links(), netlink.get_addr(), netlink.get_routes()
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    macs = {link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_PERM_ADDRESS") or "" for link in links}
    addresses: Dict[str, List[str]] = {}
    for one in found:
        flags = one.get_attr("IFA_FLAGS") or one["flags"]
        if one["scope"] != _LINK_SCOPE and not (one["family"] == _INET6 and flags & _TEMPORARY):
            text = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
            addresses.setdefault(names[one["index"]], []).append(f"{text}/{one['prefixlen']}")
    table: List[Route] = []
    for route in routes:
        if (
            (route.get_attr("RTA_TABLE") or route["table"]) != _MAIN_TABLE
            or route["proto"] == _BY_KERNEL
            or route["type"] != _UNICAST
        ):
            continue
        target = route.get_attr("RTA_DST")
        destination = f"{target}/{route['dst_len']}" if target else "default"
        for hop in route.get_attr("RTA_MULTIPATH") or [route]:
            index = hop.get_attr("RTA_OIF") or hop.get("oif")
            via = hop.get_attr("RTA_VIA") or {}
            table.append(
                (destination, names.get(index, ""), hop.get_attr("RTA_GATEWAY") or via.get("addr") or "")
            )
    return Tables(macs, addresses, table)


def _by_json(host: Host) -> Tables:
    links = json.loads(_ip(host, "-j", "addr", "show"))
    macs, addresses = {}, {}
    for link in filter(None, links):  # older versions print an empty object for what was filtered out
        macs[link["ifname"]] = link.get("permaddr", "")
        addresses[link["ifname"]] = [
            f"{one['local']}/{one['prefixlen']}"
            for one in link["addr_info"]
            if one.get("scope") != "link" and not one.get("temporary") and "local" in one
        ]
    table: List[Route] = []
    for route in [*_json_routes(host, "-4"), *_json_routes(host, "-6")]:
        if route.get("protocol") != "kernel" and route.get("type", "unicast") == "unicast":
            for hop in route.get("nexthops") or [route]:
                gateway = hop.get("gateway") or hop.get("via", {}).get("host", "")
                table.append((_destination(route["dst"], hop_is_6="-6" in route), hop["dev"], gateway))
    return Tables(macs, addresses, table)


def _json_routes(host: Host, family: str) -> List[Dict[str, Any]]:
    # An empty table prints nothing at all.
    return [{**route, family: True} for route in json.loads(_ip(host, "-j", family, "route", "show") or "[]")]


def _by_words(host: Host) -> Tables:
    addresses: Dict[str, List[str]] = {}
    for line in _ip(host, "-o", "addr", "show").splitlines():
        words = line.split()
        if words[2] in ("inet", "inet6") and "temporary" not in words and _after(words, "scope") != "link":
            addresses.setdefault(words[1], []).append(words[3] if "/" in words[3] else _peer(words))
    table: List[Route] = []
    for family in ("-4", "-6"):
        for line in _ip(host, "-o", family, "route", "show").splitlines():
            words = line.replace("\\", " ").split()
            if _after(words, "proto") == "kernel" or words[0] in _NO_UNICAST:
                continue
            first, *hops = " ".join(words).split(" nexthop ")
            for hop in hops or [first]:
                way = hop.split()
                gateway = _after(way, "inet6") or _after(way, "via")
                table.append((_destination(words[0], hop_is_6=family == "-6"), _after(way, "dev"), gateway))
    return Tables({}, addresses, table)


_NO_UNICAST = (
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "broadcast",
    "multicast",
    "local",
    "anycast",
    "nat",
)


def _after(words: List[str], word: str) -> str:
    return words[words.index(word) + 1] if word in words[:-1] else ""


def _peer(words: List[str]) -> str:
    """Return the address of a point-to-point interface, whose prefix stands behind the other end's."""
    return f"{words[3]}/{_after(words, 'peer').rpartition('/')[2]}"


def _destination(text: str, hop_is_6: bool) -> str:
    """Return a route's destination with its prefix length, which ip leaves out where it is a single host."""
    return text if text == "default" or "/" in text else f"{text}/{128 if hop_is_6 else 32}"


def _ip(host: Host, *arguments: str) -> str:
    said, problem = host.run(["ip", *arguments])
    if problem:
        raise OSError(f"ip {' '.join(arguments)}: {problem}")
    return said
