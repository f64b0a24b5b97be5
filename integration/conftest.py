"""The lab's fixtures: each test gets a machine restored from a snapshot; its logs are kept when it fails."""

import os
import re
import shutil
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from integration.lab import layers, logs
from integration.lab.vm import Vm

LOGS = Path(__file__).parent / ".logs"
TOOLS = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4", "cpio", "ssh", "setpriv", "unshare")


def pytest_report_header() -> str:
    return f"lab: {unable() or 'can run'}"


# Each stands for itself, and all together take most of an hour: of these half runs at a time.
BREADTH = (
    *("test_contents", "test_copy_faults", "test_fc", "test_forms", "test_passport", "test_policy"),
    *("test_policy_pools", "test_registration_domains", "test_verify"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lab tests last, those that boot a machine again first of them: the longest begin while others are left.

    pytest-xdist hands tests out in this order; a long one at the end would have the other cores wait for it.
    Of the breadth of the lab a seeded half runs, unless it is asked for: by --full, or by naming a file.
    """
    items.sort(key=lambda item: (bool(item.get_closest_marker("lab")), not boots(item)))
    if config.option.full or any("integration/" in argument for argument in config.invocation_params.args):
        return
    other = pytest.mark.skip(reason="the other half of the lab runs: --full runs all, --seed chooses")
    for item in items:
        if item.path.stem in BREADTH and zlib.crc32(f"{config.option.seed} {item.nodeid}".encode()) % 2:
            item.add_marker(other)


def boots(item: pytest.Item) -> bool:
    return "power_vm" in getattr(item, "fixturenames", ())


@pytest.hookimpl(hookwrapper=True)  # type: ignore[untyped-decorator]  # pluggy 1.0 has no types
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, "pytest.CallInfo[None]", None]:
    """Leave each phase's report on the test, for the fixtures that clean up after it."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result object
    item.stash.setdefault(PHASES, {})[report.when] = report.failed


PHASES = pytest.StashKey[dict[str, bool]]()


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


def _machine(request: pytest.FixtureRequest, installed: Path, *, cache: str) -> Iterator[Vm]:
    # One name for each process: engineers and CI jobs may share the cache.
    vm = layers.restore(f"test-{os.getpid()}", installed, cache=cache)
    try:
        yield vm
    finally:
        if any(request.node.stash.get(PHASES, {}).values()):
            directory = LOGS / re.sub(r"[^\w.-]+", "_", request.node.nodeid.removeprefix("integration/"))
            shutil.rmtree(directory, ignore_errors=True)
            logs.collect(vm, directory)
            print(f"logs of the machine: {directory}")
        vm.down()
