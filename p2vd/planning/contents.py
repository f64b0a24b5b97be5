"""What follows for a migration from what is on a disk: reasons against it, and warnings. Pure."""

from collections.abc import Iterator

from p2vd.model.contents import (
    UNDER_EXAMINATION,
    BootStyle,
    Contents,
    Examination,
    Findings,
    Signature,
    Table,
)
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.passport import Passport
from p2vd.model.plan import DomainOptions, Firmware
from p2vd.model.size import format_size
from p2vd.policy.model import FirmwareChoice, Rule

HIBERNATED = "hibernated"

_ENCRYPTED = {"crypto_LUKS": "LUKS", "BitLocker": "BitLocker"}
_MEMBERS = {
    "linux_raid_member": "a Linux RAID array",
    "zfs_member": "a ZFS pool",
    "bcache": "a bcache",
    "drbd": "a DRBD device",
    "VMFS_volume_member": "a VMFS datastore",
}
_MEMBER = "_member"
_PV = "LVM2_member"
_UNREAD = (Table.GPT_OTHER_SECTORS, Table.GPT_DAMAGED)
"""A disk with such a table may well boot: nobody could read it."""

UNDER_EXAMINATION_CODE = "under-examination"


def findings(source: Source, rule: Rule | None) -> Findings:
    """Return all that is to be said of a source, where `rule` is the one for it."""
    return Findings(
        (*source.reasons, *contents_reasons(source, rule)),
        (*source.warnings, *contents_warnings(source, rule)),
    )


def under_examination(source: Source) -> Reason:
    """Return the reason for a source whose contents are being read."""
    return Reason(UNDER_EXAMINATION_CODE, f"{source} {UNDER_EXAMINATION}. Plan again in a moment.")


def contents_reasons(source: Source, rule: Rule | None) -> tuple[Reason, ...]:
    """Return what of the source's contents forbids its migration by `rule`, each with the remedy."""
    return (*_unknown(source), *_reserved(source), *_hibernated(source, rule))


def contents_warnings(source: Source, rule: Rule | None) -> tuple[Reason, ...]:
    """Return what of its contents should be known before it is migrated."""
    warnings = []
    if not source.is_plain and source.examination is Examination.NO and source.contents is None:
        why = source.examination_problem or "nobody has looked."
        warnings.append(
            Reason(
                "not-examined",
                f"What is on {source} is known only after its copy: {why} Whether it boots, is encrypted or "
                'was shut down has to be seen otherwise; firmware = "auto" is that of the record, or BIOS.',
            )
        )
    if source.examination is Examination.FAILED:
        warnings.append(
            Reason(
                "not-examined",
                f"What is on {source} is not known: {source.examination_problem} It is copied byte by byte "
                "all the same; whether it boots, is encrypted or was shut down has to be seen otherwise.",
            )
        )
    contents = source.contents
    if contents is None:
        return tuple(warnings)
    warnings += [Reason("contents-unread", f"{source}: {problem}") for problem in contents.problems]
    warnings += [*_table(source, contents), *_keys(source, contents)]
    for where, found in contents.places():
        warnings += _signature(source, where, found, rule)
    if contents.blank and contents.table is Table.NONE and not contents.signature.type:
        warnings.append(
            Reason("blank", f"The first and last MiB of {source} are zero: is it the disk that is meant?")
        )
    return tuple(warnings)


def firmware(source: Source, rule: Rule, passport: Passport | None = None) -> Firmware:
    """Return what the virtual machine boots by: as the rule says, else as the disk was made for.

    A disk that does not tell is the machine's, and its passport knows.

    Where a disk carries loaders for both, that for BIOS is complete in itself; one for UEFI may need
    boot entries, which are kept in the old machine's firmware.
    """
    if rule.firmware is not FirmwareChoice.AUTO:
        return Firmware(rule.firmware.value)
    style = source.contents.boot if source.contents is not None else BootStyle.NONE
    if passport is not None and passport.firmware is not None and style in (BootStyle.NONE, BootStyle.BOTH):
        return passport.firmware
    uefi = style is BootStyle.UEFI
    return Firmware.UEFI if uefi else Firmware.BIOS


def boots_nowhere(source: Source) -> bool:
    """Whether the disk was read and has nothing on it that a firmware starts."""
    contents = source.contents
    return contents is not None and contents.table not in _UNREAD and contents.boot is BootStyle.NONE


def boot_warnings(source: Source, rule: Rule, domain: DomainOptions) -> Iterator[str]:
    """Yield what keeps the virtual machine from booting by its firmware."""
    contents = source.contents
    if contents is None or contents.table in _UNREAD:
        return
    style, chosen = contents.boot, domain.firmware.value
    if style is BootStyle.NONE:
        yield (
            f"Nothing on {source} is made to boot from: neither boot code with a partition to start, nor an "
            "EFI system partition. As the first disk of a machine it will not boot."
        )
    elif style is BootStyle.BOTH and rule.firmware is FirmwareChoice.AUTO:
        yield (
            f"{source} can boot by BIOS and by UEFI; {chosen} is taken. If its machine booted by the other, "
            f'set domain.firmware in the policy "{rule.name}".'
        )
    elif style is not BootStyle.BOTH and style.value != chosen:
        yield (
            f'{source} was made to boot by {style.value}, and the policy "{rule.name}" says domain.firmware '
            f'= "{chosen}": the virtual machine will not boot. Set "{style.value}" or "auto".'
        )


def backup_table(source: Source, target_bytes: int) -> Iterator[str]:
    """Yield what to know of a GPT where the disk gets larger: its second copy belongs at the very end."""
    more = target_bytes - source.size_bytes
    if more > 0 and source.contents is not None and source.contents.table in (Table.GPT, Table.HYBRID):
        yield (
            f"The second copy of {source}'s GPT stays where the old disk ended, {format_size(more)} before "
            "the end of the new one: p2vd changes no byte. The guest starts all the same; if its tools "
            "complain, or to use the space, run sgdisk -e on the disk in the guest."
        )


