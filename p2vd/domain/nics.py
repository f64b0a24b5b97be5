"""The guest's NICs: which of the old ones it needs, on which network, with which address and model."""

import hashlib
import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from p2vd.domain.definition import Chosen, DefinedNic, Hypervisor, NetworkKind, chosen
from p2vd.domain.errors import DomainImpossible
from p2vd.domain.guest import Family, Guest
from p2vd.domain.limits import LIMITS
from p2vd.model.domain import Conversion, DomainChoice, MacChoice, NetworkRule, NicModel
from p2vd.model.passport import Nic, NicKind, Passport
from p2vd.model.plan import DomainOptions

BRIDGE = "bridge:"
"""Before the name of a bridge; without it, the name is that of one of the hypervisor's networks."""

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_LOCAL_PREFIX = "52:54:00"
"""QEMU's and libvirt's own, for addresses that no card has."""

_NEW = "a new address"
"""In a plan: the address comes from the machine's UUID, which is made when the plan is carried out."""

_NIC_DRIVERS = (
    (NicModel.VIRTIO, "virtio_net"),
    (NicModel.E1000E, "e1000e"),
    (NicModel.E1000, "e1000"),
    (NicModel.RTL8139, "rtl8139"),
)
_LINUX_4 = (4, 0)
_WINDOWS_8 = (6, 2)
_WINDOWS_VISTA = (6, 0)


@dataclass(frozen=True)
class Port:
    """What the machine gets one NIC for: a card, or a bond of cards. `upon`: VLANs and bridges on it."""

    nic: Nic
    members: tuple[Nic, ...]
    upon: tuple[Nic, ...]

    @property
    def mac(self) -> str:
        """The address by which the guest knows it: a bond's is the one of its first card."""
        first = self.members[0].mac if self.members else ""
        return (first or self.nic.mac).lower()

    @property
    def vlans(self) -> tuple[int, ...]:
        """The VLANs whose frames it carries."""
        return tuple(one.vlan_id for one in self.upon if one.kind is NicKind.VLAN)

    @property
    def all(self) -> tuple[Nic, ...]:
        """The interface itself and all beneath and upon it."""
        return (self.nic, *self.members, *self.upon)

    @property
    def used(self) -> bool:
        """Whether anything tells that the machine used it."""
        return any(one.addresses for one in self.all) or bool(
            self.members or self.upon or self.nic.speed_mbps
        )


def ports(passport: Passport) -> tuple[Port, ...]:
    """Return the cards that stand alone and the bonds, in the passport's order.

    A bond comes where its first card does. VLANs and bridges are not hardware: they stay what they are,
    inside the guest.
    """
    nics = passport.nics
    bonded = {member for nic in nics if nic.kind is NicKind.BOND for member in nic.members}
    found = []
    for nic in nics:
        members = tuple(one for one in nics if nic.kind is NicKind.BOND and one.name in nic.members)
        if nic.kind is NicKind.BOND or (nic.kind is NicKind.PHYSICAL and nic.name not in bonded):
            found.append(Port(nic, members, tuple(_upon(nic.name, nics))))
    return tuple(sorted(found, key=lambda port: min(nics.index(one) for one in (port.nic, *port.members))))


def _upon(name: str, nics: Sequence[Nic]) -> Iterator[Nic]:
    """Yield the VLANs and bridges that rest on `name`, whatever else does."""
    seen, waiting = {name}, [name]
    while waiting:
        below = waiting.pop()
        for nic in nics:
            rests = (nic.kind is NicKind.VLAN and nic.parent == below) or (
                nic.kind is NicKind.BRIDGE and below in nic.members
            )
            if rests and nic.name not in seen:
                seen.add(nic.name)
                waiting.append(nic.name)
                yield nic


@dataclass(frozen=True)
class Nics:
    """The NICs, what was decided about each, and what should be known."""

    nics: tuple[DefinedNic, ...]
    choices: tuple[DomainChoice, ...]
    warnings: tuple[str, ...]


def nics(
    name: str,
    uuid: str,
    hypervisor: Hypervisor,
    guest: Guest,
    passport: Passport | None,
    options: DomainOptions,
) -> Nics:
    """Return the NICs of the machine. Raises DomainImpossible."""
    chosen_model = model(name, hypervisor, guest, options)
    if passport is None or not passport.nics:
        return _without_record(uuid, chosen_model, options)
    found = ports(passport)
    unused = () if not any(port.used for port in found) else tuple(port for port in found if not port.used)
    made: list[DefinedNic] = []
    choices: list[DomainChoice] = []
    warnings: list[str] = []
    for port in found:
        if port in unused:
            why = "It had neither an address nor a link, nor was anything built on it."
            choices.append(DomainChoice(f"nic {port.nic.name}", "none", why))
            continue
        network = _network(port, options)
        if not network:
            why = "Neither domain.networks nor domain.network says where it goes."
            choices.append(DomainChoice(f"nic {port.nic.name}", "none", why))
            warnings.append(
                f"{port.nic.name} of the old machine has no counterpart: {why} The guest does not find it."
            )
            continue
        mac, said = _mac(uuid, len(made), port, options)
        if said:
            warnings.append(said)
        made.append(_nic(mac, chosen_model.value, network, port.nic.name))
        shown = mac if mac == port.mac or uuid else _NEW
        choices.append(DomainChoice(f"nic {port.nic.name}", f"{network}, {shown}", _why(port)))
    if made:
        choices.insert(0, chosen_model.choice)
    return Nics(tuple(made), tuple(choices), tuple(warnings))


