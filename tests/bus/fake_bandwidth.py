"""The bandwidth of copies in memory; two of them share the total."""

from p2vd.model.bandwidth import Grant, Why
from p2vd.model.errors import InvalidArgument
from p2vd.model.job import Job


class FakeBandwidth:
    """Satisfies BandwidthPort."""

    def __init__(self, asked: list[list[object]]) -> None:
        self.total = 0
        self._asked = asked

    def set_total(self, bytes_per_s: int) -> None:
        self._asked.append(["set_total", bytes_per_s])
        if bytes_per_s == 1:
            raise InvalidArgument("bytes_per_second", "1 is too little.")
        self.total = bytes_per_s

    def granted(self, job: Job) -> Grant:
        return Grant(self.total // 2, Why.SHARE, self.total, 2) if self.total else Grant()
