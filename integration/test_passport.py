"""The passport of the lab's machine: what the system's own tools say, with pyroute2 and without it."""

import json
import re
from typing import Any

import pytest

from integration.host import Host
from integration.lab.san import San
from integration.lab.vm import Vm
from p2vd.model.passport_record import parse_passport

pytestmark = pytest.mark.lab

ALONE = "python3 -I -S /usr/share/p2vd/p2vd-collect"  # without site-packages: neither pyroute2 nor p2vd

# A bond, a VLAN, a bridge; addresses of both kinds; routes with one way, with two, and without a gateway.
NETWORK = """
set -e
ip link add d1 type dummy
ip link add d2 type dummy
ip link add bond0 type bond mode active-backup miimon 100
for one in d1 d2; do ip link set $one master bond0; done
ip link set bond0 up mtu 9000
ip link add link eth0 name eth0.42 type vlan id 42
ip link add br42 type bridge
ip link set eth0.42 master br42
ip link set eth0.42 up
ip link set br42 up
ip addr add 10.42.0.9/24 dev br42
ip addr add 2001:db8:42::9/64 dev br42 nodad
ip addr add 10.43.0.9/16 dev bond0
ip route add 172.16.0.0/12 nexthop via 10.42.0.2 nexthop via 10.42.0.3
ip route add 192.0.2.7 dev bond0
ip -6 route add 2001:db8:43::/48 via 2001:db8:42::1
"""


def tool(vm: Vm, command: str) -> Any:
    """What a tool of the system says, as JSON; nothing at all is an empty list."""
    return json.loads(vm.out(command) or "[]")


