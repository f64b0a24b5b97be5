"""A definition as a configuration of Xen's xl, xl.cfg(5). Pure."""

from collections.abc import Iterator

from p2vd.domain.definition import DefinedDisk, DefinedNic, Definition, DiskKind
from p2vd.model.domain import Video
from p2vd.model.passport import ClockOffset
from p2vd.model.plan import Firmware
from p2vd.model.size import MIB


def xl_cfg(definition: Definition) -> str:
    """Return the file; `xl create FILE` starts the machine. NICs are on bridges, by their names.

    Raises ValueError where a text has a character that xl.cfg has no way to write.
    """
    return "\n".join(_lines(definition)) + "\n"


def _lines(definition: Definition) -> Iterator[str]:
    yield f"# Written by p2vd for the machine {definition.uuid}. Start it: xl create {definition.name}.cfg"
    yield "# The volumes must be active on the host that starts it (lvchange -ay), and on no other."
    yield f"name = {_quoted(definition.name)}"
    yield f"uuid = {_quoted(definition.uuid)}"
    yield 'type = "hvm"'
    yield f"memory = {definition.memory_bytes // MIB}"
    yield f"vcpus = {definition.topology.count}"
    yield f'bios = "{"ovmf" if definition.firmware is Firmware.UEFI else "seabios"}"'
    yield f"localtime = {int(definition.clock is ClockOffset.LOCAL)}"
    if definition.hyperv:
        yield "viridian = 1"
    yield from _list("disk", [_disk(disk) for disk in definition.disks])
    yield from _list("vif", [_nic(nic) for nic in definition.nics])
    if definition.firmware is not Firmware.UEFI:
        yield 'boot = "c"'
    if definition.video is Video.NONE:
        yield 'vga = "none"'
        yield "nographic = 1"
    else:
        yield 'vga = "stdvga"'
        yield "vnc = 1"
        yield 'vnclisten = "127.0.0.1"'
    yield 'serial = "pty"'
    yield 'on_poweroff = "destroy"'
    yield 'on_reboot = "restart"'
    yield 'on_crash = "restart"'


def _list(key: str, items: list[str]) -> Iterator[str]:
    if not items:
        yield f"{key} = []"
        return
    yield f"{key} = ["
    yield from (f"    {_quoted(item)}," for item in items)
    yield "]"


def _disk(disk: DefinedDisk) -> str:
    """By xl-disk-configuration(5); `target=` comes last, for all that follows it belongs to the path."""
    parts = [f"format={disk.format.value}", f"vdev={disk.target}", "access=rw"]
    parts.append("backendtype=phy" if disk.kind is DiskKind.BLOCK else "backendtype=qdisk")
    parts.append("discard" if disk.discard else "no-discard")
    return ", ".join([*parts, f"target={disk.devnode}"])


def _nic(nic: DefinedNic) -> str:
    """By xl-network-configuration(5); `ioemu` is the emulated card beside Xen's own."""
    return f"mac={nic.mac}, bridge={nic.network}, model={nic.model.value}, type=ioemu"


def _quoted(text: str) -> str:
    """A string of xl.cfg, which knows no escapes: it may hold one kind of quotes, not both."""
    if not text.isprintable() or ('"' in text and "'" in text):
        raise ValueError(f"xl.cfg cannot say {text!r}")
    return f"'{text}'" if '"' in text else f'"{text}"'
