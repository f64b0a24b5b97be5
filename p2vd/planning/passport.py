"""What a machine's disks tell of it where nobody wrote it down: how it boots, and what it is. Pure."""

from collections.abc import Iterator, Sequence

from p2vd.model.contents import BootStyle, Examination, Table
from p2vd.model.disk import Source
from p2vd.model.passport import Guess, GuestSystem, Passport, PassportDisk
from p2vd.model.plan import Firmware

# What libblkid calls what is on a system's own disk.
_LINUX = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "LVM2_member", "linux_raid_member", "crypto_LUKS"}
)
_WINDOWS = frozenset({"ntfs", "BitLocker"})


def guess_passport(name: str, sources: Sequence[Source]) -> Guess:
    """Return the record of the machine `name` whose disks are `sources`, in its order."""
    styles = frozenset(source.contents.boot for source in sources if source.contents) - {BootStyle.NONE}
    passport = Passport(
        name=name,
        written_by_hand=True,
        firmware=_firmware(styles),
        disks=tuple(_disk(source) for source in sources),
        system=GuestSystem(id=_system(sources)),
    )
    return Guess(passport, tuple(_notes(sources, styles, passport)))


def _firmware(styles: frozenset[BootStyle]) -> Firmware | None:
    found = [Firmware(style.value) for style in styles if style is not BootStyle.BOTH]
    return found[0] if len(styles) == len(found) == 1 else None


def _disk(source: Source) -> PassportDisk:
    contents = source.contents
    return PassportDisk(
        name=source.name,
        size_bytes=source.size_bytes,
        wwid=source.wwid,
        serial=source.serial,
        model=" ".join(filter(None, (source.vendor, source.model))),
        transport=source.transport.value,
        sector_size=source.sector_size,
        boots=contents is not None and contents.boot is not BootStyle.NONE,
        partition_table=contents.table.value if contents else "",
    )


def _system(sources: Sequence[Source]) -> str:
    """Return `linux` or `windows` where the disks hold what only one of them would."""
    types = {found.type for source in sources if source.contents for _, found in source.contents.places()}
    linux, windows = bool(types & _LINUX), bool(types & _WINDOWS)
    return "" if linux == windows else "linux" if linux else "windows"


def _notes(sources: Sequence[Source], styles: frozenset[BootStyle], passport: Passport) -> Iterator[str]:
    yield "Guessed from the disks alone. Write what is missing, such as clock, memory_bytes, [cpu] and"
    yield "[[nics]], as p2vd-machine(5) says; what is left out stays unknown."
    yield "Then: p2vctl machine import FILE"
    for source in sources:
        contents = source.contents
        if contents is None:
            why = f": {source.examination_problem}" if source.examination_problem else "."
            yield f"What is on {source} is not known ({source.examination.value}){why}"
        elif contents.table in (Table.GPT_OTHER_SECTORS, Table.GPT_DAMAGED):
            yield f"The partition table of {source} could not be read ({contents.table.value})."
        elif source.examination is not Examination.DONE:
            yield f"{source} is being looked at again: this is what was on it before."
    if styles and passport.firmware is None:
        found = ", ".join(sorted(style.value for style in styles))
        yield f'Its disks can boot by more than one firmware ({found}): say firmware = "bios" or "uefi".'
    elif not styles and all(source.contents for source in sources):
        yield "None of these disks is made to boot from: is one of the machine's disks missing?"
