"""The table `[rule.domain]`: what it may say, and what is said of errors."""

import pytest

from p2vd.model.domain import (
    Conversion,
    CpuMode,
    MacChoice,
    MachineType,
    NetworkRule,
    NicModel,
    Video,
)
from p2vd.model.plan import DiskBus, DomainOptions
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load

HEAD = """\
[[rule]]
name = "r"
match.wwid = "*"
target = { volume_groups = "vg", provisioning = "thick" }
[rule.domain]
"""
FULL = """\
bus = "auto"
machine_type = "pc"
cpu_mode = "host-passthrough"
nic_model = "e1000"
mac = "new"
network = "lan"
video = "none"
start = true
conversion = "virt-v2v-in-place"
[[rule.domain.networks]]
nic = "eth*"
mac = "00-25-90-AB-*"
network = "bridge:br0"
[[rule.domain.networks]]
prefix = "10.1.0.0/16"
vlan = 120
network = "dmz"
"""
KUBEVIRT = """\
hypervisor = "kubevirt"
directory = "/srv/vms"
nodes = ["n1", "n2.example.org"]
namespace = "erp"
"""


def errors_of(domain: str) -> list[str]:
    """The errors of a rule with this table."""
    policies = load([PolicyText("f", HEAD + domain)])
    return [str(error) for error in policies.errors]


def options_of(domain: str) -> DomainOptions:
    policies = load([PolicyText("f", HEAD + domain)])
    assert not policies.errors
    return policies.rules[0].domain


def test_every_key() -> None:
    assert options_of(FULL) == DomainOptions(
        bus=DiskBus.AUTO,
        network="lan",
        machine_type=MachineType.PC,
        cpu_mode=CpuMode.HOST_PASSTHROUGH,
        nic_model=NicModel.E1000,
        mac=MacChoice.NEW,
        networks=(
            NetworkRule("bridge:br0", nic="eth*", mac="00:25:90:ab:*"),
            NetworkRule("dmz", prefix="10.1.0.0/16", vlan=120),
        ),
        video=Video.NONE,
        start=True,
        conversion=Conversion.VIRT_V2V,
    )


def test_what_is_not_said_is_left_to_the_passport() -> None:
    options = options_of("")
    assert (options.memory_bytes, options.vcpus, options.bus) == (0, 0, DiskBus.AUTO)


@pytest.mark.parametrize("name", ["xl", "proxmox"])
def test_hypervisors_that_get_files(name: str) -> None:
    options = options_of(f'hypervisor = "{name}"\ndirectory = "/srv/vms"\n')
    assert (options.uri, options.directory) == (name, "/srv/vms")


def test_kubevirt() -> None:
    options = options_of(KUBEVIRT)
    assert options.nodes == ("n1", "n2.example.org")
    assert options.namespace == "erp"


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ('hypervisor = "esx"', "6: rule.domain.hypervisor: must be"),
        ('hypervisor = "xl"', "5: rule.domain.directory: is missing: where the files"),
        ('hypervisor = "xl"\ndirectory = "vms"', "7: rule.domain.directory: must be an absolute path"),
        ('directory = "/vms"', "6: rule.domain.directory: is for xl or proxmox or kubevirt"),
        (
            'hypervisor = "xen:///system"\ntype = "qemu"',
            '7: rule.domain.type: is for hypervisor = "qemu:///system" only',
        ),
        (
            'bus = "nvme"',
            '6: rule.domain.bus: must be "virtio" or "sata" or "scsi" or "ide" or "xen" or "auto"',
        ),
        ('bus = "xen"', '6: rule.domain.bus: "xen" disks are for Xen'),
        ('bus = "ide"\nmachine_type = "q35"', "7: rule.domain.machine_type: q35 has no IDE"),
        ('machine_type = "isapc"', '6: rule.domain.machine_type: must be "auto" or "q35" or "pc"'),
        ('cpu_mode = "custom"', '6: rule.domain.cpu_mode: must be "auto" or "host-model"'),
        (
            'type = "qemu"\ncpu_mode = "host-passthrough"',
            '7: rule.domain.cpu_mode: type = "qemu" emulates a processor',
        ),
        ('nic_model = "ne2k"', '6: rule.domain.nic_model: must be "auto" or "virtio"'),
        ('mac = "random"', '6: rule.domain.mac: must be "keep" or "new"'),
        ('video = "qxl"', '6: rule.domain.video: must be "auto" or "vga"'),
        ('start = "yes"', "6: rule.domain.start: must be true or false"),
        (
            'hypervisor = "xl"\ndirectory = "/d"\nstart = true',
            '8: rule.domain.start: files for "xl" are started by whoever takes them',
        ),
        ('conversion = "yes"', '6: rule.domain.conversion: must be "none" or "virt-v2v-in-place"'),
        (
            'hypervisor = "xen:///system"\nconversion = "virt-v2v-in-place"',
            '7: rule.domain.conversion: virt-v2v-in-place makes guests fit for "qemu:///system" only',
        ),
        ('network = "a b"', "6: rule.domain.network: 'a b' is no network"),
        ('network = "bridge:a/b"', "6: rule.domain.network: 'a/b' is no name of a bridge"),
        ("vcpus = 0", "6: rule.domain.vcpus: must be a whole number from 1 to 4096"),
        ('networks = "lan"', "6: rule.domain.networks: must be a list of tables"),
        (
            '[[rule.domain.networks]]\nnetwork = "a"',
            "6: rule.domain.networks: needs nic, mac, prefix or vlan",
        ),
        ("[[rule.domain.networks]]\nvlan = 3", "6: rule.domain.networks.network: is missing"),
        (
            '[[rule.domain.networks]]\nnetwork = "a"\nvlan = 4095',
            "8: rule.domain.networks.vlan: must be a whole number from 1 to 4094",
        ),
        (
            '[[rule.domain.networks]]\nnetwork = "a"\nprefix = "10.1.2.3/16"',
            "8: rule.domain.networks.prefix: must be a network with its length",
        ),
        (
            '[[rule.domain.networks]]\nnetwork = "a"\nmac = "eth0"',
            "8: rule.domain.networks.mac: 'eth0' can match no address",
        ),
        (
            '[[rule.domain.networks]]\nnetwork = "a"\nvlan = 3\ncard = "eth0"',
            "9: rule.domain.networks.card: there is no such key; allowed here: mac, network, nic, prefix",
        ),
        ('nodes = ["a"]', '6: rule.domain.nodes: is for hypervisor = "kubevirt" only'),
        ('namespace = "a"', '6: rule.domain.namespace: is for hypervisor = "kubevirt" only'),
        (KUBEVIRT.replace('nodes = ["n1", "n2.example.org"]\n', ""), "5: rule.domain.nodes: is missing"),
        (KUBEVIRT.replace("n1", "N 1"), "8: rule.domain.nodes: 'N 1' is no name of a node"),
        (KUBEVIRT.replace("erp", "Erp"), "9: rule.domain.namespace: 'Erp' is no namespace"),
        (KUBEVIRT + 'network = "bridge:br0"', "10: rule.domain.network: Kubernetes has no bridges"),
        ('memory = "1"', "6: rule.domain.memory: must be from 1 MiB to 1 PiB"),
    ],
)
def test_errors_name_line_key_and_what_is_allowed(domain: str, error: str) -> None:
    found = errors_of(domain + "\n")
    assert [text for text in found if text.startswith(f"f:{error}")], found
    assert len(found) == 1, found