def collected(vm: Vm, command: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(vm.out(command))
    assert record.pop("collected_us") > 0
    return record


def test_it_is_the_same_with_pyroute2_and_without(vm: Vm) -> None:
    vm.run(NETWORK)
    vm.run("python3 -I -c 'import pyroute2'")
    assert vm.run(f"{ALONE.rpartition(' ')[0]} -c 'import pyroute2'", check=False).returncode
    here = collected(vm, "p2vctl machine collect")
    assert collected(vm, ALONE) == here
    assert collected(vm, "python3 -I -S - < /usr/share/p2vd/p2vd-collect") == here
    assert {nic["kind"] for nic in here["nics"]} == {"physical", "bond", "vlan", "bridge", "other"}


def test_it_says_of_the_network_what_ip_says(vm: Vm) -> None:
    vm.run(NETWORK)
    record = collected(vm, ALONE)
    links = {link["ifname"]: link for link in tool(vm, "ip -j -d addr show")}
    del links["lo"]
    nics = {nic["name"]: nic for nic in record["nics"]}
    assert list(nics) == list(links)
    for name, nic in nics.items():
        link = links[name]
        # A dummy has no address of its own but for the one that the bond found and will give back.
        in_bond = link.get("linkinfo", {}).get("info_slave_data", {}).get("perm_hwaddr")
        assert nic["mac"] == (link.get("permaddr") or in_bond or link["address"])
        assert nic["mtu"] == link["mtu"]
        told = [
            f"{one['local']}/{one['prefixlen']}"
            for one in link["addr_info"]
            if one["scope"] != "link" and not one.get("temporary")
        ]
        assert nic["addresses"] == told
        assert sorted(nic["members"]) == sorted(
            other["ifname"] for other in links.values() if other.get("master") == name
        )
    data = {name: links[name]["linkinfo"]["info_data"] for name in ("bond0", "eth0.42")}
    assert nics["bond0"]["bond_mode"] == data["bond0"]["mode"]
    assert (nics["eth0.42"]["vlan_id"], nics["eth0.42"]["parent"]) == (data["eth0.42"]["id"], "eth0")
    assert nics["eth0"]["driver"] == "virtio_net"
    assert sorted(map(route_text, record["routes"])) == sorted(routes(vm))


def route_text(route: dict[str, str]) -> str:
    return f"{route['destination']} {route['nic']} {route['gateway']}"


def routes(vm: Vm) -> list[str]:
    """The routes that ip tells, but for those that the kernel made of addresses."""
    found = []
    for family, bits in (("-4", 32), ("-6", 128)):
        for route in tool(vm, f"ip -j {family} route show"):
            destination = (
                route["dst"] if "/" in route["dst"] or route["dst"] == "default" else f"{route['dst']}/{bits}"
            )
            if route.get("protocol") != "kernel":
                found += [
                    f"{destination} {hop['dev']} {hop.get('gateway', '')}"
                    for hop in route.get("nexthops", [route])
                ]
    assert len(found) >= 4
    return found


def test_it_says_of_the_hardware_what_lscpu_and_dmidecode_say(vm: Vm) -> None:
    record = collected(vm, ALONE)
    said = {one["field"].rstrip(":"): one["data"] for one in flat(tool(vm, "lscpu -J")["lscpu"])}
    cpu = record["cpu"]
    assert (cpu["model"], cpu["vendor"]) == (said["Model name"], said["Vendor ID"])
    assert [cpu["sockets"], cpu["cores"], cpu["threads"]] == [
        int(said[key]) for key in ("Socket(s)", "Core(s) per socket", "Thread(s) per core")
    ]
    assert cpu["flags"] == sorted(set(said["Flags"].split()))
    sizes = re.findall(r"^\tSize: (\d+) ([MG])B$", vm.out("dmidecode -t 17"), re.MULTILINE)
    assert record["memory_bytes"] == sum(int(size) << {"M": 20, "G": 30}[unit] for size, unit in sizes)
    strings = {
        "vendor": "system-manufacturer",
        "product": "system-product-name",
        "uuid": "system-uuid",
        "bios_version": "bios-version",
    }
    for key, keyword in strings.items():
        told = vm.out(f"dmidecode -s {keyword}")
        # So dmidecode calls a UUID of zeros, of which the kernel says nothing.
        assert record["dmi"][key] == ("" if told == "Not Settable" else told)
    assert record["firmware"] == (
        "uefi" if vm.run("test -d /sys/firmware/efi", check=False).returncode == 0 else "bios"
    )


def flat(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for field in fields for one in (field, *flat(field.get("children", [])))]


def test_it_names_each_disk_once_as_p2vd_does(vm: Vm) -> None:
    record = collected(vm, ALONE)
    host = Host.ready(vm)
    disks = {disk["wwid"] or disk["serial"]: disk for disk in record["disks"]}
    assert len(disks) == len(record["disks"])
    for lun in ("boot1", "boot2"):
        source = host.source(San.of(vm)[lun].wwid)
        disk = disks[source["Wwid"]]
        assert disk["name"] == source["Name"]
        assert (disk["size_bytes"], disk["sector_size"]) == (source["Size"], source["SectorSize"])
        assert (disk["transport"], disk["serial"]) == (source["Transport"], source["Serial"])
    root = vm.out("findmnt -no SOURCE /").removeprefix("/dev/")
    assert [disk["name"] for disk in record["disks"] if disk["boots"]] == [root]
    assert disks["LAB-DISK4K"]["sector_size"] == 4096


def test_it_is_imported_as_it_was_collected(vm: Vm) -> None:
    host = Host.ready(vm)
    host.source(San.of(vm)["boot1"].wwid)
    vm.run("p2vctl machine collect --name erp1 --output /root/erp1.json")
    assert "of them seen by p2vd" in vm.out("p2vctl machine import /root/erp1.json")
    kept = parse_passport(vm.out("p2vctl machine show erp1 --json"))
    assert kept == parse_passport(vm.out("cat /root/erp1.json"))
    assert vm.out("p2vctl machine diff erp1 /root/erp1.json") == "They are the same."
    vm.run("systemctl restart p2vd")
    assert "erp1" in vm.out("p2vctl machine list")
    assert kept.system.id == "debian"
    assert {"virtio_blk", "virtio_net"} <= set(kept.system.drivers)
