"""A virtual machine that this host could not run is refused, or warned of, before its disks are copied."""

from dataclasses import replace

import pytest

from p2vd.model.errors import PlanOutdated, Refused
from p2vd.model.hardware import HostHardware
from p2vd.model.passport import Cpu, Passport
from p2vd.model.plan import Plan
from p2vd.model.size import GIB, TIB
from p2vd.planning.plan import PlanRequest, make_plan, recheck
from tests.planning.builders import THIN, WWID, make_inventory, make_policies

REQUEST = PlanRequest((WWID,), "hana1", source_offline=True)
HOST = HostHardware(cpus=64, memory_bytes=256 * GIB, address_bits=46, kvm=True)
BIG = Passport("hana1", cpu=Cpu(sockets=4, cores=28, threads=2), memory_bytes=2 * TIB)
EMULATED = 'domain.type = "qemu"\n'


def planned(host: HostHardware, passport: Passport = BIG, domain: str = "") -> Plan:
    policies = make_policies(THIN.replace("[rule.match]", f"{domain}[rule.match]"))
    return make_plan(REQUEST, make_inventory(hardware=host), policies, {"hana1": passport})


def codes(host: HostHardware, passport: Passport = BIG, domain: str = "") -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        planned(host, passport, domain)
    return {reason.code: reason.text for reason in caught.value.reasons}


def of_the_host(plan: Plan) -> list[str]:
    return [warning for warning in plan.warnings if "this host" in warning]


def test_more_memory_and_cpus_than_the_host_has_are_warned_of() -> None:
    memory, cpus = of_the_host(planned(HOST))
    assert memory.startswith("The virtual machine has 2 TiB of memory, this host 256 GiB: ")
    assert cpus.startswith("The virtual machine has 224 CPUs, this host 64: ")
    enough = replace(HOST, cpus=224, memory_bytes=2 * TIB)
    assert of_the_host(planned(enough)) == []


@pytest.mark.parametrize("bits", [39, 40, 41])
@pytest.mark.parametrize("domain", ["", EMULATED])
def test_memory_beyond_the_hosts_addresses_is_refused(bits: int, domain: str) -> None:
    """2 TiB take 42 bits; libvirt compares what the definition says with the host's, emulated or not."""
    text = codes(replace(HOST, address_bits=bits), domain=domain)["host-address-bits"]
    assert "has 2 TiB of memory, which takes 42 bits of physical address" in text
    assert f"this host's processors have {bits}:" in text
    assert planned(replace(HOST, address_bits=42), domain=domain)


@pytest.mark.parametrize(("gib", "fits"), [(509, True), (510, True), (511, False), (600, False)])
def test_what_qemus_default_width_would_hold_has_to_fit_the_hosts(gib: int, fits: bool) -> None:
    """QEMU's own 40 bits are not compared with the host's; 2 GiB are lost below 4 GiB."""
    host, passport = replace(HOST, address_bits=39), replace(BIG, memory_bytes=gib * GIB)
    if fits:
        assert planned(host, passport)
    else:
        assert set(codes(host, passport)) == {"host-address-bits"}
    assert planned(host, passport, EMULATED)


def test_a_machine_for_kvm_is_refused_where_there_is_none() -> None:
    host, small = replace(HOST, kvm=False), Passport("hana1", memory_bytes=4 * GIB)
    text = codes(host, small)["host-kvm"]
    assert "modprobe kvm_intel" in text
    assert 'domain.type = "qemu"' in text
    assert planned(host, small, EMULATED)


@pytest.mark.parametrize(
    "domain",
    [
        'domain.hypervisor = "proxmox"\ndomain.directory = "/srv/vms"\n',
        'domain.hypervisor = "kubevirt"\ndomain.directory = "/srv/vms"\ndomain.nodes = ["n1"]\n',
        'domain.hypervisor = "none"\n',
    ],
)
def test_who_runs_it_elsewhere_is_not_judged_by_this_host(domain: str) -> None:
    assert of_the_host(planned(HostHardware(1, GIB, 39, kvm=False), domain=domain)) == []


def test_what_is_not_known_of_the_host_forbids_nothing() -> None:
    assert of_the_host(planned(HostHardware())) == []


def test_a_host_that_lost_its_kvm_outdates_the_plan() -> None:
    passports, policies = {"hana1": BIG}, make_policies(THIN)
    plan = make_plan(REQUEST, make_inventory(hardware=HOST), policies, passports)
    assert recheck(plan, make_inventory(hardware=replace(HOST, cpus=32)), policies, passports).id == plan.id
    with pytest.raises(PlanOutdated, match="This host has no KVM"):
        recheck(plan, make_inventory(hardware=replace(HOST, kvm=False)), policies, passports)