def _unknown(source: Source) -> Iterator[Reason]:
    if source.examination is Examination.UNDER_WAY and source.contents is None:
        yield under_examination(source)
    if source.examination is Examination.SILENT:
        yield Reason(
            "no-answer",
            f"{source} does not answer reads: {source.examination_problem} {_where_to_look(source)}, "
            "then plan again.",
        )


def _where_to_look(source: Source) -> str:
    if source.export is not None:
        return "Look at its server and at the network to it"
    if not source.device:
        return "Look at its file server and the kernel's log (dmesg)"
    return "Look at its paths (multipath -ll) and the kernel's log (dmesg)"


def _reserved(source: Source) -> Iterator[Reason]:
    held = source.contents.reservation if source.contents else None
    if held is not None:
        yield Reason(
            "reserved",
            f"{source} is reserved by a host with the key {held.key} ({held.type}): it may be alive and "
            "write. Shut it down, or end its reservation from there (sg_persist --out --release), then plan "
            "again.",
        )


def _hibernated(source: Source, rule: Rule | None) -> Iterator[Reason]:
    if source.contents is None or (rule is not None and rule.allow_hibernated):
        return
    for where, found in source.contents.places():
        if found.hibernated:
            yield Reason(
                HIBERNATED,
                f"The machine of {source} is hibernated ({found.type} on {where}), not shut down: what it "
                "has in memory would be lost, and it may wake and write. Start it, shut it down for good "
                "(Windows: shutdown /s /t 0, or powercfg /h off against fast startup), then plan again. If "
                "it cannot be started, write source.allow_hibernated = true in its policy.",
            )


def _table(source: Source, contents: Contents) -> Iterator[Reason]:
    if contents.table is Table.HYBRID:
        yield Reason(
            "hybrid-table",
            f"{source} has a GPT and an MBR that names partitions too. Both are copied; a tool that later "
            "changes one makes them disagree.",
        )
    elif contents.table is Table.GPT_OTHER_SECTORS:
        yield _other_sectors(source)
    elif contents.table is Table.GPT_DAMAGED:
        yield Reason(
            "gpt-damaged",
            f"The GPT of {source} is damaged or was made on a larger disk. Compare its size with the "
            "physical disk's, and look at it with sgdisk --verify.",
        )


def _other_sectors(source: Source) -> Reason:
    """Return the warning of a GPT whose sectors are not those by which the disk is shown here."""
    other = 512 if source.sector_size == 4096 else 4096
    if source.export is not None:
        shows = f"its [[nbd]] table says {source.sector_size}"
        remedy = f"Write sector_size = {other} there"
    elif not source.device:
        shows = f"an image does not tell its disk's: it is taken for one with {source.sector_size}"
        remedy = (
            "Serve it as an NBD export (qemu-nbd --read-only, or nbdkit), with "
            f"sector_size = {other} in its [[nbd]] table, and migrate that"
        )
    else:
        shows = f"the LUN shows {source.sector_size}"
        remedy = f"Have the array show it with {other}-byte sectors"
    return Reason(
        "gpt-other-sectors",
        f"The GPT of {source} was written on a disk with sectors of {other} bytes, and {shows}: no system "
        f"finds its partitions this way. {remedy}.",
    )


def _keys(source: Source, contents: Contents) -> Iterator[Reason]:
    if contents.registered_keys and contents.reservation is None:
        yield Reason(
            "registered-keys",
            f"Reservation keys are registered on {source} ({contents.registered_keys}), without a "
            "reservation: it belongs to a cluster. Make sure that all of its hosts are shut down.",
        )


def _signature(source: Source, where: str, found: Signature, rule: Rule | None) -> Iterator[Reason]:
    if found.ambiguous:
        kinds = " and ".join(found.type.split("|"))
        yield Reason(
            "ambiguous",
            f"On {where} of {source} there are signatures of {kinds}: one is a leftover. The machine's own "
            "system knows which; look with wipefs --no-act before trusting a tool's choice.",
        )
    elif found.type in _ENCRYPTED:
        yield Reason(
            "encrypted",
            f"{where.capitalize()} of {source} is encrypted ({_ENCRYPTED[found.type]}): no zeros are found "
            "in it, so a thin volume gets its full size. A key in the old machine's TPM does not move along: "
            "have the passphrase or recovery key at hand.",
        )
    elif found.type == _PV:
        vg = f"the volume group {found.volume_group}" if found.volume_group else "no volume group"
        yield Reason(
            "guest-pv",
            f"{where.capitalize()} of {source} is a physical volume of {vg} of the machine. p2vd does not "
            "activate it; if the volume group has other disks, they have to move together with this one.",
        )
    elif found.type in _MEMBERS or found.type.endswith(_MEMBER):
        whole = _MEMBERS.get(found.type, f"a set ({found.type})")
        yield Reason(
            "member",
            f"{where.capitalize()} of {source} is a member of {whole}: all its members have to move "
            "together.",
        )
    elif found.hibernated and rule is not None and rule.allow_hibernated:
        yield Reason(
            HIBERNATED,
            f"The machine of {source} is hibernated ({found.type} on {where}); the policy "
            f'"{rule.name}" allows that. What it had in memory is lost, or it resumes on other hardware.',
        )
    elif found.dirty:
        yield Reason(
            "ntfs-dirty",
            f"The NTFS on {where} of {source} was not unmounted cleanly: Windows checks it at its next "
            "start, and conversion refuses it until then. Better start the machine and shut it down first.",
        )
