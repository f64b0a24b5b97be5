"""The table `[rule.domain]` of a policy: how the virtual machine shall look."""

import ipaddress
import re

from p2vd.model.domain import Conversion, CpuMode, MachineType, NetworkRule
from p2vd.model.plan import DiskBus, DomainOptions, VirtType
from p2vd.policy.toml import Table

LIBVIRT = ("qemu:///system", "xen:///system")
_FILES = ("xl", "proxmox", "kubevirt")
_QEMU = LIBVIRT[0]
NO_HYPERVISOR = "none"
"""Nobody takes the machine: its disks are copied and proven, and that is all."""

_PIB = 1 << 50
_MAX_VCPUS = 4096
_MAX_VLAN = 4094
_BRIDGE = "bridge:"
_MAC_GLOB = re.compile(r"[0-9a-f:*?\[\]!-]+")
_NODE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NETWORK = re.compile(r"[A-Za-z0-9_./:-]+")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def domain_options(table: Table) -> DomainOptions:
    """Return what the table says; all that is wrong in it is recorded there."""
    uri = table.text("hypervisor", DomainOptions.uri)
    if uri not in (*LIBVIRT, *_FILES, NO_HYPERVISOR):
        allowed = " or ".join(f'"{one}"' for one in (*LIBVIRT, *_FILES, NO_HYPERVISOR))
        table.error("hypervisor", f"must be {allowed}, not {uri!r}")
    memory = table.size("memory")
    if "memory" in table and not 1 << 20 <= memory <= _PIB:
        table.error("memory", "must be from 1 MiB to 1 PiB")
    virt_type = table.choice("type", DomainOptions.virt_type)
    if uri in (*LIBVIRT, *_FILES) and uri != _QEMU and "type" in table:
        table.error("type", f'is for hypervisor = "{_QEMU}" only; remove the key')
    domain = DomainOptions(
        uri=uri,
        memory_bytes=memory,
        vcpus=table.integer("vcpus", DomainOptions.vcpus, 1, _MAX_VCPUS),
        bus=table.choice("bus", DomainOptions.bus),
        network=_network(table),
        virt_type=virt_type,
        directory=_directory(table, uri),
        machine_type=table.choice("machine_type", DomainOptions.machine_type),
        cpu_mode=table.choice("cpu_mode", DomainOptions.cpu_mode),
        nic_model=table.choice("nic_model", DomainOptions.nic_model),
        mac=table.choice("mac", DomainOptions.mac),
        networks=tuple(_network_rule(one) for one in table.tables("networks")),
        video=table.choice("video", DomainOptions.video),
        start=table.flag("start"),
        conversion=table.choice("conversion", DomainOptions.conversion),
        nodes=_nodes(table, uri),
        namespace=_namespace(table, uri),
    )
    _contradictions(table, domain)
    table.finish()
    return domain


def _directory(table: Table, uri: str) -> str:
    directory = table.text("directory")
    if uri in _FILES and not directory:
        table.error("directory", f'is missing: where the files for "{uri}" are written')
    elif directory and uri not in _FILES:
        table.error("directory", f'is for {" or ".join(_FILES)}; for "{uri}" nothing is written to files')
    elif directory and not directory.startswith("/"):
        table.error("directory", f"must be an absolute path, not {directory!r}")
    return directory


def _nodes(table: Table, uri: str) -> tuple[str, ...]:
    nodes = table.texts("nodes")
    if uri != "kubevirt":
        if "nodes" in table:
            table.error("nodes", 'is for hypervisor = "kubevirt" only; remove the key')
    elif "nodes" not in table:
        table.error("nodes", "is missing: the Kubernetes nodes that see the volume group")
    for node in nodes:
        if not _NODE.fullmatch(node):
            table.error("nodes", f"{node!r} is no name of a node: lower-case letters, digits, - and . only")
    return nodes


def _namespace(table: Table, uri: str) -> str:
    namespace = table.text("namespace", DomainOptions.namespace)
    if uri != "kubevirt" and "namespace" in table:
        table.error("namespace", 'is for hypervisor = "kubevirt" only; remove the key')
    elif not _NAMESPACE.fullmatch(namespace):
        table.error("namespace", f"{namespace!r} is no namespace: lower-case letters, digits and - only")
    return namespace


def _network(table: Table) -> str:
    network = table.text("network")
    name = network.removeprefix(_BRIDGE)
    if network.startswith(_BRIDGE) and not _INTERFACE_NAME.fullmatch(name):
        table.error("network", f"{name!r} is no name of a bridge: at most 15 letters, digits, _ . -")
    elif network and not _NETWORK.fullmatch(network):
        table.error("network", f'{network!r} is no network: write its name, or "bridge:NAME"')
    return network


def _network_rule(table: Table) -> NetworkRule:
    rule = NetworkRule(
        network=_network(table),
        nic=table.text("nic"),
        mac=table.text("mac").lower().replace("-", ":"),
        prefix=table.text("prefix"),
        vlan=table.integer("vlan", 0, 1, _MAX_VLAN),
    )
    if not rule.network:
        table.error("network", 'is missing: the name of a network, or "bridge:NAME"')
    if rule == NetworkRule(rule.network) and "vlan" not in table:
        table.error("", "needs nic, mac, prefix or vlan; for all NICs there is domain.network")
    if rule.mac and not _MAC_GLOB.fullmatch(rule.mac):
        table.error("mac", f"{rule.mac!r} can match no address: hexadecimal digits, colons and * only")
    if rule.prefix:
        try:
            ipaddress.ip_network(rule.prefix)
        except ValueError as error:
            table.error("prefix", f'must be a network with its length, as "10.1.0.0/16": {error}')
    table.finish()
    return rule


def _contradictions(table: Table, domain: DomainOptions) -> None:
    """Record what each key allows, and no hypervisor does together."""
    if domain.bus is DiskBus.IDE and domain.machine_type is MachineType.Q35:
        table.error("machine_type", 'q35 has no IDE; write "pc" or "auto", or another bus')
    if domain.bus is DiskBus.XEN and domain.uri not in ("xen:///system", "xl"):
        table.error("bus", f'"xen" disks are for Xen; "{domain.uri}" has none')
    if domain.virt_type is VirtType.QEMU and domain.cpu_mode is CpuMode.HOST_PASSTHROUGH:
        table.error("cpu_mode", 'type = "qemu" emulates a processor: it has not the host\'s')
    networks = (domain.network, *(rule.network for rule in domain.networks))
    if domain.uri == "kubevirt" and any(network.startswith(_BRIDGE) for network in networks):
        table.error(
            "network", 'Kubernetes has no bridges of its own: write "pod", or "NAMESPACE/NAME" of a network'
        )
    if domain.uri == NO_HYPERVISOR and domain.start:
        table.error("start", f'"{NO_HYPERVISOR}" starts nothing; remove the key')
    elif domain.uri in ("xl", "proxmox") and domain.start:
        table.error("start", f'files for "{domain.uri}" are started by whoever takes them; remove the key')
    if domain.conversion is Conversion.VIRT_V2V and domain.uri != _QEMU:
        table.error("conversion", f'virt-v2v-in-place makes guests fit for "{_QEMU}" only')
