"""What is made of a guest's signs; texts are SeaBIOS's, OVMF's, GRUB's and Linux's as QEMU showed them."""

import pytest

from p2vd.model.boot_test import Sign
from p2vd.model.size import MIB
from p2vd.registration.screen import Picture
from p2vd.registration.signs import SETTLE_S, SETTLE_SCREEN_S, Signs, Verdict

OVMF = (
    b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: loading Boot0001 "
    b'"UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0)\r\n'
    b'BdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x1,0x0)\r\n'
)
LOGIN = b"\r\nDebian GNU/Linux 12 erp ttyS0\r\n\r\nerp login: "
BLACK = Picture(720, 400, bytes(720 * 400 * 3))
WHITE = Picture(720, 400, b"\xff" * (720 * 400 * 3))


def over(signs: Signs, now_s: float = 0.0) -> Verdict:
    verdict = signs.verdict(now_s, over=True)
    assert verdict is not None
    return verdict


def test_text_of_a_guest_is_a_sign_once_it_settled() -> None:
    signs = Signs()
    signs.serial(OVMF + LOGIN, 100.0)
    assert signs.verdict(100.0 + SETTLE_S - 1) is None
    assert signs.verdict(100.0 + SETTLE_S) == Verdict(
        True, Sign.SERIAL, "The guest lives: its serial port said 'Debian GNU/Linux 12 erp ttyS0'."
    )
    assert signs.serial_text.endswith("erp login: ")
    assert "\x1b" not in signs.serial_text


def test_what_the_firmware_writes_is_none() -> None:
    signs = Signs()
    signs.serial(OVMF, 0.0)
    signs.disks_read(3 * MIB)
    assert signs.verdict(500.0) is None
    verdict = over(signs, 500.0)
    assert not verdict.booted
    assert verdict.seen == (
        "The time is up without a sign of life on serial port, agent or screen; it read 3 MiB of its disks."
    )


def test_bytes_come_as_they_come() -> None:
    signs = Signs("erp login:")
    for byte in OVMF + LOGIN:
        signs.serial(bytes([byte]), 0.0)
    assert over(signs).booted


def test_what_is_expected_counts_alone_and_at_once() -> None:
    signs = Signs(r"erp\d+ ready")
    signs.serial(LOGIN, 0.0)
    signs.agent(0.0)
    assert signs.verdict(500.0) is None
    signs.serial(b"\r\nerp12 ready, all of it\r\n", 500.0)
    assert signs.verdict(500.0) == Verdict(
        True, Sign.SERIAL, "The guest booted: its serial port said 'erp12 ready, all of it'."
    )


def test_what_was_expected_and_did_not_come_is_named_with_what_did() -> None:
    signs = Signs("erp1 ready")
    signs.agent(0.0)
    assert over(signs).seen == (
        "The time is up before its serial port said what was expected ('erp1 ready'), though its guest agent "
        "answered; it read 0 B of its disks."
    )


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (OVMF + b"UEFI Interactive Shell v2.2\r\n", "started its shell"),
        (b"Welcome to GRUB!\r\n\r\nerror: unknown filesystem.\r\ngrub rescue> ", "GRUB did not find"),
        (
            b"Welcome to GRUB!\r\nerror: out of memory.\r\n"
            b"   Minimal BASH-like line editing is supported. For the first word\r\n",
            "GRUB stopped at its prompt",
        ),
        (b"[    1.1] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", "the kernel panicked"),
        (b"BusyBox v1.35.0\r\n\r\n(initramfs) ", "did not find the root file system"),
        (b"You are in emergency mode. After logging in\r\n", "emergency mode"),
    ],
)
def test_a_console_that_says_that_it_will_not_boot_ends_the_wait(text: bytes, meaning: str) -> None:
    signs = Signs()
    signs.agent(0.0)
    signs.serial(text, 0.0)
    verdict = signs.verdict(0.0)
    assert verdict is not None
    assert not verdict.booted
    assert meaning in verdict.seen


def test_the_bios_says_on_its_own_port_that_there_is_nothing_to_boot() -> None:
    signs = Signs()
    signs.firmware(b"Booting from Hard Disk...\nBoot failed: not a bootable disk\n\nNo bootable device.\n")
    verdict = signs.verdict(0.0)
    assert verdict is not None
    assert "the firmware found nothing to boot from" in verdict.seen


def test_a_screen_counts_only_when_it_changed_after_the_guest_was_loaded() -> None:
    signs = Signs()
    signs.screen(BLACK, 0.0)
    signs.screen(WHITE, 1.0)  # the firmware's logo
    signs.disks_read(20 * MIB)
    signs.screen(WHITE, 2.0)
    assert over(signs, 2.0).sign is Sign.NONE
    signs.screen(BLACK, 3.0)
    assert signs.verdict(3.0 + SETTLE_S) is None
    settled = signs.verdict(3.0 + SETTLE_SCREEN_S)
    assert settled == Verdict(True, Sign.SCREEN, "The guest lives: its screen changed.")


def test_the_best_sign_is_named_and_all_are_told() -> None:
    signs = Signs()
    signs.disks_read(20 * MIB)
    signs.screen(BLACK, 0.0)
    signs.screen(WHITE, 0.0)
    signs.agent(0.0)
    assert over(signs) == Verdict(
        True, Sign.AGENT, "The guest lives: its guest agent answered and its screen changed."
    )


def test_a_guest_that_switched_itself_off_did_live_if_it_said_so() -> None:
    signs = Signs()
    signs.powered_off()
    silent = signs.verdict(0.0)
    assert silent is not None
    assert silent.seen.startswith("The guest switched itself off without a sign")
    signs.serial(LOGIN, 0.0)
    spoke = signs.verdict(0.0)
    assert spoke is not None
    assert spoke.booted


def test_a_guest_that_resets_over_and_over_does_not_boot() -> None:
    signs = Signs()
    for _ in range(2):
        signs.reset()
    assert signs.verdict(0.0) is None
    signs.reset()
    verdict = signs.verdict(0.0)
    assert verdict is not None
    assert verdict.seen.startswith("The guest was reset 3 times without a sign")


def test_a_flood_of_text_is_not_kept() -> None:
    signs = Signs()
    for _ in range(100):
        signs.serial(b"the same line again and again\r\n" * 100, 0.0)
    assert len(signs.serial_text) == 4000
