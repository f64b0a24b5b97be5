"""NBD servers and disk images for tests: real nbdkit, qemu-img and openssl, on sockets of the test's own."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.waiting import until

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed, and say which."""
    absent = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def command(*argv: object) -> str:
    """Run a program to its end; what it says."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def same_disk(first: Path, first_format: str, second: Path, second_format: str) -> bool:
    """Whether a guest sees the same bytes in both, but for zeros at the end of the longer one."""
    argv = ["qemu-img", "compare", "-f", first_format, "-F", second_format, str(first), str(second)]
    return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode == 0


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class NbdServer:
    """A running nbdkit, on a Unix socket or, with a port, on TCP."""

    def __init__(self, directory: Path, *words: object, port: int = 0):
        self.socket = directory / "nbd.sock"
        self.port = port
        self._words = [str(word) for word in words]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its URI, without TLS."""
        return f"nbd://127.0.0.1:{self.port}/" if self.port else f"nbd+unix:///?socket={self.socket}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *words: object) -> None:
        """Start it, with other words if they are given, and wait until it answers."""
        self._words = [str(word) for word in words] or self._words
        self.socket.unlink(missing_ok=True)
        where = ["-i", "127.0.0.1", "-p", str(self.port)] if self.port else ["-U", str(self.socket)]
        self._process = subprocess.Popen(["nbdkit", "-f", *where, *self._words])
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "nbdkit ended"
        family, place = (socket.AF_INET, ("127.0.0.1", self.port)) if self.port else (socket.AF_UNIX, "")
        with socket.socket(family, socket.SOCK_STREAM) as peer:
            return peer.connect_ex(place or str(self.socket)) == 0

    def kill(self) -> None:
        """Cut every connection, as a machine does that loses its power."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Authority:
    """A certificate authority of a test, and the directories that NBD's servers and clients want."""

    def __init__(self, directory: Path, name: str):
        self._directory, self._name = directory / name, name
        self._directory.mkdir()
        key = [*_KEY, "-keyout", self._directory / "ca-key.pem"]
        place = ["-out", self._directory / "ca-cert.pem", "-days", "2", "-subj", f"/CN={name}"]
        command("openssl", "req", "-x509", *key, *place)

    @property
    def client(self) -> Path:
        """What a client needs to know its servers."""
        return self._directory

    def server(self, *names: str) -> Path:
        """A directory for a server of these names (`DNS:...` or `IP:...`)."""
        place = self._directory / f"server-{len(list(self._directory.iterdir()))}"
        place.mkdir()
        shutil.copy(self._directory / "ca-cert.pem", place)
        key, asked, extra = place / "server-key.pem", place / "asked.pem", place / "extra"
        extra.write_text(f"subjectAltName={','.join(names)}\n")
        subject = ["-subj", "/CN=server", "-out", asked]
        command("openssl", "req", *_KEY, "-keyout", key, *subject)
        signer = ["-CA", place / "ca-cert.pem", "-CAkey", self._directory / "ca-key.pem", "-CAcreateserial"]
        made = ["-days", "2", "-extfile", extra, "-out", place / "server-cert.pem"]
        command("openssl", "x509", "-req", "-in", asked, *signer, *made)
        return place
