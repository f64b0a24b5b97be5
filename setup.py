"""Packages p2vd, and makes a host out of a checkout: `setup.py install_host` and `setup.py uninstall_host`.

A wheel cannot place files outside site-packages, so what the system must find (units, D-Bus, polkit, udev)
is placed by `install_host`. Without --root it makes a working host of this machine, with distribution
packages alone: the package for Debian's own python3, commands in /usr/bin, users, directories, reloads. With
--root DIR it fills a staging directory for a distribution's package; the Python package is then the
distribution's own business.
"""

import ast
import compileall
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from setuptools import Command, find_packages, setup

HERE = Path(__file__).resolve().parent
MANIFEST = Path("usr/lib/p2vd/install-manifest")
PACKAGE_PARENT = Path("usr/lib/python3/dist-packages")

COMMANDS = {"p2vd": "p2vd.daemon", "p2vctl": "p2vd.cli.main", "p2vd-copy": "p2vd.copying.worker"}

# Import name, what pip calls it with the version of Debian 12, Debian's package.
LIBRARIES = (
    ("dbus", "dbus-python>=1.3", "python3-dbus"),
    ("gi", "PyGObject>=3.42", "python3-gi"),
    ("pyudev", "pyudev>=0.24", "python3-pyudev"),
    ("pyroute2", "pyroute2>=0.7.2", "python3-pyroute2"),
    ("tenacity", "tenacity>=8.2", "python3-tenacity"),
    ("libvirt", "libvirt-python>=9.0", "python3-libvirt"),
    ("cattrs", "cattrs>=22.2", "python3-cattr"),
    ("rich", "rich>=13.3", "python3-rich"),
    ("xxhash", "xxhash>=3.2", "python3-xxhash"),
    ("zstandard", "zstandard>=0.20", "python3-zstandard"),
    ("systemd", "systemd-python>=235", "python3-systemd"),
)
MAN_MAKER = "lowdown"
TOOLS = (
    (MAN_MAKER, "lowdown"),
    ("lvm", "lvm2"),
    ("dmsetup", "dmsetup"),
    ("multipath", "multipath-tools"),
    ("iscsiadm", "open-iscsi"),
    ("sg_turs", "sg3-utils"),
)

# What to place: pattern in the checkout, directory under the root. Files under etc/ are the administrator's.
PLACES = (
    ("conf/p2vd.toml", "etc/p2vd"),
    ("conf/policy.d/*.toml", "usr/lib/p2vd/policy.d"),
    ("conf/dbus/*.conf", "usr/share/dbus-1/system.d"),
    ("conf/dbus/*.service", "usr/share/dbus-1/system-services"),
    ("conf/polkit/*.policy", "usr/share/polkit-1/actions"),
    ("p2vd/bus/interfaces/*.xml", "usr/share/dbus-1/interfaces"),
    ("units/*.service", "usr/lib/systemd/system"),
    ("units/*.rules", "usr/lib/udev/rules.d"),
    ("units/*.catalog", "usr/lib/systemd/catalog"),
    ("conf/*.md", "usr/share/doc/p2vd"),
    ("units/*.md", "usr/share/doc/p2vd"),
    ("README.md", "usr/share/doc/p2vd"),
    ("CHANGELOG.md", "usr/share/doc/p2vd"),
    ("LICENSE", "usr/share/doc/p2vd"),
)
RENAMED = {
    "conf/completion/p2vctl.bash": "usr/share/bash-completion/completions/p2vctl",
    "conf/completion/p2vctl.zsh": "usr/share/zsh/vendor-completions/_p2vctl",
    "conf/completion/p2vctl.fish": "usr/share/fish/vendor_completions.d/p2vctl.fish",
    "units/p2vd.sysusers": "usr/lib/sysusers.d/p2vd.conf",
    "units/p2vd.tmpfiles": "usr/lib/tmpfiles.d/p2vd.conf",
}

# The manuals are Markdown beside what they describe; man(1) gets the same texts.
MANUALS = ("units/*.[0-9].md", "conf/*.[0-9].md")
MAN = Path("usr/share/man")

