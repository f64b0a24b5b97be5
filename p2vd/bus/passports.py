"""What the record of a physical machine looks like on the bus."""

import hashlib

from p2vd.bus.wire import Variant
from p2vd.model.codec import to_json
from p2vd.model.passport import Nic, Passport, PassportDisk


def passport(value: Passport) -> dict[str, object]:
    """Properties of org.p2vd1.Passport."""
    return {
        "Name": value.name,
        "Digest": hashlib.sha256(to_json(value).encode()).hexdigest(),
        "CollectedTime": value.collected_us,
        "WrittenByHand": value.written_by_hand,
        "Cpus": value.cpu.count,
        "Memory": value.memory_bytes,
        "Firmware": value.firmware.value if value.firmware else "",
        "System": value.system.name or value.system.id,
        "Disks": tuple(_passport_disk(disk) for disk in value.disks),
        "Nics": tuple(_passport_nic(nic) for nic in value.nics),
    }


def _passport_disk(disk: PassportDisk) -> dict[str, Variant]:
    return {
        "Name": Variant("s", disk.name),
        "Wwid": Variant("s", disk.wwid),
        "Serial": Variant("s", disk.serial),
        "Size": Variant("t", disk.size_bytes),
        "SectorSize": Variant("u", disk.sector_size),
        "Boots": Variant("b", disk.boots),
    }


def _passport_nic(nic: Nic) -> dict[str, Variant]:
    return {
        "Name": Variant("s", nic.name),
        "Kind": Variant("s", nic.kind.value),
        "Mac": Variant("s", nic.mac),
        "Addresses": Variant("as", nic.addresses),
    }
