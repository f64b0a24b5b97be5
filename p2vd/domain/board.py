"""The guest's board: chipset, firmware, graphics, clock and the small devices."""

from p2vd.domain.definition import Chosen, Hypervisor, chosen
from p2vd.domain.errors import DomainImpossible
from p2vd.domain.guest import Family, Guest
from p2vd.domain.limits import LIMITS
from p2vd.model.domain import Conversion, MachineType, Video
from p2vd.model.passport import ClockOffset, Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType

_VIRTIO_1 = (4, 0)
"""Linux's first version with virtio 1.0, which is all that QEMU's PCI Express slots offer."""

_WINDOWS_VISTA = (6, 0)


def firmware(passport: Passport | None, options: DomainOptions) -> Chosen[Firmware]:
    """Return what the guest boots by: as the plan says, which has seen policy, passport and disk."""
    known = passport.firmware if passport is not None else None
    if known is options.firmware:
        return chosen("firmware", options.firmware, "As the old machine booted, by its passport.")
    why = "The policy says so, or what is on the disk."
    if known is not None:
        why = f"The policy says so, though the old machine booted by {known.value}."
    return chosen("firmware", options.firmware, why)


def secure_boot(hypervisor: Hypervisor, passport: Passport | None, by: Firmware) -> Chosen[bool]:
    """Return whether the firmware starts signed systems only."""
    if passport is None or not passport.secure_boot or by is not Firmware.UEFI:
        why = "It was not on in the old machine, as far as is known."
        return chosen("secure-boot", False, why, "off")
    label = LIMITS[hypervisor].label
    if not LIMITS[hypervisor].secure_boot:
        return chosen("secure-boot", False, f"It was on in the old machine, but {label} has none.", "off")
    why = "It was on in the old machine; the firmware gets the usual keys (Microsoft's) anew."
    return chosen("secure-boot", True, why, "on")


def machine_type(
    name: str, hypervisor: Hypervisor, guest: Guest, options: DomainOptions, bus: DiskBus, secure: bool
) -> Chosen[MachineType]:
    """Return the chipset. Raises DomainImpossible."""
    label = LIMITS[hypervisor].label
    if hypervisor.is_xen:
        return chosen("machine-type", MachineType.PC, "Xen has this one chipset for guests.")
    asked = options.machine_type
    if asked is MachineType.PC and not LIMITS[hypervisor].pc:
        raise DomainImpossible(name, "machine_type", f'{label} has q35 only. Write "q35" or leave it out.')
    if asked is MachineType.PC and secure:
        raise DomainImpossible(
            name,
            "machine_type",
            'Secure Boot needs q35, for pc cannot protect it. Write "q35" or leave it out.',
        )
    if asked is MachineType.Q35 and bus is DiskBus.IDE:
        raise DomainImpossible(name, "machine_type", 'q35 has no IDE. Write "pc", or another domain.bus.')
    if asked is not MachineType.AUTO:
        return chosen("machine-type", asked, "The policy says so.")
    why = _old(guest, bus)
    if why and LIMITS[hypervisor].pc and not secure:
        return chosen("machine-type", MachineType.PC, why)
    return chosen("machine-type", MachineType.Q35, "The present chipset, with PCI Express.")


def _old(guest: Guest, bus: DiskBus) -> str:
    """Return why the guest wants the older chipset, if it does."""
    if bus is DiskBus.IDE:
        return "Its disks are on IDE, which q35 has not."
    if guest.family is Family.LINUX and guest.older_than(*_VIRTIO_1):
        return (
            f"The kernel of {guest.label} is older than 4.0: it may know the first virtio only, which QEMU "
            "has on pc and not in q35's PCI Express slots."
        )
    if guest.windows and guest.older_than(*_WINDOWS_VISTA):
        return f"{guest.label} is older than PCI Express."
    return ""


def video(hypervisor: Hypervisor, options: DomainOptions) -> Chosen[Video]:
    """Return the graphics card. It can be looked at by VNC, from the host itself only."""
    if options.video is Video.VIRTIO and hypervisor.is_xen:
        return chosen("video", Video.VGA, "Xen has no virtio graphics.")
    if options.video is not Video.AUTO:
        return chosen("video", options.video, "The policy says so.")
    why = "Every system has a driver for it; the screen can be seen by VNC on the host alone."
    return chosen("video", Video.VGA, why)


