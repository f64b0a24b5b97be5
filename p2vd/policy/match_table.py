"""The tables `[rule.match]` and `[rule.target.lun]` of a policy: which disks are meant."""

import re

from p2vd.model.disk import Transport
from p2vd.model.fc import plain_wwn
from p2vd.policy.model import Match
from p2vd.policy.toml import Table

_WWN_DIGITS = 16
_WWN_GLOB = re.compile(r"[0-9a-f*?!\[\]-]+")


def match_of(table: Table) -> Match:
    """Return what the table says of the disks that it is for; all that is wrong in it is recorded there."""
    names = table.texts("transport")
    transports = {transport.value: transport for transport in Transport}
    for name in names:
        if name not in transports:
            allowed = ", ".join(f'"{value}"' for value in transports)
            table.error("transport", f"there is no transport {name!r}; allowed: {allowed}")
    size = table.table("size")
    match = Match(
        transport=tuple(transports[name] for name in names if name in transports),
        wwid=table.texts("wwid"),
        vendor=table.texts("vendor"),
        model=table.texts("model"),
        serial=table.texts("serial"),
        portal=table.texts("portal"),
        target=table.texts("target"),
        wwpn=_wwpns(table),
        machine=table.texts("machine"),
        size_min_bytes=size.size("min"),
        size_max_bytes=size.size("max"),
    )
    if "max" in size and not max(match.size_min_bytes, 1) <= match.size_max_bytes:
        size.error("max", "must not be less than min, nor zero")
    size.finish()
    table.finish()
    if not size.data and not any(key != "size" for key in table.data):
        table.error("", 'a rule needs a criterion; wwid = "*" matches every disk')
    return match


def _wwpns(table: Table) -> tuple[str, ...]:
    globs = tuple(plain_wwn(text) for text in table.texts("wwpn"))
    for glob in globs:
        if "*" not in glob and "[" not in glob and len(glob) != _WWN_DIGITS:
            table.error("wwpn", f"{glob!r} can match no WWPN: it has 16 hexadecimal digits, or write a *")
        elif not _WWN_GLOB.fullmatch(glob):
            table.error("wwpn", f"{glob!r} can match no WWPN: those have hexadecimal digits only")
    return globs
