"""Each choice about a virtual machine's board, processors and memory, and why."""

from dataclasses import replace
from typing import Any

import pytest

from p2vd.domain.define import hypervisor_of
from p2vd.domain.guest import Family, guest_of
from p2vd.model.codec import from_json, to_json
from p2vd.model.domain import CpuMode, MachineType, NetworkRule, Video
from p2vd.model.passport import ClockOffset, Cpu, Passport
from p2vd.model.plan import DiskBus, DomainOptions, Firmware, VirtType
from p2vd.model.size import GIB, MIB, TIB
from tests.domain.machines import BONDED, WEB, WINDOWS
from tests.domain.making import XEN, choice, guest, made, refusal


def test_each_choice_says_why_in_a_sentence() -> None:
    for definition in (made(), made(BONDED, network="lan"), made(WINDOWS, base=XEN)):
        keys = [one.key for one in definition.choices]
        assert len(set(keys)) == len(keys)
        for one in definition.choices:
            assert one.value
            assert one.why[0].isupper()
            assert one.why.endswith((".", "EFI"))


def test_an_older_record_of_options_still_loads() -> None:
    old = (
        '{"bus":"virtio","firmware":"uefi","logical_block_size":0,"memory_bytes":2147483648,"network":"",'
        '"uri":"qemu:///system","vcpus":2,"virt_type":"kvm"}'
    )
    options = from_json(DomainOptions, old)
    assert options == DomainOptions(memory_bytes=2 * GIB, vcpus=2, firmware=Firmware.UEFI, bus=DiskBus.VIRTIO)
    full = replace(options, networks=(NetworkRule("lan", vlan=3),), nodes=("n",))
    assert from_json(DomainOptions, to_json(full)) == full


def test_a_hypervisor_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="esx"):
        hypervisor_of(DomainOptions("esx://"))


# ---- memory and processors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passport", "asked", "size", "why"),
    [
        (None, 0, 2 * GIB, "the default"),
        (WEB, 0, 16 * GIB, "by its passport"),
        (WEB, 3 * GIB, 3 * GIB, "policy"),
        (replace(WEB, memory_bytes=0), 0, 2 * GIB, "the default"),
        (replace(WEB, memory_bytes=GIB + 1), 0, GIB + MIB, "by its passport"),
    ],
)
def test_memory(passport: Passport | None, asked: int, size: int, why: str) -> None:
    definition = made(passport, memory_bytes=asked)
    assert definition.memory_bytes == size
    assert why in choice(definition, "memory").why


@pytest.mark.parametrize(
    ("cpu", "asked", "topology", "why"),
    [
        (None, 0, (1, 2, 1), "Neither policy nor passport"),
        (None, 6, (1, 6, 1), "limited by sockets"),
        (Cpu(sockets=2, cores=8, threads=2), 0, (2, 8, 2), "by its passport"),
        (Cpu(sockets=2, cores=8, threads=2), 16, (1, 8, 2), "as large as the old machine's"),
        (Cpu(sockets=2, cores=8, threads=2), 12, (1, 12, 1), "in one socket"),
        (Cpu(sockets=4, cores=60, threads=2), 0, (4, 60, 1), "without the second threads"),
        (Cpu(sockets=8, cores=60, threads=2), 0, (8, 31, 1), "fewer cores in each socket"),
        (Cpu(sockets=300), 0, (1, 255, 1), "in one socket"),
    ],
)
def test_processors(cpu: Cpu | None, asked: int, topology: tuple[int, int, int], why: str) -> None:
    definition = made(Passport("web1", cpu=cpu) if cpu else None, vcpus=asked)
    found = definition.topology
    assert (found.sockets, found.cores, found.threads) == topology
    assert why in choice(definition, "vcpus").why


def test_more_than_a_hypervisor_gives_is_refused() -> None:
    assert refusal(vcpus=256).key == "vcpus"
    assert "255 CPUs at most" in str(refusal(vcpus=256))
    assert "128 CPUs" in str(refusal(base=XEN, vcpus=129))
    assert "32 TiB" in str(refusal(memory_bytes=33 * TIB))
    assert refusal(replace(WEB, memory_bytes=2 * TIB), base=XEN).key == "memory"


