"""What a starting guest shows, and what follows from it. Pure: bytes, pictures and seconds come in.

Signs of life, in the order of their worth: text on the serial port that the guest wrote, an answer of its
agent, a screen that changed after it was loaded. What tells that it will not boot counts more than any.
"""

import re
from dataclasses import dataclass

from p2vd.model.boot_test import Sign
from p2vd.model.size import MIB, format_size
from p2vd.registration.screen import Picture

SETTLE_S = 10.0
"""A first sign may be the boot loader's: for so long it is watched what follows."""

SETTLE_SCREEN_S = 30.0
"""Longer where only the screen changed: text and agent tell more, and come later."""

KEPT_CHARACTERS = 4000
_RESETS = 3
_SCREEN_CHANGED = 0.05
"""A share of the screen: more than a blinking cursor and a line of text."""

_BEYOND_FIRMWARE_BYTES = 4 * MIB
"""Who has read so much of the disks is no firmware any more: UEFI reads a boot loader of one or two MiB."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[@-Z\\-_=>]")
_CONTROL = re.compile(r"[^\n\t -~\u00a0-\uffff]")

# OVMF's own lines: its console is the serial port too. SeaBIOS writes none there.
_FIRMWARE_LINE = re.compile(
    r"^(BdsDxe:|UEFI |>>|Shell>|Mapping table|Press ESC|FS\d|BLK\d|\s+(BLK|FS|PciRoot|HD))"
)
_WORDS = re.compile(r"[A-Za-z]{3}")

_HOPELESS = (
    ("No bootable device", "the firmware found nothing to boot from"),
    ("No bootable option or device was found", "the firmware found nothing to boot from"),
    ("UEFI Interactive Shell", "the firmware found nothing to boot from and started its shell"),
    ("grub rescue>", "GRUB did not find its own files"),
    ("Minimal BASH-like line editing is supported", "GRUB stopped at its prompt"),
    ("Kernel panic - not syncing", "the kernel panicked"),
    ("Give root password for maintenance", "the system came up in emergency mode"),
    ("You are in emergency mode", "the system came up in emergency mode"),
    ("(initramfs)", "the initramfs did not find the root file system"),
    ("dracut:/#", "the initramfs did not find the root file system"),
)
"""What a console says that will not boot: SeaBIOS, OVMF, GRUB, Linux, systemd, initramfs-tools, dracut."""


@dataclass(frozen=True)
class Verdict:
    """What is to be said of the guest; `seen` is a sentence."""

    booted: bool
    sign: Sign
    seen: str


class Signs:
    """Gathers what is seen of one guest. Used by one thread."""

    def __init__(self, expect: str = "") -> None:
        """`expect`: a regular expression; with it, only serial text that matches counts. Raises re.error."""
        self._expect = re.compile(expect) if expect else None
        self._serial = ""
        self._firmware = ""
        self._found: dict[Sign, str] = {}
        self._since_s: float | None = None
        self._before: Picture | None = None
        self._read_bytes = 0
        self._resets = 0
        self._off = False
        self._matched = ""

    @property
    def serial_text(self) -> str:
        """The last text that came over the serial port, without escape sequences."""
        return _clean(self._serial)[-KEPT_CHARACTERS:]

    def serial(self, data: bytes, now_s: float) -> None:
        """Take bytes of the serial port."""
        # Kept longer than what is shown: an escape sequence may be cut in two.
        self._serial = (self._serial + data.decode("utf-8", "replace"))[-4 * KEPT_CHARACTERS :]
        text = _clean(self._serial)
        if self._expect is not None:
            if not self._matched and (match := self._expect.search(text)):
                self._matched = _line_of(text, match.start())
        elif line := _guest_line(text):
            self._note(Sign.SERIAL, f"its serial port said {line!r}", now_s)

    def firmware(self, data: bytes) -> None:
        """Take bytes of the BIOS's debug port."""
        self._firmware = (self._firmware + data.decode("utf-8", "replace"))[-KEPT_CHARACTERS:]

    def agent(self, now_s: float) -> None:
        """Take an answer of the guest's agent."""
        self._note(Sign.AGENT, "its guest agent answered", now_s)

    def screen(self, picture: Picture, now_s: float) -> None:
        """Take a picture of the screen: one that changed after the guest was loaded is a sign."""
        if self._before is None or self._read_bytes < _BEYOND_FIRMWARE_BYTES:
            self._before = picture
        elif picture.difference(self._before) >= _SCREEN_CHANGED:
            self._note(Sign.SCREEN, "its screen changed", now_s)

    def disks_read(self, total_bytes: int) -> None:
        """Take how much of its disks the guest has read so far; `screen` after it."""
        self._read_bytes = total_bytes

    def reset(self) -> None:
        """Take note that the guest was reset."""
        self._resets += 1

    def powered_off(self) -> None:
        """Take note that the guest switched itself off."""
        self._off = True

    def _note(self, sign: Sign, seen: str, now_s: float) -> None:
        self._found[sign] = seen
        if self._since_s is None:
            self._since_s = now_s

    def verdict(self, now_s: float, *, over: bool = False) -> Verdict | None:
        """Return what is to be said, None while it is too early; `over`: the time is up, say it now."""
        if self._matched:
            return Verdict(True, Sign.SERIAL, f"The guest booted: its serial port said {self._matched!r}.")
        if hopeless := self._hopeless():
            return Verdict(False, Sign.NONE, f"The guest does not boot: {hopeless}.")
        if self._expect is None and self._found:
            wait_s = SETTLE_SCREEN_S if set(self._found) == {Sign.SCREEN} else SETTLE_S
            settled = self._since_s is not None and now_s - self._since_s >= wait_s
            if over or settled or self._off:
                sign = next(sign for sign in (Sign.SERIAL, Sign.AGENT, Sign.SCREEN) if sign in self._found)
                ways = " and ".join(self._found[one] for one in Sign if one in self._found)
                return Verdict(True, sign, f"The guest lives: {ways}.")
            return None
        if self._off:
            return Verdict(False, Sign.NONE, f"The guest switched itself off{self._without()}.")
        if self._resets >= _RESETS:
            said = f"The guest was reset {self._resets} times{self._without()}."
            return Verdict(False, Sign.NONE, said)
        return Verdict(False, Sign.NONE, f"The time is up{self._without()}.") if over else None

    def _hopeless(self) -> str:
        for text in (_clean(self._serial), self._firmware):
            for said, meaning in _HOPELESS:
                if said in text:
                    return f"{meaning} ({_line_of(text, text.index(said))!r})"
        return ""

    def _without(self) -> str:
        read = f"; it read {format_size(self._read_bytes)} of its disks"
        if self._expect is None:
            return f" without a sign of life on serial port, agent or screen{read}"
        others = [seen for sign, seen in self._found.items() if sign is not Sign.SERIAL]
        lives = f", though {' and '.join(others)}" if others else ""
        return f" before its serial port said what was expected ({self._expect.pattern!r}){lives}{read}"


def _clean(text: str) -> str:
    """Return console text without escape sequences and control characters; carriage returns end lines."""
    plain = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", plain)


def _guest_line(text: str) -> str:
    """Return the last whole line that is a guest's and says something; "" where there is none."""
    whole = text.split("\n")[:-1]
    lines = (line.strip() for line in reversed(whole) if not _FIRMWARE_LINE.match(line))
    return next((line for line in lines if _WORDS.search(line)), "")


def _line_of(text: str, offset: int) -> str:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    return text[start : end if end >= 0 else len(text)].strip()
