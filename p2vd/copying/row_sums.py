"""The checksums of a checkpoint's rows as this process knows them, and what they add up to. Pure."""

from collections.abc import Mapping

_SIZE = 16


class RowSums:
    """One checksum a region, in one piece of memory: a disk of 16 TiB has 16,384 of them.

    A region without a row has only zero bytes, which no row's checksum is (it has 128 bits).
    """

    def __init__(self, regions: int):
        self._values = bytearray(regions * _SIZE)
        self._count = 0
        self._total = 0

    def get(self, number: int) -> bytes | None:
        """The checksum of that region's row; None: it has no row."""
        value = bytes(self._values[number * _SIZE : (number + 1) * _SIZE])
        return value if any(value) else None

    def total(self, changed: Mapping[int, bytes] | None = None) -> str:
        """How many rows there are and the sum over their checksums, as they are after `changed`."""
        count, total = self._sum(changed or {})
        return f"{count}:{total:032x}"

    def update(self, changed: Mapping[int, bytes]) -> None:
        """Remember the checksums of rows that were written."""
        self._count, self._total = self._sum(changed)
        for number, value in changed.items():
            self._values[number * _SIZE : (number + 1) * _SIZE] = value

    def _sum(self, changed: Mapping[int, bytes]) -> tuple[int, int]:
        count, total = self._count, self._total
        for number, value in changed.items():
            old = self.get(number)
            count += old is None
            total ^= int.from_bytes(old or b"", "little") ^ int.from_bytes(value, "little")
        return count, total