def clock(hypervisor: Hypervisor, guest: Guest, passport: Passport | None) -> Chosen[ClockOffset]:
    """Return in which time the guest's hardware clock runs."""
    wanted, whence = _wanted_clock(guest, passport)
    if wanted is ClockOffset.LOCAL and not LIMITS[hypervisor].local_clock:
        lacks = f"{LIMITS[hypervisor].label} does not offer local time without a zone's name."
        return chosen("clock", ClockOffset.UTC, f"{whence} {lacks}")
    if passport is None or passport.clock is None:
        return chosen("clock", wanted, whence)
    if wanted is ClockOffset.UTC and guest.windows:
        why = "By the passport; Windows reads the clock as local time unless RealTimeIsUniversal is set."
        return chosen("clock", wanted, why)
    return chosen("clock", wanted, "As the old machine's ran, by its passport.")


def clock_warning(hypervisor: Hypervisor, guest: Guest, passport: Passport | None) -> str:
    """Return what to tell where the guest gets another time than it reads its clock in; "" else."""
    wanted, whence = _wanted_clock(guest, passport)
    if wanted is ClockOffset.UTC or LIMITS[hypervisor].local_clock:
        return ""
    return f"{whence} {LIMITS[hypervisor].label} gives the guest UTC."


def _wanted_clock(guest: Guest, passport: Passport | None) -> tuple[ClockOffset, str]:
    """Return what suits the guest, and whence that is known."""
    if passport is None:
        return ClockOffset.UTC, "There is no passport; most systems keep their clock in UTC."
    if passport.clock is not None:
        ran = "local time" if passport.clock is ClockOffset.LOCAL else "UTC"
        return passport.clock, f"The clock of the old machine ran in {ran}."
    unknown = "In which time the old machine's ran is not known;"
    if guest.windows:
        return ClockOffset.LOCAL, f"{unknown} Windows keeps it in local time by default."
    if guest.family is Family.LINUX:
        return ClockOffset.UTC, f"{unknown} Linux keeps it in UTC by default."
    return ClockOffset.UTC, f"{unknown} most systems keep it in UTC."


def hyperv(hypervisor: Hypervisor, guest: Guest, options: DomainOptions) -> Chosen[bool]:
    """Return whether the guest sees Hyper-V's interfaces."""
    if not guest.windows:
        return chosen("hyper-v", False, "They are for Windows.", "off")
    if guest.older_than(*_WINDOWS_VISTA):
        return chosen("hyper-v", False, f"{guest.label} knows nothing of them.", "off")
    if hypervisor is Hypervisor.QEMU and options.virt_type is VirtType.QEMU:
        return chosen("hyper-v", False, "QEMU has them with KVM only.", "off")
    return chosen("hyper-v", True, "Windows spins and counts time less where it sees Hyper-V.", "on")


def rng(hypervisor: Hypervisor, guest: Guest, options: DomainOptions) -> Chosen[bool]:
    """Return whether the guest gets random numbers from the host."""
    if hypervisor.is_xen:
        return chosen("rng", False, "Xen has none.", "none")
    if options.conversion is Conversion.VIRT_V2V or any(one.startswith("virtio") for one in guest.drivers):
        return chosen(
            "rng", True, "The guest has virtio drivers: it starts without waiting for chance.", "virtio"
        )
    return chosen("rng", False, "Nothing is known of virtio drivers in the guest.", "none")


def guest_agent(hypervisor: Hypervisor, guest: Guest) -> Chosen[bool]:
    """Return whether the guest's agent gets its channel."""
    if hypervisor.is_xen or hypervisor is Hypervisor.KUBEVIRT:
        # KubeVirt adds the channel to every machine by itself.
        return chosen("guest-agent", False, f"{LIMITS[hypervisor].label} takes no setting for it.", "none")
    if guest.agent:
        return chosen("guest-agent", True, f"The guest has an agent installed ({guest.agent}).", "channel")
    return chosen("guest-agent", False, "No agent is known to be installed in the guest.", "none")
