"""A receipt in a list of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReceiptNote:
    """Of which job, disk and machine a receipt is. `problem`: why it cannot be trusted; "": it is whole."""

    job: str
    source: str = ""
    machine_name: str = ""
    end_time_us: int = 0
    problem: str = ""
