"""A virtual machine otherwise than its plan says, chosen when its disks are proven. Pure."""

from dataclasses import replace

from p2vd.model.domain import Conversion
from p2vd.model.plan import DiskBus, DomainOptions, Firmware
from p2vd.policy.model import FirmwareChoice, Rule


def unconverted(options: DomainOptions) -> DomainOptions:
    """Return the options for a guest that stays as it was copied.

    With a conversion its disks were where only the converted guest finds them, so the bus is chosen anew.
    """
    if options.conversion is Conversion.NONE:
        return options
    return replace(options, conversion=Conversion.NONE, bus=DiskBus.AUTO)


def present_options(rule: Rule, planned: DomainOptions) -> DomainOptions:
    """Return the options that a rule has for a machine that was planned, and copied, before.

    What was seen of its disks then stays: their sectors, and by what they boot where the rule leaves it open.
    """
    auto = rule.firmware is FirmwareChoice.AUTO
    return replace(
        rule.domain,
        logical_block_size=planned.logical_block_size,
        firmware=planned.firmware if auto else Firmware(rule.firmware.value),
    )
