"""Digests: the fast way gives what the plain one gives."""

import hashlib
import mmap
import random
import subprocess
import sys
from typing import Any

import pytest
import xxhash

from p2vd.copying import xxh3
from p2vd.copying.digests import DigestKind
from p2vd.copying.layout import BLOCK

# Around the lengths at which XXH3 goes another way (16, 128, 240, its stripes and blocks), and whole blocks.
LENGTHS = [0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 512, 1023, 1024, 1025, 4096, 700_001, BLOCK]


@pytest.fixture
def memory() -> memoryview:
    view = memoryview(mmap.mmap(-1, BLOCK + 4096))
    view[:] = random.Random(1).randbytes(len(view))
    return view


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("start", [0, 1, 512])
def test_the_digest_is_that_of_the_plain_function(memory: memoryview, start: int, length: int) -> None:
    view = memory[start : start + length]
    expected = xxhash.xxh3_128_digest(bytes(view))
    assert xxh3.digest(view) == expected
    assert xxh3.digest(view.toreadonly()) == expected
    assert xxh3.digest(bytes(view)) == expected


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_a_library_without_the_function_does_no_harm(
    memory: memoryview, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def missing(name: str) -> None:
        raise error(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    assert xxh3._dispatching() is None
    monkeypatch.setattr(xxh3, "_digest_at", None)
    assert xxh3.digest(memory) == xxhash.xxh3_128_digest(bytes(memory))


def test_a_library_that_does_not_agree_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xxhash.xxh3_128_digest", lambda data: bytes(16))
    assert xxh3._dispatching() is None


def test_memory_may_move_again_after_its_digest_was_made() -> None:
    memory = mmap.mmap(-1, BLOCK)
    with memoryview(memory) as view:
        xxh3.digest(view[:700])
    memory.close()  # raises BufferError where something still points into it


@pytest.mark.parametrize("kind", [kind for kind in DigestKind if kind.size])
def test_kinds_agree_with_their_libraries(memory: memoryview, kind: DigestKind) -> None:
    plain: Any = xxhash.xxh3_128 if kind is DigestKind.XXH3 else hashlib.sha256
    assert kind.of(memory[:BLOCK]) == plain(bytes(memory[:BLOCK])).digest()
    assert kind.zero(700) == plain(bytes(700)).digest()
    total = kind.new()
    assert total is not None
    total.update(b"abc")
    assert total.digest() == plain(b"abc").digest()


def test_openssl_is_loaded_only_for_sha256_and_then_before_the_first_block() -> None:
    code = (
        "import sys; from p2vd.copying.digests import DigestKind; kind = DigestKind.named(sys.argv[1]); "
        "before = '_hashlib' in sys.modules; kind.of(b'x'); print(before, '_hashlib' in sys.modules)"
    )
    for name, loaded in (("xxh3", "False False"), ("none", "False False"), ("sha256", "True True")):
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == loaded
