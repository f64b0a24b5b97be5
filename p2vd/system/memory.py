"""How this process asks the C library for memory."""

import ctypes

_M_ARENA_MAX = -8  # <malloc.h>


def one_arena() -> None:
    """Let all threads share one heap. Call it before the first thread starts.

    glibc gives threads heaps of their own, up to eight a processor (mallopt(3)), and what one thread
    freed is of no use to the others. Threads of Python hardly ever allocate at the same time. Another
    C library has no such heaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free inside the heap to the kernel, after a burst some MiB (malloc_trim(3) of glibc)."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