# What p2vd-collect is joined from, each after what it needs.
COLLECTOR = Path("usr/share/p2vd/p2vd-collect")
CARRIED = (
    "model/inquiry.py",
    "discovery/identity.py",
    *(
        f"discovery/passport/{name}.py"
        for name in ("reading", "hardware", "disks", "loader", "network", "system", "collect")
    ),
)
COLLECTOR_HEAD = """#!/usr/bin/env python3
# p2vd-collect of p2vd {version}: writes down what a physical machine is. It needs nothing but Python 3.6.
# Carry it there, or: ssh root@MACHINE python3 - < p2vd-collect > MACHINE.json
"""

SCRIPT = """#!/usr/bin/python3 -I
import sys

from {module} import main

sys.exit(main())
"""


class InstallError(SystemExit):
    """Nothing was changed; the sentence says why and what to do."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"p2vd: {sentence}")


def host_files() -> dict[Path, bytes]:
    """Return what belongs outside the Python package: path under the root -> contents."""
    files: dict[Path, bytes] = {}
    for pattern, directory in PLACES:
        for source in sorted(HERE.glob(pattern)):
            files[Path(directory) / source.name] = source.read_bytes()
    for source_name, destination in RENAMED.items():
        files[Path(destination)] = (HERE / source_name).read_bytes()
    files[COLLECTOR] = collector()
    return files | man_pages()


def man_pages() -> dict[Path, bytes]:
    """Return the manual pages: path under the root -> contents; none where what makes them is not there."""
    if shutil.which(MAN_MAKER) is None:
        return {}
    pages: dict[Path, bytes] = {}
    for source in sorted(path for pattern in MANUALS for path in HERE.glob(pattern)):
        name, section, _ = source.name.rsplit(".", 2)
        pages[MAN / f"man{section}" / f"{name}.{section}"] = man_page(name, section, source.read_text())
    return pages


def man_page(name: str, section: str, text: str) -> bytes:
    """Return a manual as man(7): its headings become sections, in capitals as they are used to be."""
    title, _, body = text.partition("\n")
    body = re.sub(r"^##(#*) (.*)", lambda m: f"#{m[1]} {m[2] if m[1] else m[2].upper()}", body, flags=re.M)
    _, _, summary = title.partition(": ")
    if summary:  # where a manual has no section NAME, its title says the same
        body = f"# NAME\n\n{name} - {summary}\n{body}"
    about = [f"-M{key}={value}" for key, value in (("title", name.upper()), ("section", section))]
    about += [f"-Msource=p2vd {version()}", "-Mvolume=p2vd", "-Mdate="]
    command = [MAN_MAKER, "-s", "-tman", "--out-no-smarty", *about]
    made = subprocess.run(command, input=body.encode(), stdout=subprocess.PIPE, check=True).stdout
    return b"'\\\" t\n" + made  # it has tables: man(1) is to run tbl


def collector() -> bytes:
    """Return p2vd-collect: the collector's modules as one text that stands alone."""
    parts = [COLLECTOR_HEAD.format(version=version())]
    for name in CARRIED:
        text = (HERE / "p2vd" / name).read_text()
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("p2vd."):
                lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or 0) - node.lineno + 1)
        parts.append("".join(lines))
    return "\n\n".join(parts).encode()


