"""A definition for KubeVirt: a VirtualMachine, and a volume and claim for each of its disks. Pure.

The volumes are `local`: an LV of a volume group that the named nodes see, active where the machine starts.
"""

import re

from p2vd.domain import yaml
from p2vd.domain.definition import DefinedDisk, DefinedNic, Definition, NetworkKind
from p2vd.model.domain import CpuMode, MachineType, Video
from p2vd.model.plan import Firmware
from p2vd.model.size import MIB

_ANNOTATION = "p2vd.org/machine"
_STORAGE_CLASS = "p2vd-local"
_POD = "pod"
"""The network name that stands for the pod's own; any other is Multus's NetworkAttachmentDefinition."""

_CPU = {CpuMode.HOST_MODEL: "host-model", CpuMode.HOST_PASSTHROUGH: "host-passthrough"}
_NOT_IN_NAME = re.compile(r"[^a-z0-9-]+")
_NAME_LENGTH = 52
"""A label's 63 less what is appended for disks."""

Mapping = dict[str, object]


def kubevirt_yaml(definition: Definition) -> str:
    """Return what `kubectl apply -f` takes."""
    volumes = [
        made for number, disk in enumerate(definition.disks) for made in _volume(definition, disk, number)
    ]
    return (
        f"# Written by p2vd for the machine {definition.uuid}: kubectl apply -f {definition.name}.yaml\n"
        "# The volumes must be active on the node where the machine starts, and on no other.\n"
        + yaml.documents([*volumes, _machine(definition)])
    )


def kube_name(name: str) -> str:
    """Return a name that Kubernetes takes: lower-case letters, digits and dashes."""
    return _NOT_IN_NAME.sub("-", name.lower())[:_NAME_LENGTH].strip("-") or "machine"


def _disk_name(definition: Definition, number: int) -> str:
    return f"{kube_name(definition.name)}-disk{number}"


def _metadata(definition: Definition, name: str, *, namespaced: bool = True) -> Mapping:
    place: Mapping = {"namespace": definition.namespace} if namespaced else {}
    return {"name": name, **place, "annotations": {_ANNOTATION: definition.uuid}}


def _volume(definition: Definition, disk: DefinedDisk, number: int) -> tuple[Mapping, Mapping]:
    """The volume, bound to the one claim that is the machine's, and that claim."""
    name = _disk_name(definition, number)
    common: Mapping = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": _STORAGE_CLASS,
        # The guest sees all of a block device. Images in a filesystem KubeVirt cuts to whole MiB, and the
        # second copy of a GPT with them (AlignImageSizeTo1MiB, kubevirt#12178).
        "volumeMode": "Block",
    }
    nodes: Mapping = {
        "matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": list(definition.nodes)}
        ]
    }
    volume: Mapping = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": _metadata(definition, name, namespaced=False),
        "spec": {
            **common,
            "capacity": {"storage": str(disk.size_bytes)},
            # The disk is the machine's only copy: a claim that is deleted must not take it along.
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": definition.namespace, "name": name},
            "local": {"path": disk.devnode},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [nodes]}},
        },
    }
    claim: Mapping = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(definition, name),
        "spec": {
            **common,
            "volumeName": name,
            "resources": {"requests": {"storage": str(disk.size_bytes)}},
        },
    }
    return volume, claim


def _machine(definition: Definition) -> Mapping:
    labels: Mapping = {"p2vd.org/name": kube_name(definition.name)}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": _metadata(definition, kube_name(definition.name)),
        "spec": {
            "runStrategy": "Always" if definition.start else "Halted",
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "domain": _domain(definition),
                    "networks": [_network(nic, number) for number, nic in enumerate(definition.nics)],
                    "volumes": [
                        {
                            "name": f"disk{number}",
                            "persistentVolumeClaim": {"claimName": _disk_name(definition, number)},
                        }
                        for number in range(len(definition.disks))
                    ],
                },
            },
        },
    }


def _domain(definition: Definition) -> Mapping:
    topology = definition.topology
    uefi = definition.firmware is Firmware.UEFI
    features: Mapping = {"acpi": {}}
    if definition.secure_boot:
        features["smm"] = {"enabled": True}
    if definition.hyperv:
        features["hyperv"] = {
            "relaxed": {},
            "vapic": {},
            "spinlocks": {"spinlocks": 8191},
            "vpindex": {},
            "synic": {},
            "synictimer": {},
        }
    timers: Mapping = {}
    if definition.windows:
        timers = {
            "rtc": {"tickPolicy": "catchup"},
            "pit": {"tickPolicy": "delay"},
            "hpet": {"present": False},
            "hyperv": {"present": True},
        }
    loader: Mapping = {"efi": {"secureBoot": definition.secure_boot}} if uefi else {"bios": {}}
    return {
        "machine": {"type": MachineType.Q35.value},
        "cpu": {
            "model": _CPU[definition.cpu_mode],
            "sockets": topology.sockets,
            "cores": topology.cores,
            "threads": topology.threads,
        },
        "memory": {"guest": f"{definition.memory_bytes // MIB}Mi"},
        "firmware": {"uuid": definition.uuid, "bootloader": loader},
        "features": features,
        "clock": {"utc": {}, **({"timer": timers} if timers else {})},
        "devices": _devices(definition),
    }


def _devices(definition: Definition) -> Mapping:
    devices: Mapping = {
        "autoattachPodInterface": False,
        "autoattachGraphicsDevice": definition.video is not Video.NONE,
        "autoattachSerialConsole": True,
        "disks": [_disk(disk, number) for number, disk in enumerate(definition.disks)],
        "interfaces": [_interface(nic, number) for number, nic in enumerate(definition.nics)],
    }
    if definition.rng:
        devices["rng"] = {}
    return devices


def _disk(disk: DefinedDisk, number: int) -> Mapping:
    size: Mapping = {}
    if disk.sector_size:
        size = {"blockSize": {"custom": {"logical": disk.sector_size, "physical": disk.sector_size}}}
    return {
        "name": f"disk{number}",
        "disk": {"bus": disk.bus.value},
        "serial": disk.serial,
        "bootOrder": disk.boot_order,
        "cache": "none",
        "io": "native",
        **size,
    }


def _interface(nic: DefinedNic, number: int) -> Mapping:
    binding: Mapping = {"masquerade": {}} if nic.network == _POD else {"bridge": {}}
    return {"name": f"nic{number}", "macAddress": nic.mac, "model": nic.model.value, **binding}


def _network(nic: DefinedNic, number: int) -> Mapping:
    if nic.network == _POD and nic.kind is NetworkKind.NETWORK:
        return {"name": f"nic{number}", "pod": {}}
    return {"name": f"nic{number}", "multus": {"networkName": nic.network}}
