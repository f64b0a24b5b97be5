"""A disk in a `.gz`: of p2vd by its index, any other from the start of a member on."""

import zlib
from collections.abc import Callable

from p2vd.copying.packing import Damaged, ReadAt
from p2vd.copying.streams import Input

MAGIC = b"\x1f\x8b"
_GZIP = 31


class GzipDecoder:
    """Reads the members of a gzip file one after another (RFC 1952), each against its CRC-32 and length.

    Zero bytes behind the last member are padding, as for gzip(1). `note` hears where each member begins.
    """

    def __init__(
        self,
        read: ReadAt,
        size_bytes: int,
        of_image: int = 0,
        at: int = 0,
        note: Callable[[int, int], None] = lambda of_image, of_file: None,
    ):
        self._input = Input(read, size_bytes, at)
        self._of_image, self._note = of_image, note
        self._member: zlib._Decompress | None = None  # as typeshed calls it

    def read_into(self, view: memoryview) -> int:
        """Fill `view`; fewer bytes only at the end. Raises Damaged."""
        filled = 0
        while filled < len(view):
            member = self._member or self._begin()
            if member is None:
                break
            self._member = member
            filled += self._fill(member, view[filled:])
        # A member without a last byte of contents ends only when its trailer is read.
        return filled

    def _begin(self) -> "zlib._Decompress | None":
        """Begin the next member; None: there is none."""
        start = self._input.at
        head = self._input.take(2)
        if len(head) == 1:
            head = self._input.read(start, 2)
        if head == MAGIC:
            self._note(self._of_image, start)
            return zlib.decompressobj(wbits=_GZIP)
        while piece := self._input.take():
            if piece.strip(b"\0"):
                raise Damaged(start, "what follows there is no gzip member")
            self._input.skip(len(piece))
        if start == 0:
            raise Damaged(0, "it is empty")
        return None

    def _fill(self, member: "zlib._Decompress", view: memoryview) -> int:
        data = self._input.take()
        if not data:
            raise Damaged(self._input.at, "it ends within a member")
        try:
            contents = member.decompress(data, len(view))
        except zlib.error as error:
            raise Damaged(self._input.at, str(error)) from error
        left = member.unused_data if member.eof else member.unconsumed_tail
        self._input.skip(len(data) - len(left))
        if member.eof:
            self._member = None
        view[: len(contents)] = contents
        self._of_image += len(contents)
        return len(contents)
