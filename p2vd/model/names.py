"""What a machine may be called: its name is the libvirt domain's, and a part of file names and LVs."""

import re

MACHINE_NAME_LENGTH = 63
"""How long a machine's name may be: a host name's label, and far below libvirt's file name limits."""

_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]*")


def machine_name_problem(name: str) -> str:
    """Return why `name` cannot be a machine's name, which is the libvirt domain's; "" if it can."""
    if not _MACHINE.fullmatch(name):
        return (
            f"{name!r} cannot name a machine: use letters, digits and + _ . - only, "
            "beginning with a letter or a digit."
        )
    if len(name) > MACHINE_NAME_LENGTH:
        return f"{name!r} is longer than {MACHINE_NAME_LENGTH} characters."
    return ""
