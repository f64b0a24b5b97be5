"""The house of design §1: which room may import which, where the doors to the OS are, how big a module is.

Each rule is a case of its own, and each is shown to catch a violation.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "p2vd"
MAX_LINES = 400

# Room -> the rooms it may import besides itself. Jobs brings rooms together; the daemon puts them together.
ROOMS: dict[str, set[str]] = {
    "model": set(),
    "policy": {"model"},
    "domain": {"model"},
    "planning": {"model", "policy", "domain"},
    "records": {"model", "system"},
    "system": {"model"},
    "discovery": {"model", "system"},
    "provisioning": {"model", "system"},
    "copying": {"model", "system"},
    "registration": {"model", "system", "domain"},
    "config": {"model", "policy"},
    "jobs": {
        *("model", "policy", "domain", "planning", "records", "system", "config"),
        *("discovery", "provisioning", "copying", "registration"),
    },
    "bus": {"model", "jobs"},
    # The collector is a program of its own that p2vctl runs on the physical machine, without p2vd.
    "cli": {"model", "bus.names", "discovery.passport"},
    "sim": {"model", "policy", "system", "copying", "registration", "bus.port", "discovery.examining"},
}

# Module -> the modules that it may import besides what its room may, each for a reason.
EXCEPTIONS: dict[str, set[str]] = {
    # Checks policy files where no daemon is: with the very code by which the daemon reads them.
    "cli.policy_check": {"config", "policy.model", "policy.parse"},
    # A call that gets no thread has its answer all the same.
    "bus.service": {"system.threads"},
    # A support bundle is made where p2vd does not run: p2vctl asks the host itself, by the daemon's own door.
    "cli.bundle": {"config", "system.command"},
    "cli.bundle_parts": {"config", "system.command"},
}

PURE_ROOMS = ("model", "policy", "domain", "planning")
PURE_MODULES = (
    *(
        "jobs.transitions",
        "copying.protocol",
        "copying.terms",
        "copying.opening",
        "copying.asking",
        "copying.nbd_asking",
    ),
    *("copying.layout", "copying.region", "copying.row_sums", "copying.nbd_address"),
    *("registration.signs", "registration.screen", "registration.qemu"),
    *("discovery.examining", "discovery.partitions", "discovery.ntfs", "discovery.lvm_label"),
)
IMPURE = {
    *("os", "io", "shutil", "tempfile", "socket", "select", "signal", "subprocess", "multiprocessing"),
    *("threading", "asyncio", "time", "random", "secrets", "uuid", "fcntl", "ctypes", "mmap", "sqlite3"),
}

# Library -> the only rooms (or modules) that may import it.
CONFINED: dict[str, set[str]] = {
    "subprocess": {"system", "discovery.passport.reading"},  # carried alone to the physical machine
    "fcntl": {"system"},
    "pyudev": {"discovery"},
    "pyroute2": {"discovery"},
    "libvirt": {"registration"},
    "dbus": {"bus", "cli", "daemon"},
    "gi": {"bus", "cli", "daemon"},
    "systemd": {"system"},
    "nbd": {"copying"},
}

# Who starts threads otherwise than by `system.threads`, which tells where the host gives none: at its own
# start that ends the daemon, and of a program that copies or asks its daemon hears.
OWN_THREADS = {
    *("system.threads", "discovery.watcher", "bus.collector", "jobs.inventory_keeper", "jobs.windows"),
    *("jobs.waves", "jobs.auto", "jobs.waking"),
}
OWN_THREADS_ROOMS = ("copying", "sim")


@dataclass(frozen=True)
class Module:
    """A module of the package: dotted name without `p2vd.`, and its text."""

    name: str
    text: str

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    def imports(self) -> Iterator[str]:
        """Yield the full name of all that is imported, at any depth; `from a.b import c` is a.b and a.b.c."""
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = node.module or ""
                assert node.level == 0, f"{self.name} imports relatively from {source!r}: write p2vd...."
                yield source
                yield from (f"{source}.{alias.name}" for alias in node.names)

    def makes_threads(self) -> bool:
        """Whether it makes a thread, or a timer, which is one, by hand."""
        calls = (node.func for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.Call))
        names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
        return "threading" in self.libraries() and bool(names & {"Thread", "Timer"})

    def libraries(self) -> set[str]:
        return {name.split(".")[0] for name in self.imports()}


def load() -> list[Module]:
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path.read_text()))
    return modules


MODULES = load()


def wrong_rooms(module: Module) -> set[str]:
    """Return what a module imports from rooms that its own may not know."""
    allowed = {module.room, *ROOMS[module.room], *EXCEPTIONS.get(module.name, ())}
    wrong = set()
    for name in module.imports():
        if not name.startswith("p2vd."):
            continue
        inner = name.removeprefix("p2vd.")
        if not any(inner == each or inner.startswith(f"{each}.") for each in allowed):
            # `from p2vd.bus import names` names the package p2vd.bus too: judged by what is taken from it.
            if any(each.startswith(f"{inner}.") for each in allowed):
                continue
            wrong.add(inner)
    return wrong - {"__version__"}


def impure(module: Module) -> set[str]:
    return module.libraries() & IMPURE


def is_pure(module: Module) -> bool:
    return module.room in PURE_ROOMS or module.name in PURE_MODULES


def misplaced(module: Module, library: str) -> bool:
    allowed = tuple(f"{place}." for place in CONFINED[library])
    return library in module.libraries() and not f"{module.name}.".startswith(allowed)


# ---- the rules, each room and each library a case ------------------------------------------------


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may_know(room: str) -> None:
    found = {
        module.name: wrong for module in MODULES if module.room == room and (wrong := wrong_rooms(module))
    }
    assert not found


@pytest.mark.parametrize("room", [*PURE_ROOMS, *PURE_MODULES])
def test_pure_code_knows_no_clock_no_chance_and_no_system(room: str) -> None:
    pure = [module for module in MODULES if module.name == room or module.room == room]
    assert pure, f"there is no {room}: take it out of the list"
    found = {module.name: wrong for module in pure if is_pure(module) and (wrong := impure(module))}
    assert not found


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_stays_in_its_room(library: str) -> None:
    assert not [module.name for module in MODULES if misplaced(module, library)]


def test_threads_are_started_where_it_is_told_that_there_is_none() -> None:
    making = {module.name for module in MODULES if module.makes_threads()}
    assert {name for name in making if name.split(".")[0] not in OWN_THREADS_ROOMS} == OWN_THREADS


def test_every_room_has_a_rule() -> None:
    known = {*ROOMS, "daemon", "p2vd", ""}
    assert not {module.room for module in MODULES} - known


def test_no_module_beyond_400_lines() -> None:
    places = [PACKAGE, ROOT / "tests", ROOT / "integration"]
    files = [path for place in places for path in place.rglob("*.py")] + [ROOT / "setup.py"]
    found = {
        str(path.relative_to(ROOT)): n
        for path in files
        if (n := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not found


def test_every_module_says_what_it_is() -> None:
    assert not [module.name for module in MODULES if not ast.get_docstring(ast.parse(module.text))]


# ---- the rules can fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("model.disk", "from p2vd.system import clock", {"system", "system.clock"}),
        ("planning.plan", "import p2vd.discovery.lvm", {"discovery.lvm"}),
        (
            "discovery.lvm",
            "def f():\n    from p2vd.provisioning.lvm import Volumes",
            {"provisioning.lvm", "provisioning.lvm.Volumes"},
        ),
        ("jobs.engine", "from p2vd.bus.service import Service", {"bus.service", "bus.service.Service"}),
        ("cli.main", "from p2vd.bus import names, service", {"bus.service"}),
        ("cli.main", "from p2vd.config import load", {"config", "config.load"}),
        ("cli.policy_check", "from p2vd.config import load\nfrom p2vd.policy.parse import load as l", set()),
        ("cli.policy_check", "from p2vd.policy import match", {"policy.match"}),
        ("cli.main", "from p2vd.bus.names import JOB\nfrom p2vd.model.size import MIB\nimport json", set()),
    ],
)
def test_an_import_of_a_wrong_room_is_seen(name: str, text: str, wrong: set[str]) -> None:
    assert wrong_rooms(Module(name, text)) == wrong


@pytest.mark.parametrize(
    "text", ["import time", "from os import path", "import os.path as p", "if 1:\n    import uuid"]
)
def test_impure_imports_are_seen(text: str) -> None:
    module = Module("policy.match", text)
    assert is_pure(module)
    assert impure(module)


@pytest.mark.parametrize("library", CONFINED)
def test_a_misplaced_library_is_seen(library: str) -> None:
    assert misplaced(Module("planning.plan", f"def f():\n    import {library}.inner"), library)
    (place, *_) = sorted(CONFINED[library])
    assert not misplaced(Module(f"{place}.x", f"import {library}"), library)


@pytest.mark.parametrize(
    ("text", "makes"),
    [
        ("import threading\nthreading.Thread(target=f).start()", True),
        ("from threading import Thread\ndef f():\n    Thread(target=f)", True),
        ("import threading\nthreading.Timer(1, f)", True),
        ("import threading\nx: threading.Thread\nthreading.Lock()", False),
        ("from p2vd.system.threads import start\nstart(f, 'x')", False),
    ],
)
def test_a_thread_is_seen(text: str, makes: bool) -> None:
    assert Module("jobs.x", text).makes_threads() is makes


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="relatively"):
        wrong_rooms(Module("bus.wire", "from . import names"))