@pytest.mark.parametrize(("memory", "bits"), [(976 * GIB, 0), (977 * GIB, 41), (2 * TIB, 42), (32 * TIB, 46)])
def test_much_memory_needs_wide_addresses(memory: int, bits: int) -> None:
    """As QEMU 7.2 refuses and takes it: 976 GiB with its 40 bits, 2 TiB with 42 and not with 41."""
    definition = made(memory_bytes=memory)
    assert definition.address_bits == bits
    assert any(one.key == "cpu-address-bits" for one in definition.choices) is bool(bits)


@pytest.mark.parametrize(
    ("options", "mode", "why"),
    [
        (DomainOptions(), CpuMode.HOST_MODEL, "same kind"),
        (DomainOptions(virt_type=VirtType.QEMU), CpuMode.MAXIMUM, "emulated"),
        (DomainOptions(cpu_mode=CpuMode.HOST_PASSTHROUGH), CpuMode.HOST_PASSTHROUGH, "policy"),
        (XEN, CpuMode.HOST_PASSTHROUGH, "Xen has no model"),
        (DomainOptions("proxmox"), CpuMode.HOST_PASSTHROUGH, "no model"),
    ],
)
def test_cpu_mode(options: DomainOptions, mode: CpuMode, why: str) -> None:
    definition = made(base=options)
    assert definition.cpu_mode is mode
    assert why in choice(definition, "cpu-mode").why


def test_a_processor_that_is_not_there() -> None:
    assert refusal(base=XEN, cpu_mode=CpuMode.HOST_MODEL).key == "cpu_mode"
    assert refusal(virt_type=VirtType.QEMU, cpu_mode=CpuMode.HOST_PASSTHROUGH).key == "cpu_mode"


# ---- board ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passport", "options", "kind", "why"),
    [
        (None, {}, MachineType.Q35, "PCI Express"),
        (guest(id="debian", kernel="3.16.0-4-amd64"), {}, MachineType.PC, "older than 4.0"),
        (guest(id="debian", kernel="4.19.0"), {}, MachineType.Q35, "PCI Express"),
        (guest(id="windows", version="5.2.3790"), {}, MachineType.PC, "IDE"),
        (guest(id="windows", version="5.2"), {"bus": DiskBus.SATA}, MachineType.PC, "older than PCI Express"),
        (None, {"machine_type": MachineType.PC}, MachineType.PC, "policy"),
        (None, {"base": XEN}, MachineType.PC, "one chipset"),
    ],
)
def test_machine_type(
    passport: Passport | None, options: dict[str, Any], kind: MachineType, why: str
) -> None:
    definition = made(passport, **options)
    assert definition.machine_type is kind
    assert why in choice(definition, "machine-type").why


def test_chipsets_that_cannot_be() -> None:
    assert refusal(machine_type=MachineType.Q35, bus=DiskBus.IDE).key == "machine_type"
    assert refusal(base=DomainOptions("kubevirt"), machine_type=MachineType.PC).key == "machine_type"
    secure = replace(WEB, firmware=Firmware.UEFI, secure_boot=True)
    assert "Secure Boot" in str(refusal(secure, machine_type=MachineType.PC, firmware=Firmware.UEFI))


def test_firmware_says_whence_it_is_known() -> None:
    assert "passport" in choice(made(WEB), "firmware").why
    assert (
        "though the old machine booted by bios" in choice(made(WEB, firmware=Firmware.UEFI), "firmware").why
    )
    uefi = made(firmware=Firmware.UEFI)
    assert "on the disk" in choice(uefi, "firmware").why
    assert choice(uefi, "nvram").value == "new"
    assert not any(one.key == "nvram" for one in made().choices)


@pytest.mark.parametrize(
    ("there", "said"),
    [(True, "which the old machine has."), (False, "does not have."), (None, "has it is not known.")],
)
def test_the_loader_of_the_first_start(there: bool | None, said: str) -> None:
    passport = replace(WEB, firmware=Firmware.UEFI, fallback_loader=there)
    definition = made(passport, firmware=Firmware.UEFI, network="lan")
    assert choice(definition, "nvram").why.endswith(said)
    assert len(definition.warnings) == (there is False)
    for warning in definition.warnings:
        assert warning.startswith("The EFI system partition of web1 has no \\EFI\\BOOT\\BOOTX64.EFI: ")
        assert "grub-install --force-extra-removable" in warning
        assert warning.endswith("at the first start.")
    on_kubevirt = made(passport, base=DomainOptions("kubevirt"), firmware=Firmware.UEFI)
    assert any(warning.endswith("at each start.") for warning in on_kubevirt.warnings) is (there is False)
    assert not any("BOOTX64" in warning for warning in made(passport, firmware=Firmware.BIOS).warnings)


