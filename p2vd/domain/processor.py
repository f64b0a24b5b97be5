"""The guest's processors and memory."""

from p2vd.domain.definition import Chosen, Hypervisor, Topology, chosen
from p2vd.domain.errors import DomainImpossible
from p2vd.domain.limits import LIMITS
from p2vd.model.domain import CpuMode
from p2vd.model.passport import Passport
from p2vd.model.plan import DomainOptions, VirtType
from p2vd.model.size import GIB, MIB, TIB, format_size, round_up

DEFAULT_MEMORY = 2 * GIB
DEFAULT_VCPUS = 2

_DEFAULT_BITS = 40
_DEFAULT_BITS_HOLD = 976 * GIB
"""QEMU 7.2 with its default 40 bits of address takes 976 GiB and refuses 980 (seen)."""

_BEYOND = TIB + 32 * GIB
"""QEMU lets so much memory begin anew at 1 TiB, and has its PCI window behind it: 30 GiB more (seen)."""


def memory(
    name: str, hypervisor: Hypervisor, passport: Passport | None, options: DomainOptions
) -> Chosen[int]:
    """Return the memory in bytes, in whole MiB. Raises DomainImpossible."""
    limits = LIMITS[hypervisor]
    if options.memory_bytes:
        size, why = options.memory_bytes, "The policy says so."
    elif passport is not None and passport.memory_bytes:
        size, why = passport.memory_bytes, "As much as the old machine had, by its passport."
    else:
        size, why = DEFAULT_MEMORY, "Neither policy nor passport says how much: the default."
    size = round_up(size, MIB)
    if size > limits.max_memory_bytes:
        raise DomainImpossible(
            name,
            "memory",
            f"{limits.label} gives a guest {format_size(limits.max_memory_bytes)} of memory at most, and "
            f"this is {format_size(size)}. Write a smaller domain.memory.",
        )
    return chosen("memory", size, why, format_size(size))


def topology(
    name: str, hypervisor: Hypervisor, passport: Passport | None, options: DomainOptions
) -> Chosen[Topology]:
    """Return how many processors, and in how many sockets. Raises DomainImpossible."""
    limits = LIMITS[hypervisor]
    cpu = passport.cpu if passport is not None else None
    if options.vcpus > limits.max_vcpus:
        raise DomainImpossible(
            name,
            "vcpus",
            f"{limits.label} gives a guest {limits.max_vcpus} CPUs at most, not {options.vcpus}. "
            "Write a smaller domain.vcpus.",
        )
    made, why = (
        _within(Topology(cpu.sockets, cpu.cores, cpu.threads), limits.max_vcpus) if cpu else (None, "")
    )
    if cpu is not None and made is not None and options.vcpus in (0, made.count):
        if why:
            most = f"{limits.label} gives {limits.max_vcpus} at most"
            why = f"The old machine had {cpu.count} CPUs, {most}: {why}"
        else:
            why = "Sockets, cores and threads of the old machine, by its passport."
    else:
        vcpus = options.vcpus or DEFAULT_VCPUS
        said = "The policy says" if options.vcpus else "Neither policy nor passport says:"
        core = Topology(1, cpu.cores, cpu.threads) if cpu is not None else Topology(1, 1, 1)
        if core.count > 1 and vcpus % core.count == 0:
            made = Topology(vcpus // core.count, core.cores, core.threads)
            why = f"{said} {vcpus} CPUs; the sockets are as large as the old machine's."
        else:
            made = Topology(1, vcpus, 1)
            why = f"{said} {vcpus} CPUs; in one socket, for systems are licensed and limited by sockets."
    if not limits.topology:
        return chosen("vcpus", made, f"{why} {limits.label} shows each as a socket.", str(made.count))
    shown = f"{made.count} (sockets {made.sockets}, cores {made.cores}, threads {made.threads})"
    return chosen("vcpus", made, why, shown)


def _within(asked: Topology, limit: int) -> tuple[Topology, str]:
    """Return the topology within the limit, and what was left out of it."""
    if asked.count <= limit:
        return asked, ""
    single = Topology(asked.sockets, asked.cores, 1)
    if single.count <= limit:
        return single, "without the second threads of its cores."
    cores = limit // asked.sockets
    if cores:
        return Topology(asked.sockets, cores, 1), "fewer cores in each socket, without second threads."
    return Topology(1, limit, 1), "in one socket."


def cpu_mode(name: str, hypervisor: Hypervisor, options: DomainOptions) -> Chosen[CpuMode]:
    """Return which processor the guest sees. Raises DomainImpossible."""
    limits, asked = LIMITS[hypervisor], options.cpu_mode
    emulated = options.virt_type is VirtType.QEMU and hypervisor is Hypervisor.QEMU
    if asked is not CpuMode.AUTO:
        if asked not in limits.cpu_modes or (emulated and asked is CpuMode.HOST_PASSTHROUGH):
            run = f"{limits.label} with an emulated processor" if emulated else limits.label
            raise DomainImpossible(
                name, "cpu_mode", f'{run} has no processor "{asked.value}". Write "auto" or leave it out.'
            )
        return chosen("cpu-mode", asked, "The policy says so.")
    if CpuMode.HOST_MODEL not in limits.cpu_modes:
        why = f"{limits.label} has no model of the host's processor: the guest sees that itself."
        return chosen("cpu-mode", CpuMode.HOST_PASSTHROUGH, why)
    if emulated:
        why = "An emulated processor has all that QEMU can do: its default is too old for present systems."
        return chosen("cpu-mode", CpuMode.MAXIMUM, why)
    why = "As new as the host's, and the guest can move to a host of the same kind."
    return chosen("cpu-mode", CpuMode.HOST_MODEL, why)


def address_bits(hypervisor: Hypervisor, memory_bytes: int) -> Chosen[int] | None:
    """Return how wide physical addresses must be; None: QEMU's default suffices, or is not ours to set."""
    if hypervisor is not Hypervisor.QEMU or memory_bytes <= _DEFAULT_BITS_HOLD:
        return None
    bits = (memory_bytes + _BEYOND - 1).bit_length()
    why = f"{format_size(memory_bytes)} of memory do not fit into QEMU's default of {_DEFAULT_BITS} bits."
    return chosen("cpu-address-bits", bits, why)
