"""By which loader a UEFI guest starts for the first time, when its firmware knows no boot entries yet."""

from collections.abc import Iterator

from p2vd.domain.definition import Hypervisor
from p2vd.model.domain import DomainChoice
from p2vd.model.passport import Passport
from p2vd.model.plan import Firmware

_FALLBACK = "\\EFI\\BOOT\\BOOTX64.EFI"


def nvram(hypervisor: Hypervisor, firmware: Firmware, passport: Passport | None) -> Iterator[DomainChoice]:
    """Yield what becomes of the boot entries, where the firmware is UEFI."""
    if firmware is not Firmware.UEFI:
        return
    if hypervisor is Hypervisor.KUBEVIRT:
        value, why = "new at each start", "KubeVirt would want a storage for them; each start is by"
    else:
        value, why = "new", "Boot entries stay in the old firmware; the first start is by"
    known = {
        True: ", which the old machine has.",
        False: ", which the old machine does not have.",
        None: ". Whether the old machine has it is not known.",
    }
    there = passport.fallback_loader if passport is not None else None
    yield DomainChoice("nvram", value, f"{why} {_FALLBACK}{known[there]}")


def loader_warning(hypervisor: Hypervisor, firmware: Firmware, passport: Passport | None) -> str:
    """Return what to tell where the guest is known not to start by itself; "" else."""
    if firmware is not Firmware.UEFI or passport is None or passport.fallback_loader is not False:
        return ""
    starts = "each start" if hypervisor is Hypervisor.KUBEVIRT else "the first start"
    return (
        f"The EFI system partition of {passport.name} has no {_FALLBACK}: firmware without boot entries, as "
        "the virtual machine's, does not find its loader. Before the copy, write it in the old machine "
        "(grub-install --force-extra-removable on Debian, bootctl install with systemd-boot) and collect its "
        f"record again. Or choose the loader in the firmware's menu at {starts}."
    )
