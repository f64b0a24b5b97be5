"""Whether the machine would start without its firmware's boot entries, which do not move along."""

from typing import List, Optional

from p2vd.discovery.passport.reading import Host, mounts

# Where systems mount their EFI system partition; systemd-boot also as /boot.
_ESP_MOUNTS = ("/boot/efi", "/efi", "/boot")
_FAT = ("vfat", "msdos")
# UEFI 2.10, 3.5.1.1: what firmware starts of a disk where no entry says otherwise.
_FALLBACK = ("EFI", "BOOT", "BOOTX64.EFI")


def fallback_loader(host: Host, live: bool) -> Optional[bool]:
    """Return the record's key `fallback_loader`: whether the ESP has it; None: no ESP was there to look at.

    `live`: this is a rescue system with nothing of the machine mounted; then an ESP is the rescue system's.
    """
    if live:
        return None
    found = [_has(host, place) for place in _mounted(host)]
    told = [answer for answer in found if answer is not None]
    if told:
        return any(told)
    if host.has("/sys/firmware/efi"):
        host.problem(
            "Whether the machine starts without its firmware's boot entries is not known: no EFI system "
            "partition can be read at /boot/efi, /efi or /boot."
        )
    return None


def _mounted(host: Host) -> List[str]:
    """Return where EFI system partitions of the machine's own system are mounted, as that sees it."""
    for place in _ESP_MOUNTS:
        host.own_names(place)  # where systemd mounts at the first look, nothing is mounted before
    prefix = host.system_root[len(host.root) :]
    fat = {mount.place for mount in mounts(host) if mount.kind in _FAT}
    return [place for place in _ESP_MOUNTS if prefix + place in fat]


def _has(host: Host, place: str) -> Optional[bool]:
    """Whether the partition mounted there has the loader; None where it has no EFI directory to look in."""
    for depth, wanted in enumerate(_FALLBACK):
        # FAT does not tell upper from lower case; how it is mounted decides whether a look-up does.
        names = host.own_names(place)
        entry = next((name for name in names if name.upper() == wanted), "")
        if not entry:
            return False if depth and names else None  # of an empty one nothing is believed
        place = f"{place}/{entry}"
    return True