def test_secure_boot_where_it_was_and_can_be() -> None:
    passport = replace(WEB, firmware=Firmware.UEFI, secure_boot=True)
    definition = made(passport, firmware=Firmware.UEFI)
    assert definition.secure_boot
    assert any("TPM" in warning for warning in definition.warnings)
    on_xen = made(passport, base=XEN, firmware=Firmware.UEFI)
    assert not on_xen.secure_boot
    assert any("without it" in warning for warning in on_xen.warnings)
    assert not made(passport, firmware=Firmware.BIOS).secure_boot


def test_video() -> None:
    assert made().video is Video.VGA
    assert made(video=Video.NONE).video is Video.NONE
    assert made(base=XEN, video=Video.VIRTIO).video is Video.VGA


def test_clock() -> None:
    assert choice(made(), "clock").value == "utc"
    assert choice(made(WINDOWS), "clock").value == "local"
    utc = replace(guest(id="windows"), clock=ClockOffset.UTC)
    assert choice(made(utc), "clock").value == "utc"
    assert "RealTimeIsUniversal" in choice(made(utc), "clock").why
    assert choice(made(WEB), "clock").why == "As the old machine's ran, by its passport."


@pytest.mark.parametrize(
    ("system", "kept", "why"),
    [
        ({"id": "windows"}, "local", "Windows keeps it in local time by default"),
        ({"id": "debian"}, "utc", "Linux keeps it in UTC by default"),
        ({}, "utc", "most systems"),
    ],
)
def test_a_clock_that_nobody_recorded_is_as_the_system_takes_it(
    system: dict[str, str], kept: str, why: str
) -> None:
    found = choice(made(guest(**system)), "clock")
    assert found.value == kept
    assert found.why.startswith("In which time the old machine's ran is not known;")
    assert why in found.why


@pytest.mark.parametrize("passport", [WINDOWS, replace(WINDOWS, clock=None)])
def test_local_time_where_there_is_none_is_warned_of(passport: Passport) -> None:
    on_kubevirt = made(passport, base=DomainOptions("kubevirt"))
    assert choice(on_kubevirt, "clock").value == "utc"
    assert "zone's name" in choice(on_kubevirt, "clock").why
    (warning,) = [one for one in on_kubevirt.warnings if "local time" in one]
    assert warning.endswith("KubeVirt gives the guest UTC.")


def test_small_devices_where_the_guest_has_use_for_them() -> None:
    linux, unknown = made(WEB), made()
    assert (linux.rng, linux.guest_agent, linux.hyperv) == (True, True, False)
    assert (unknown.rng, unknown.guest_agent, unknown.hyperv) == (False, False, False)
    assert made(WINDOWS).hyperv
    assert not made(WINDOWS, virt_type=VirtType.QEMU).hyperv
    assert not made(guest(id="windows", name="Windows Server 2003")).hyperv
    xen = made(WEB, base=XEN)
    assert (xen.rng, xen.guest_agent) == (False, False)


# ---- the guest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("Windows Server 2003 R2", (5, 2)),
        ("Windows XP Professional", (5, 1)),
        ("Windows 7 Professional", (6, 1)),
        ("Windows Server 2008 R2 Standard", (6, 1)),
        ("Windows Server 2008", (6, 0)),
        ("Windows Server 2012 R2", (6, 3)),
        ("Windows Server 2012", (6, 2)),
        ("Windows 10 Pro", (10, 0)),
        ("Microsoft Windows Server 2022", (10, 0)),
        ("Windows", None),
    ],
)
def test_windows_by_name(name: str, version: tuple[int, int] | None) -> None:
    found = guest_of(guest(id="windows", name=name))
    assert (found.family, found.version) == (Family.WINDOWS, version)


def test_a_system_that_nobody_wrote_down() -> None:
    assert guest_of(guest()).family is Family.UNKNOWN
    assert guest_of(None).label == "the guest's system"
