"""The system bus of another host, over ssh: what `--host` means. Pure.

As systemctl does it: ssh runs systemd-stdio-bridge(1) there, and D-Bus is spoken through it, as the user that
ssh logs in as.
"""

import argparse
import re

_HOST = re.compile(r"(?P<name>[^\s:\[\]-][^\s:\[\]]*)(?::(?P<port>\d{1,5}))?")


def parse_host(text: str) -> str:
    """Return `text` where it is [USER@]HOST[:PORT]. Raises argparse.ArgumentTypeError."""
    if not _HOST.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not [USER@]HOST[:PORT]; what needs more (IPv6, keys) gets a name in ~/.ssh/config"
        )
    return text


def bus_address(host: str) -> str:
    """Return the D-Bus address of the system bus of `host`, which `parse_host` has let through."""
    match = _HOST.fullmatch(host)
    if match is None:
        raise ValueError(f"{host!r} is no host")
    port = ("-p", match["port"]) if match["port"] else ()
    # Behind -- nothing is an option of ssh, whatever the host is called.
    argv = ("-xT", *port, "--", match["name"], "systemd-stdio-bridge")
    words = [f"argv{number}={_escaped(word)}" for number, word in enumerate(argv, 1)]
    return ",".join(["unixexec:path=ssh", *words])


def _escaped(text: str) -> str:
    """As values of addresses are written: D-Bus specification, Server Addresses."""
    plain = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz/.\\"
    return "".join(chr(byte) if byte in plain else f"%{byte:02x}" for byte in text.encode())
