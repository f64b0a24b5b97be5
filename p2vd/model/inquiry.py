"""What disks say of themselves, made fit to be shown. Grammar of Python 3.6: p2vd-collect has it too."""

from typing import Union


def clean_inquiry(raw: Union[str, bytes]) -> str:
    """Return a string of an INQUIRY answer without NULs, control characters and bad UTF-8.

    One odd LUN must not break a D-Bus reply: dbus-python refuses NUL and invalid UTF-8.
    """
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    text = text.encode("utf-8", "replace").decode("utf-8")
    # Nearly every string is plain but for blanks at its end, and a host has tens of thousands of them.
    plain = " ".join(text.split())
    if plain.isprintable():
        return plain
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
