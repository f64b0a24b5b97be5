"""XXH3 of 128 bits by the widest instructions that this processor has.

Debian's python3-xxhash calls the library's plain function, which is built for every x86-64 (SSE2). The
same library exports a function that looks at the processor first (xxh_x86dispatch.h): the same digest,
two to six times as fast. Where there is none (another processor, a build without it) the plain one serves.
"""

import ctypes
from collections.abc import Callable

import xxhash

_SAMPLE = bytes(range(256)) * 17


class _Hash128(ctypes.Structure):
    """XXH128_hash_t; the canonical form is big-endian, high half first."""

    _fields_ = (("low", ctypes.c_uint64), ("high", ctypes.c_uint64))


def _dispatching() -> Callable[[int, int], bytes] | None:
    """A function of address and length; None: the library has none, or it does not agree."""
    try:
        function = ctypes.CDLL("libxxhash.so.0").XXH3_128bits_dispatch
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    function.restype = _Hash128

    def digest_at(address: int, length: int) -> bytes:
        found = function(address, length)
        return int(found.high << 64 | found.low).to_bytes(16, "big")

    sample = ctypes.create_string_buffer(_SAMPLE, len(_SAMPLE))
    agrees = digest_at(ctypes.addressof(sample), len(_SAMPLE)) == xxhash.xxh3_128_digest(_SAMPLE)
    return digest_at if agrees else None


_digest_at = _dispatching()


def digest(data: bytes | memoryview) -> bytes:
    """The 16 bytes of the digest of `data`. Releases the interpreter lock."""
    if _digest_at is None or not isinstance(data, memoryview) or data.readonly or not data.nbytes:
        return bytes(xxhash.xxh3_128_digest(data))
    # `first` keeps the memory where it is until the digest is made.
    first = ctypes.c_char.from_buffer(data)
    return _digest_at(ctypes.addressof(first), data.nbytes)
