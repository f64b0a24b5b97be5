"""install_host and uninstall_host: what is placed where, and what of the administrator's is never lost."""

import ast
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from integration.lab.recipe import PYTHON

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def packaging() -> ModuleType:
    """setup.py as a module: it sets nothing up unless it is the program."""
    spec = importlib.util.spec_from_file_location("packaging_of_p2vd", ROOT / "setup.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def listing(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_each_file_of_conf_and_units_has_a_place(packaging: ModuleType) -> None:
    placed = set(packaging.host_files().values())
    sources = [path for name in ("conf", "units") for path in (ROOT / name).rglob("*") if path.is_file()]
    assert not [path for path in sources if path.read_bytes() not in placed]


@pytest.mark.parametrize(
    "path",
    [
        "etc/p2vd/p2vd.toml",
        "usr/lib/systemd/system/p2vd.service",
        "usr/lib/systemd/catalog/p2vd.catalog",
        "usr/lib/sysusers.d/p2vd.conf",
        "usr/lib/tmpfiles.d/p2vd.conf",
        "usr/lib/udev/rules.d/59-p2vd-quarantine.rules",
        "usr/lib/udev/rules.d/62-p2vd-quarantine-disks.rules",
        "usr/share/dbus-1/system.d/org.p2vd1.conf",
        "usr/share/dbus-1/system-services/org.p2vd1.service",
        "usr/share/dbus-1/interfaces/org.p2vd1.Manager.xml",
        "usr/share/polkit-1/actions/org.p2vd1.policy",
        "usr/share/doc/p2vd/p2vd-copy.1.md",
        "usr/share/bash-completion/completions/p2vctl",
        "usr/share/zsh/vendor-completions/_p2vctl",
        "usr/share/fish/vendor_completions.d/p2vctl.fish",
    ],
)
def test_the_system_finds_it_where_it_looks(packaging: ModuleType, path: str) -> None:
    assert Path(path) in packaging.host_files()


def test_uninstall_leaves_nothing_but_what_was_there(packaging: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/other.service").write_text("x")
    tree = packaging.Tree(tmp_path)
    assert list(tree.install(packaging.host_files() | packaging.package_files())) == []
    assert os.access(tmp_path / "usr/bin/p2vd", os.X_OK)
    assert (tmp_path / "usr/lib/python3/dist-packages/p2vd/py.typed").exists()
    cache = tmp_path / "usr/lib/python3/dist-packages/p2vd/model/__pycache__"
    cache.mkdir()
    (cache / "disk.cpython-311.pyc").write_bytes(b"")
    assert list(tree.uninstall()) == []
    assert listing(tmp_path) == {"usr/lib/systemd/system/other.service"}
    assert not list(tmp_path.rglob("*p2vd*"))


def test_an_administrators_file_survives_upgrade_and_removal(packaging: ModuleType, tmp_path: Path) -> None:
    tree, path = packaging.Tree(tmp_path), Path("etc/p2vd/p2vd.toml")
    list(tree.install({path: b"first\n"}))
    (tmp_path / path).write_text("mine\n")
    (said,) = tree.install({path: b"second\n"})
    assert "kept your /etc/p2vd/p2vd.toml" in said
    assert (tmp_path / path).read_text() == "mine\n"
    assert (tmp_path / "etc/p2vd/p2vd.toml.new").read_text() == "second\n"
    assert list(tree.install({path: b"second\n"})) == []
    (said,) = tree.uninstall()
    assert "kept /etc/p2vd/p2vd.toml" in said
    assert listing(tmp_path) == {"etc/p2vd/p2vd.toml"}


def test_an_untouched_file_follows_the_version(packaging: ModuleType, tmp_path: Path) -> None:
    tree, path = packaging.Tree(tmp_path), Path("etc/p2vd/p2vd.toml")
    list(tree.install({path: b"first\n"}))
    assert list(tree.install({path: b"second\n"})) == []
    assert (tmp_path / path).read_text() == "second\n"


def test_a_file_that_was_there_before_us_is_the_administrators(packaging: ModuleType, tmp_path: Path) -> None:
    path = Path("etc/p2vd/p2vd.toml")
    (tmp_path / "etc/p2vd").mkdir(parents=True)
    (tmp_path / path).write_text("mine\n")
    tree = packaging.Tree(tmp_path)
    assert len(list(tree.install({path: b"ours\n"}))) == 1
    list(tree.uninstall())
    assert (tmp_path / path).read_text() == "mine\n"


def test_an_upgrade_takes_away_what_the_new_version_lacks(packaging: ModuleType, tmp_path: Path) -> None:
    tree = packaging.Tree(tmp_path)
    list(tree.install({Path("usr/lib/p2vd/old"): b"1", Path("usr/lib/p2vd/kept"): b"2"}))
    list(tree.install({Path("usr/lib/p2vd/kept"): b"3"}))
    assert listing(tmp_path) == {"usr/lib/p2vd/kept", "usr/lib/p2vd/install-manifest"}


def test_an_installation_cut_off_half_way_can_be_taken_back(packaging: ModuleType, tmp_path: Path) -> None:
    class Cut(packaging.Tree):  # type: ignore[misc,name-defined]  # a class of a module loaded at run time
        def _write(self, path: Path, data: bytes) -> None:
            if path.name == "b":
                raise OSError("no space")
            super()._write(path, data)

    with pytest.raises(OSError, match="no space"):
        list(Cut(tmp_path).install({Path("usr/lib/p2vd/a"): b"1", Path("usr/lib/p2vd/b"): b"2"}))
    assert (tmp_path / "usr/lib/p2vd/a").exists()
    list(packaging.Tree(tmp_path).uninstall())
    assert listing(tmp_path) == set()


def test_the_version_is_the_packages(packaging: ModuleType) -> None:
    import p2vd

    assert packaging.version() == p2vd.__version__


def test_the_host_is_asked_for_the_libraries_that_are_used_and_no_others(packaging: ModuleType) -> None:
    used: set[str] = set()
    for path in (ROOT / "p2vd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                used |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                used.add(node.module.partition(".")[0])
    optional = {"nbd"}  # where a source is an NBD export
    assert used - set(sys.stdlib_module_names) - {"p2vd"} - optional == {
        one[0] for one in packaging.LIBRARIES
    }
    readme = (ROOT / "README.md").read_text()
    assert [one[2] for one in packaging.LIBRARIES if one[2] not in readme] == []
    # The lab's machines have these from the distribution, and so show that nothing else is wanted.
    assert {one[2] for one in packaging.LIBRARIES} == set(PYTHON.split()) - {
        *("python3", "python3-setuptools", "python3-libnbd", "lowdown")
    }
