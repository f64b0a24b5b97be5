"""What a copy may read a second, and why it is so much."""

import enum
from dataclasses import dataclass

from p2vd.model.size import format_size


class Why(enum.Enum):
    """What a grant follows from."""

    NO_LIMIT = "no limit"
    OWN = "its own limit"
    SHARE = "an even share"
    USE = "what it uses"


@dataclass(frozen=True)
class Grant:
    """What a copy may read a second; 0: as much as it likes. `total` is shared by `copies`."""

    bytes_per_s: int = 0
    why: Why = Why.NO_LIMIT
    total: int = 0
    copies: int = 0

    @property
    def reason(self) -> str:
        """Why it is so much, in a sentence; empty where there is no limit."""
        whole = f"{format_size(self.total)}/s, which {self.copies} copies share"
        match self.why:
            case Why.NO_LIMIT:
                return ""
            case Why.OWN:
                return "Its own limit."
            case Why.SHARE if self.copies == 1:
                return "All that copies may have together."
            case Why.SHARE:
                return f"Its share of {whole}."
            case Why.USE:
                return f"It reads less than its share of {whole}: the others have the rest."
