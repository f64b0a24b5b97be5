"""What on this host would take hold of a guest's disk (design: §4.11), each with the remedy."""

from pathlib import Path

from p2vd.model.doctor import UdevRule
from p2vd.model.errors import OutputUnclear, Reason
from p2vd.system.command import Commands

# In udev's order: a file hides one of the same name in a later directory.
_RULE_DIRECTORIES = (
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
)

QUARANTINE_RULES = ("59-p2vd-quarantine.rules", "62-p2vd-quarantine-disks.rules")

_KPARTX = "60-kpartx.rules"
_MDADM = "64-md-raid-assembly.rules"
_LVM = "69-lvm.rules"

_REMEDY = "Install p2vd's udev rules ({rules}; setup.py install_host does), then udevadm control --reload."


def read_exposures(commands: Commands, root: Path = Path("/")) -> tuple[Reason, ...]:
    """Return what may take hold of guest disks, none where p2vd's udev rules are in effect.

    Raises CommandFailed, CommandTimedOut, OutputUnclear.
    """
    settings = _lvm_settings(commands)
    reasons = []
    if settings.get("scan_lvs") == "1":
        reasons.append(
            Reason(
                "scan-lvs",
                "LVM looks for physical volumes inside logical volumes (devices/scan_lvs=1): it would find a "
                "guest's volume groups inside p2vd's targets. Set scan_lvs=0 in /etc/lvm/lvm.conf.",
            )
        )
    missing = [rule for rule in QUARANTINE_RULES if not _in_effect(root, rule)]
    if not missing:
        return tuple(reasons)
    remedy = _REMEDY.format(rules=" and ".join(missing))
    if _in_effect(root, _KPARTX):
        reasons.append(
            Reason("kpartx", f"udev makes partition maps on multipath maps by kpartx ({_KPARTX}). {remedy}")
        )
    if _in_effect(root, _MDADM):
        reasons.append(Reason("mdadm", f"udev assembles RAID arrays that it finds ({_MDADM}). {remedy}"))
    if _in_effect(root, _LVM) and settings.get("event_activation") != "0":
        reasons.append(
            Reason(
                "event-activation",
                f"LVM activates volume groups as their disks appear ({_LVM}, global/event_activation=1). "
                f"{remedy}",
            )
        )
    return tuple(reasons)


def read_system_id(commands: Commands) -> str:
    """Return this host's LVM system ID, "" where it has none.

    Raises CommandFailed, CommandTimedOut, OutputUnclear.
    """
    answer = commands.query(["lvm", "systemid"]).stdout
    name, colon, system_id = answer.partition(":")
    if name.split() != ["system", "ID"] or not colon:
        raise OutputUnclear("lvm systemid", answer[:80])
    return system_id.strip()


def _lvm_settings(commands: Commands) -> dict[str, str]:
    names = ["devices/scan_lvs", "global/event_activation"]
    answer = commands.query(["lvm", "lvmconfig", "--type", "full", *names]).stdout
    pairs = (line.partition("=") for line in answer.splitlines())
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    if any(settings.get(name.partition("/")[2]) not in ("0", "1") for name in names):
        raise OutputUnclear("lvm lvmconfig " + " ".join(names), answer[:80])
    return settings


def rule_in_effect(root: Path, name: str) -> UdevRule:
    """Return which file udev reads of that name: the first one counts; empty or /dev/null is none.

    `hides` is set where a package's file of that name says something else.
    """
    files = [file for file in (root / directory / name for directory in _RULE_DIRECTORIES) if _is_there(file)]
    if not files:
        return UdevRule(name)
    first, last = files[0], files[-1]
    if _is_null(first) or first.stat().st_size == 0:
        return UdevRule(name, str(first), masked=True)
    differs = not _is_null(last) and first.read_bytes() != last.read_bytes()
    return UdevRule(name, str(first), hides=str(last) if differs else "")


def _in_effect(root: Path, name: str) -> bool:
    rule = rule_in_effect(root, name)
    return bool(rule.file) and not rule.masked


def _is_null(file: Path) -> bool:
    return file.is_symlink() and str(file.readlink()) == "/dev/null"


def _is_there(file: Path) -> bool:
    return file.exists() or _is_null(file)