def package_files() -> dict[Path, bytes]:
    """Return the Python package and its commands, for the distribution's own python3."""
    files: dict[Path, bytes] = {}
    for source in sorted((HERE / "p2vd").rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            files[PACKAGE_PARENT / source.relative_to(HERE)] = source.read_bytes()
    for name, module in COMMANDS.items():
        files[Path("usr/bin") / name] = SCRIPT.format(module=module).encode()
    return files


def digest(data: bytes) -> str:
    """Return the SHA-256 by which a file that nobody changed is recognized."""
    return hashlib.sha256(data).hexdigest()


class Tree:
    """A root directory with an installation, which its manifest describes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / MANIFEST

    def installed(self) -> dict[Path, str]:
        """Return path -> digest of what an earlier installation placed."""
        if not self.manifest.exists():
            return {}
        recorded = json.loads(self.manifest.read_text())["files"]
        return {Path(path): value for path, value in recorded.items()}

    def install(self, files: dict[Path, bytes]) -> Iterator[str]:
        """Place `files`, drop what an earlier version had beyond them; yields what to tell the user."""
        before = self.installed()
        after = {path: digest(data) for path, data in files.items()}
        # First what may be there, so that an installation cut off half-way can be taken back.
        self._record({**after, **before})
        for path, data in sorted(files.items()):
            if path.parts[0] == "etc" and self._changed(path, data, before.get(path)):
                # As dpkg treats a conffile: the administrator's stays, ours is put beside it when it is news.
                if before.get(path) != after[path]:
                    self._write(path.with_name(path.name + ".new"), data)
                    yield f"kept your /{path}; this version's is /{path}.new"
                continue
            self._write(path, data)
        for path in sorted(set(before) - set(files)):
            if path.parts[0] != "etc":
                (self.root / path).unlink(missing_ok=True)
        self._record(after)

    def uninstall(self) -> Iterator[str]:
        """Remove what the manifest lists; yields what was kept."""
        before = self.installed()
        for path, was in sorted(before.items()):
            target = self.root / path
            if path.parts[0] == "etc":
                target.with_name(target.name + ".new").unlink(missing_ok=True)
            if path.parts[0] == "etc" and target.exists() and digest(target.read_bytes()) != was:
                yield f"kept /{path}, which you changed"
                continue
            target.unlink(missing_ok=True)
        package = self.root / PACKAGE_PARENT / "p2vd"
        for cache in sorted(package.rglob("__pycache__")):
            shutil.rmtree(cache)
        self.manifest.unlink(missing_ok=True)
        parents = {parent for path in (*before, MANIFEST) for parent in path.parents}
        for directory in sorted(parents, key=lambda path: len(path.parts), reverse=True):
            # Only p2vd's own: an empty directory of the distribution is not ours to remove.
            if (
                "p2vd" in directory.parts
                and (self.root / directory).is_dir()
                and not any((self.root / directory).iterdir())
            ):
                (self.root / directory).rmdir()

    def _changed(self, path: Path, ours: bytes, shipped: str | None) -> bool:
        target = self.root / path
        return target.exists() and digest(target.read_bytes()) not in {shipped, digest(ours)}

    def _record(self, files: dict[Path, str]) -> None:
        listed = {str(path): value for path, value in sorted(files.items())}
        self._write(MANIFEST, (json.dumps({"files": listed}, indent=1) + "\n").encode())

    def _write(self, path: Path, data: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.p2vd-partial")
        partial.write_bytes(data)
        partial.chmod(0o755 if path.parts[:2] == ("usr", "bin") or path == COLLECTOR else 0o644)
        partial.rename(target)


class HostCommand(Command):  # type: ignore[misc]  # setuptools ships no types
    """What both commands share: the root."""

    user_options: ClassVar = [("root=", None, "fill or clear this directory instead of the running system")]
    root: str | None

    def initialize_options(self) -> None:
        self.root = None

    def finalize_options(self) -> None:
        if self.root is None:
            if os.geteuid() != 0:
                raise InstallError("this changes the system: run it as root, or give --root DIR")
            if sys.prefix != sys.base_prefix or not Path(sysconfig.get_path("stdlib")).is_relative_to(
                "/usr/lib"
            ):
                raise InstallError("run this with the distribution's python: /usr/bin/python3 setup.py ...")

    def tree(self) -> Tree:
        return Tree(Path(self.root or "/"))

    def say(self, sentence: str) -> None:
        sys.stdout.write(f"p2vd: {sentence}\n")


class InstallHost(HostCommand):
    description = (
        "put p2vd and what the system must find of it (units, D-Bus, polkit, udev) where they belong"
    )

    def run(self) -> None:
        files = host_files()
        if self.root is not None and not any(path.is_relative_to(MAN) for path in files):
            raise InstallError(f"the manual pages are made by {MAN_MAKER}: apt-get install {MAN_MAKER}")
        if self.root is None:
            files |= package_files()
        for sentence in self.tree().install(files):
            self.say(sentence)
        if self.root is not None:
            return
        package = Path("/") / PACKAGE_PARENT / "p2vd"
        compileall.compile_dir(package, quiet=1)
        self._settle()
        self._say_what_is_missing()
        if unit_is("active"):
            self.say("installed. The old version still runs: systemctl restart p2vd")
        else:
            self.say("installed. Next: a policy in /etc/p2vd/policy.d, then systemctl enable --now p2vd")

    def _settle(self) -> None:
        """Make the running system see what was placed."""
        call("systemd-sysusers", "/usr/lib/sysusers.d/p2vd.conf")
        call("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/p2vd.conf")
        reload_system()

    def _say_what_is_missing(self) -> None:
        missing = [package for module, _, package in LIBRARIES if importlib.util.find_spec(module) is None]
        missing += [
            package for tool, package in TOOLS if shutil.which(tool, path="/usr/sbin:/usr/bin") is None
        ]
        if missing:
            self.say(f"still missing on this host: apt-get install {' '.join(missing)}")


class UninstallHost(HostCommand):
    description = "remove what install_host placed; changed configuration and /var/lib/p2vd stay"

    def run(self) -> None:
        tree = self.tree()
        if not tree.manifest.exists():
            raise InstallError(f"nothing is installed: there is no {tree.manifest}")
        if self.root is None:
            if unit_is("active") or unit_is("activating") or unit_is("deactivating"):
                raise InstallError("p2vd runs: systemctl stop p2vd, then uninstall")
            call("systemctl", "disable", "--quiet", "p2vd.service")
        for sentence in tree.uninstall():
            self.say(sentence)
        if self.root is None:
            reload_system()
            self.say("uninstalled. Jobs and checkpoints stay in /var/lib/p2vd, quarantine marks in /etc/p2vd")


def unit_is(state: str) -> bool:
    """Say whether systemd runs here and has p2vd.service in this state."""
    if not Path("/run/systemd/system").is_dir():
        return False
    command = ["systemctl", "show", "--property=ActiveState", "--value", "p2vd.service"]
    shown = subprocess.run(command, check=False, capture_output=True, text=True)
    return shown.stdout.strip() == state


def reload_system() -> None:
    """Tell systemd, udev and the bus that their files changed; not where none run (a container)."""
    if Path("/run/systemd/system").is_dir():
        call("systemctl", "daemon-reload")
        call("udevadm", "control", "--reload")
        call("journalctl", "--update-catalog")
        call("systemctl", "reload", "dbus.service")


def call(*argv: str) -> None:
    """Run a command of the system; its failure is said and does not stop the rest."""
    try:
        subprocess.run(argv, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"p2vd: {error}\n")


def version() -> str:
    """Return the version that the package states, without importing it."""
    for node in ast.parse((HERE / "p2vd/__init__.py").read_text()).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__version__"
        ):
            return str(ast.literal_eval(node.value))
    raise InstallError("p2vd/__init__.py states no __version__")


if __name__ == "__main__":
    setup(
        name="p2vd",
        version=version(),
        description="Moves the disks of physical machines onto LVM volumes of a SAN, with proof",
        license="Apache-2.0",
        python_requires=">=3.11",
        packages=find_packages(include=["p2vd", "p2vd.*"]),
        package_data={"p2vd": ["py.typed", "bus/*.xml", "bus/interfaces/*.xml", "sim/scenarios/*.toml"]},
        install_requires=[requirement for _, requirement, _ in LIBRARIES],
        entry_points={"console_scripts": [f"{name}={module}:main" for name, module in COMMANDS.items()]},
        cmdclass={"install_host": InstallHost, "uninstall_host": UninstallHost},
    )
