"""What Manager.GetFabric returns: Fibre Channel as the last scan saw it, and the LUNs behind each port."""

from collections.abc import Mapping

from p2vd.bus.wire import Variant
from p2vd.model.disk import ScsiPath, Source
from p2vd.model.fc import Hba
from p2vd.model.inventory import Inventory


def fabric(inventory: Inventory) -> tuple[dict[str, Variant], ...]:
    """Return the HBAs, the ports that they see, and the LUNs behind those."""
    luns: dict[str, list[dict[str, Variant]]] = {}
    for disk in inventory.sources:
        for path in disk.paths:
            target, _, lun = path.hctl.rpartition(":")
            luns.setdefault(target, []).append(_lun(disk, path, lun))
    return tuple(_hba(hba, luns) for hba in inventory.hbas)


def _hba(hba: Hba, luns: Mapping[str, list[dict[str, Variant]]]) -> dict[str, Variant]:
    ports = [
        {
            "Wwpn": Variant("s", port.wwpn),
            "Wwnn": Variant("s", port.wwnn),
            "PortId": Variant("s", port.port_id),
            "State": Variant("s", port.state),
            "Roles": Variant("as", port.roles),
            "Target": Variant("s", port.target),
            "Luns": Variant("aa{sv}", luns.get(port.target, []) if port.target else []),
        }
        for port in hba.remote_ports
    ]
    return {
        "Host": Variant("s", hba.host),
        "Wwpn": Variant("s", hba.wwpn),
        "Wwnn": Variant("s", hba.wwnn),
        "PortId": Variant("s", hba.port_id),
        "State": Variant("s", hba.state),
        "PortType": Variant("s", hba.port_type),
        "Speed": Variant("s", hba.speed),
        "SymbolicName": Variant("s", hba.symbolic_name),
        "RemotePorts": Variant("aa{sv}", ports),
    }


def _lun(disk: Source, path: ScsiPath, lun: str) -> dict[str, Variant]:
    return {
        "Lun": Variant("s", lun),
        "Source": Variant("s", disk.id),
        "Device": Variant("s", path.device),
        "State": Variant("s", path.state.value),
    }
