"""From passport, target disks and policy to a definition, each choice with its reason. Pure."""

from collections.abc import Iterator, Sequence

from p2vd.domain import board, loader, nics, processor
from p2vd.domain import disks as storage
from p2vd.domain.definition import Definition, DomainDisk, Hypervisor
from p2vd.domain.guest import Guest, guest_of
from p2vd.domain.limits import LIMITS
from p2vd.model.domain import DomainChoice
from p2vd.model.passport import Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware

_BY_URI = {
    "qemu:///system": Hypervisor.QEMU,
    "xen:///system": Hypervisor.XEN,
    "xl": Hypervisor.XL,
    "proxmox": Hypervisor.PROXMOX,
    "kubevirt": Hypervisor.KUBEVIRT,
    # Nobody takes it; a boot test starts it all the same, as QEMU's machine that it would be.
    "none": Hypervisor.QEMU,
}


def hypervisor_of(options: DomainOptions) -> Hypervisor:
    """Return who takes the machine. Raises ValueError where `uri` names none that p2vd knows."""
    if options.uri not in _BY_URI:
        raise ValueError(f"there is no hypervisor {options.uri!r}")
    return _BY_URI[options.uri]


def define(
    name: str,
    uuid: str,
    passport: Passport | None,
    disks: Sequence[DomainDisk],
    options: DomainOptions,
) -> Definition:
    """Return the virtual machine `name`; `uuid` is the machine's and the domain's, empty in a plan.

    Equal arguments give equal machines. Raises DomainImpossible where the hypervisor has no such machine.
    """
    hypervisor = hypervisor_of(options)
    guest = guest_of(passport)
    memory = processor.memory(name, hypervisor, passport, options)
    topology = processor.topology(name, hypervisor, passport, options)
    cpu_mode = processor.cpu_mode(name, hypervisor, options)
    bits = processor.address_bits(hypervisor, memory.value)
    firmware = board.firmware(passport, options)
    secure = board.secure_boot(hypervisor, passport, firmware.value)
    bus = storage.bus(name, hypervisor, guest, disks, options)
    machine_type = board.machine_type(name, hypervisor, guest, options, bus.value, secure.value)
    order = storage.ordered(disks, passport)
    network = nics.nics(name, uuid, hypervisor, guest, passport, options)
    video = board.video(hypervisor, options)
    clock = board.clock(hypervisor, guest, passport)
    hyperv = board.hyperv(hypervisor, guest, options)
    rng = board.rng(hypervisor, guest, options)
    agent = board.guest_agent(hypervisor, guest)
    defined = storage.defined(order.value, bus.value, hypervisor, options)
    return Definition(
        name=name,
        uuid=uuid,
        hypervisor=hypervisor,
        virt_type=options.virt_type,
        machine_type=machine_type.value,
        cpu_mode=cpu_mode.value,
        topology=topology.value,
        address_bits=bits.value if bits else 0,
        memory_bytes=memory.value,
        firmware=firmware.value,
        secure_boot=secure.value,
        windows=guest.windows,
        windows_version=guest.version if guest.windows else None,
        disks=defined,
        nics=network.nics,
        video=video.value,
        clock=clock.value,
        hyperv=hyperv.value,
        rng=rng.value,
        guest_agent=agent.value,
        start=options.start,
        nodes=options.nodes,
        namespace=options.namespace,
        choices=(
            machine_type.choice,
            cpu_mode.choice,
            topology.choice,
            *((bits.choice,) if bits else ()),
            memory.choice,
            firmware.choice,
            *loader.nvram(hypervisor, firmware.value, passport),
            *((secure.choice,) if firmware.value is Firmware.UEFI else ()),
            bus.choice,
            order.choice,
            *_disk_choices(disks, hypervisor, options),
            *network.choices,
            video.choice,
            clock.choice,
            rng.choice,
            agent.choice,
            *((hyperv.choice,) if guest.windows else ()),
        ),
        warnings=(
            *_warnings(hypervisor, guest, passport, disks, options, bus.value, firmware.value),
            *network.warnings,
        ),
    )


def _disk_choices(
    disks: Sequence[DomainDisk], hypervisor: Hypervisor, options: DomainOptions
) -> Iterator[DomainChoice]:
    if LIMITS[hypervisor].serials:
        yield storage.disk_serials(disks).choice
    thin = sum(disk.thin for disk in disks)
    yield DomainChoice(
        "disk-discard",
        "unmap" if thin else "ignore",
        f"What the guest frees goes back to the thin pool ({thin} of {len(disks)} disks)."
        if thin
        else "The volumes are thick: nothing would be gained.",
    )
    if not hypervisor.is_xen:
        yield DomainChoice(
            "disk-cache",
            "none, native",
            "The host's memory holds nothing that the guest believes to be on the disk.",
        )
    sizes = {storage.sector_size(disk, options) for disk in disks} - {0}
    if sizes:
        shown = ", ".join(str(size) for size in sorted(sizes))
        yield DomainChoice("disk-sectors", shown, "As the old disk's, in which its partition table counts.")


def _warnings(
    hypervisor: Hypervisor,
    guest: Guest,
    passport: Passport | None,
    disks: Sequence[DomainDisk],
    options: DomainOptions,
    bus: DiskBus,
    firmware: Firmware,
) -> Iterator[str]:
    label = LIMITS[hypervisor].label
    if driver := storage.missing_driver(guest, bus, options.conversion):
        yield driver
    if no_loader := loader.loader_warning(hypervisor, firmware, passport):
        yield no_loader
    if hypervisor.is_xen and len(disks) > LIMITS[hypervisor].buses[DiskBus.IDE] and bus is DiskBus.IDE:
        yield "Disks from the fifth on are Xen's own: a guest without Xen's drivers does not see them."
    for record in storage.unmatched(disks, passport):
        yield f"The disk {record.name} of the old machine ({record.wwid}) is none of the new one's."
    if passport is None:
        return
    if passport.secure_boot and firmware is Firmware.UEFI:
        if not LIMITS[hypervisor].secure_boot:
            yield f"Secure Boot was on in the old machine; {label} starts the guest without it."
        yield (
            "A key in the old machine's TPM (BitLocker, LUKS) does not move along, and none is made up: "
            "have the recovery key at hand."
        )
    elif guest.windows:
        yield "If BitLocker is on, have its recovery key at hand: the new machine has no TPM."
    if odd := board.clock_warning(hypervisor, guest, passport):
        yield odd
