"""The lab's fixtures: each test gets a machine restored from a snapshot; its logs are kept when it fails."""

import fcntl
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

from integration.lab import layers, logs
from integration.lab.recipe import lab_dir
from integration.lab.vm import Vm
from tests.options import failed

LOGS = Path(__file__).parent / ".logs"
TOOLS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4", "cpio", "ssh", "setpriv", "unshare")


def pytest_report_header() -> str:
    return f"lab: {unable() or 'can run'}"


CORE = (
    "::test_thin_and_thick",
    "::test_killed_at",
    "::test_power_cut_at_random_moments[thick]",
    "/test_write_rules.py",
)
"""Of each of these a test runs always."""

SAMPLE = 5
"""So many tests of the lab run, with the unit tests in less than 25 minutes on two cores."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lab tests last, those that boot a machine again first of them: the longest begin while others are left.

    pytest-xdist hands tests out in this order; a long one at the end would have the other cores wait for it.
    Of the lab a seeded sample runs, unless more is asked for: by --full, or by naming a file. Those that run
    always are the longest.
    """
    items.sort(key=lambda item: (bool(item.get_closest_marker("lab")), not boots(item)))
    if config.option.full or any("integration/" in argument for argument in config.invocation_params.args):
        return
    lab = [item for item in items if item.get_closest_marker("lab") and not skipped(item)]
    lab.sort(key=lambda item: zlib.crc32(f"{config.option.seed} {item.nodeid}".encode()))
    core = [item for word in CORE for item in [one for one in lab if word in one.nodeid][:1]]
    sample = list(dict.fromkeys([*core, *lab]))[:SAMPLE]
    other = pytest.mark.skip(reason="another sample of the lab runs: --full runs all, --seed chooses")
    for item in lab:
        if item not in sample:
            item.add_marker(other)
    items[:] = [*(item for item in items if item not in sample), *sample]


def skipped(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("skip"))


def boots(item: pytest.Item) -> bool:
    return "power_vm" in getattr(item, "fixturenames", ())


def unable() -> str:
    """Return why the lab cannot run here, or nothing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        return f"missing {', '.join(missing)}: ./tests/run --setup"
    return "" if os.geteuid() == 0 else "building the guest's image needs root"


@pytest.fixture(scope="session")
def installed() -> Path:
    """The snapshot that all machines of this run are restored from: a run tests one state of the checkout."""
    reason = unable()
    if reason:
        pytest.skip(f"no lab: {reason}")
    _sweep()
    return layers.ensure("p2vd")


def _sweep() -> None:
    """Delete the machines of test runs that were killed: QEMU went with them, its files did not."""
    for name in Vm.names():
        made_by = re.fullmatch(r"(?:test|build-\w+)-(\d+)", name)
        if made_by and not Path(f"/proc/{made_by[1]}").exists():
            Vm.attach(name).down()


@pytest.fixture
def vm(request: pytest.FixtureRequest, installed: Path) -> Iterator[Vm]:
    """A machine with p2vd installed (and not started), the SAN up: a fresh clone for each test."""
    yield from _machine(request, installed, cache="unsafe")


@pytest.fixture
def power_vm(request: pytest.FixtureRequest, installed: Path) -> Iterator[Vm]:
    """The same, fit for `kill` and `boot_again`: what the guest flushed is kept, what it did not is lost."""
    yield from _machine(request, installed, cache="writeback")


@contextmanager
def _turn() -> Iterator[None]:
    """Wait until no more machines run than this one has processors: what one waits for, another works."""
    with ExitStack() as opened:
        names = [lab_dir() / f"machine-{number}.lock" for number in range((os.cpu_count() or 1) + 1)]
        places = [opened.enter_context(name.open("w")) for name in names]
        while not any(_locked(place) for place in places):
            time.sleep(1)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _machine(request: pytest.FixtureRequest, installed: Path, *, cache: str) -> Iterator[Vm]:
    with _turn():
        yield from _started(request, installed, cache=cache)


def _started(request: pytest.FixtureRequest, installed: Path, *, cache: str) -> Iterator[Vm]:
    # One name for each process: engineers and CI jobs may share the cache.
    vm = layers.restore(f"test-{os.getpid()}", installed, cache=cache)
    try:
        yield vm
    finally:
        if failed(request.node):
            directory = LOGS / re.sub(r"[^\w.-]+", "_", request.node.nodeid.removeprefix("integration/"))
            shutil.rmtree(directory, ignore_errors=True)
            logs.collect(vm, directory)
            print(f"logs of the machine: {directory}")
        vm.down()