def _without_record(uuid: str, card: Chosen[NicModel], options: DomainOptions) -> Nics:
    if not options.network:
        why = "No passport tells of NICs, and domain.network names no network."
        return Nics((), (DomainChoice("nics", "none", why),), ())
    nic = _nic(derived_mac(uuid, 0), card.value, options.network, "")
    why = "No passport tells of NICs: one, with an address made from the machine's UUID."
    shown = f"{options.network}, {nic.mac if uuid else _NEW}"
    return Nics((nic,), (card.choice, DomainChoice("nics", shown, why)), ())


def _why(port: Port) -> str:
    says = "A card of the old machine."
    if port.nic.kind is NicKind.BOND:
        cards = ", ".join(member.name for member in port.members) or "cards that the passport does not name"
        says = (
            f"One NIC for the bond of {cards}: the second cable is the host's matter now. The bond inside "
            "the guest stays, with one card."
        )
    if port.vlans:
        numbers = ", ".join(str(vlan) for vlan in port.vlans)
        many = "VLANs" if len(port.vlans) > 1 else "VLAN"
        says += f" Its {many} {numbers} stay inside the guest: the network must pass tagged frames."
    bridges = [one.name for one in port.upon if one.kind is NicKind.BRIDGE]
    if bridges:
        says += f" The bridge {', '.join(bridges)} stays inside the guest."
    return says


def _network(port: Port, options: DomainOptions) -> str:
    """Return where it goes: by the first rule that fits, else by the default."""
    for rule in options.networks:
        if _fits(rule, port):
            return rule.network
    return options.network


def _fits(rule: NetworkRule, port: Port) -> bool:
    every = port.all
    return (
        (not rule.nic or any(fnmatchcase(one.name, rule.nic) for one in every))
        and (not rule.mac or any(fnmatchcase(one.mac.lower(), rule.mac) for one in every))
        and (not rule.vlan or rule.vlan in port.vlans)
        and (not rule.prefix or any(_within(text, rule.prefix) for one in every for text in one.addresses))
    )


def _within(address: str, prefix: str) -> bool:
    try:
        return ipaddress.ip_interface(address).ip in ipaddress.ip_network(prefix)
    except ValueError:
        return False


def _mac(uuid: str, index: int, port: Port, options: DomainOptions) -> tuple[str, str]:
    """Return the address of a NIC, and what is to be said of one that could not be kept."""
    if options.mac is MacChoice.NEW:
        return derived_mac(uuid, index), ""
    mac = port.mac
    if _MAC.fullmatch(mac) and not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00":
        return mac, ""
    made = derived_mac(uuid, index)
    known = (
        f"its address in the passport, {mac!r}, is none of a card" if mac else "the passport has no address"
    )
    return made, f"{port.nic.name} gets a new address: {known}."


def derived_mac(uuid: str, index: int) -> str:
    """Return an address for NIC `index`, the same at each definition of the machine."""
    digest = hashlib.sha256(f"{uuid}/{index}".encode()).hexdigest()
    return ":".join((_LOCAL_PREFIX, digest[0:2], digest[2:4], digest[4:6]))


def _nic(mac: str, card: NicModel, network: str, old: str) -> DefinedNic:
    if network.startswith(BRIDGE):
        return DefinedNic(mac, card, NetworkKind.BRIDGE, network.removeprefix(BRIDGE), old)
    return DefinedNic(mac, card, NetworkKind.NETWORK, network, old)


def model(name: str, hypervisor: Hypervisor, guest: Guest, options: DomainOptions) -> Chosen[NicModel]:
    """Return which card the guest sees. Raises DomainImpossible."""
    limits, asked = LIMITS[hypervisor], options.nic_model
    if asked is not NicModel.AUTO:
        if asked not in limits.nic_models:
            others = ", ".join(f'"{one.value}"' for one in limits.nic_models)
            problem = f'{limits.label} has no "{asked.value}"; it has {others}, or write "auto".'
            raise DomainImpossible(name, "nic_model", problem)
        return chosen("nic-model", asked, "The policy says so.")
    if options.conversion is Conversion.VIRT_V2V and NicModel.VIRTIO in limits.nic_models:
        return chosen("nic-model", NicModel.VIRTIO, "virt-v2v-in-place gives the guest virtio drivers.")
    # An old Linux drives the first e1000 longer than its successor.
    old = guest.family is Family.LINUX and guest.older_than(*_LINUX_4)
    known = sorted(_NIC_DRIVERS, key=lambda one: old and one[0] is NicModel.E1000E)
    for candidate, driver in known:
        if candidate in limits.nic_models and driver in guest.drivers:
            return chosen("nic-model", candidate, f"{guest.label} has the driver {driver}.")
    if hypervisor.is_xen:
        why = "Emulated for a guest without Xen's drivers; one with them uses those instead."
        return chosen("nic-model", NicModel.E1000, why)
    if guest.windows and guest.older_than(*_WINDOWS_VISTA):
        return chosen("nic-model", NicModel.RTL8139, f"{guest.label} has a driver for it, of its own.")
    if guest.windows and guest.older_than(*_WINDOWS_8):
        return chosen("nic-model", NicModel.E1000, f"{guest.label} has a driver for it, of its own.")
    why = "Nothing is known of virtio drivers in the guest; systems since 2008 have one for this card."
    if guest.windows:
        why = f"{guest.label} has a driver for it, of its own, and none for virtio as far as is known."
    return chosen("nic-model", NicModel.E1000E, why)
