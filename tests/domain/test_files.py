"""The files for xl, Proxmox VE and KubeVirt, each by its tool's rules as far as these can be had offline."""

import ctypes
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from p2vd.domain.define import define
from p2vd.domain.definition import Definition, DomainDisk
from p2vd.domain.files import domain_files
from p2vd.domain.kubevirt import kube_name
from p2vd.domain.xl import xl_cfg
from p2vd.domain.yaml import documents
from p2vd.model.plan import DomainOptions
from tests.domain.machines import MACHINES, UUID

GOLDEN = Path(__file__).parent / "golden"


def of(kind: str) -> list[Path]:
    """The golden files of a kind."""
    found = sorted(GOLDEN.glob(f"*{kind}"))
    assert found
    return found


def definition(name: str) -> Definition:
    machine = MACHINES[name]
    return define(machine.name, UUID, machine.passport, machine.disks, machine.options)


# ---- xl ------------------------------------------------------------------------------------------


class Xlu:
    """The parser of xl itself (libxlutil, of libxenmisc4.17): it needs no Xen."""

    def __init__(self) -> None:
        self.lib = ctypes.CDLL("libxlutil.so.4.17")
        self.stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        self.lib.xlu_cfg_init.restype = ctypes.c_void_p
        self.lib.xlu_cfg_init.argtypes = [ctypes.c_void_p, ctypes.c_char_p]

    def parse(self, text: str) -> "Config | None":
        """Return what was read; None where it is no configuration."""
        config = self.lib.xlu_cfg_init(self.stderr, b"test.cfg")
        data = text.encode()
        self.lib.xlu_cfg_readdata.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        failed = self.lib.xlu_cfg_readdata(config, data, len(data))
        return None if failed else Config(self.lib, config)


class Config:
    """A parsed configuration, as xl reads it."""

    def __init__(self, lib: ctypes.CDLL, config: int) -> None:
        self.lib, self.config = lib, ctypes.c_void_p(config)

    def text(self, key: str) -> str:
        value = ctypes.c_char_p()
        assert not self.lib.xlu_cfg_get_string(self.config, key.encode(), ctypes.byref(value), 0), key
        return (value.value or b"").decode()

    def number(self, key: str) -> int:
        value = ctypes.c_long()
        assert not self.lib.xlu_cfg_get_long(self.config, key.encode(), ctypes.byref(value), 0), key
        return value.value

    def texts(self, key: str) -> list[str]:
        values, count = ctypes.c_void_p(), ctypes.c_int()
        found = self.lib.xlu_cfg_get_list(
            self.config, key.encode(), ctypes.byref(values), ctypes.byref(count), 0
        )
        assert not found, key
        self.lib.xlu_cfg_get_listitem.restype = ctypes.c_char_p
        return [self.lib.xlu_cfg_get_listitem(values, n).decode() for n in range(count.value)]


@pytest.mark.parametrize("path", of(".cfg"), ids=lambda path: path.name)
def test_xl_reads_its_file(path: Path) -> None:
    config = Xlu().parse(path.read_text())
    assert config is not None
    machine = definition(path.stem)
    assert config.text("name") == machine.name
    assert config.text("uuid") == UUID
    assert config.number("memory") * 1024 * 1024 == machine.memory_bytes
    assert config.number("vcpus") == machine.topology.count
    disks = config.texts("disk")
    assert [text.split("target=")[1] for text in disks] == [disk.devnode for disk in machine.disks]
    assert [f"mac={nic.mac}" in text for nic, text in zip(machine.nics, config.texts("vif"), strict=True)]


def test_xls_parser_does_refuse(capfd: pytest.CaptureFixture[str]) -> None:
    assert Xlu().parse('name = "a\ndisk = [\n') is None
    assert "syntax error" in capfd.readouterr().err


def test_xl_cannot_say_every_path() -> None:
    disks = (DomainDisk("/dev/vg/a\"b'c", "x"),)
    with pytest.raises(ValueError, match=r"xl\.cfg cannot say"):
        xl_cfg(define("a", UUID, None, disks, DomainOptions("xl")))
    disks = (DomainDisk('/dev/vg/a"b', "x"),)
    config = Xlu().parse(xl_cfg(define("a", UUID, None, disks, DomainOptions("xl"))))
    assert config is not None
    assert config.texts("disk")[0].endswith('target=/dev/vg/a"b')


# ---- Proxmox VE --------------------------------------------------------------------------------

DISK = r"/dev/[^,]+(,(aio=native|cache=none|discard=(on|ignore)|serial=[\w.%-]{1,20}))+"
QM_CONF = {
    r"agent": r"1",
    r"bios": r"ovmf|seabios",
    r"boot": r"order=(ide|sata|scsi|virtio)\d+(;(ide|sata|scsi|virtio)\d+)*",
    r"cores|sockets|memory": r"[1-9]\d*",
    r"cpu": r"host|max",
    r"localtime": r"[01]",
    r"machine": r"pc|q35",
    r"name": r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?",
    r"net\d+": r"(virtio|e1000e?|rtl8139)=([0-9A-F]{2}:){5}[0-9A-F]{2},bridge=[\w.-]+",
    r"ostype": r"l26|win10|win8|win7|w2k8|w2k3|wxp|w2k|other",
    r"rng0": r"source=/dev/urandom",
    r"scsihw": r"virtio-scsi-pci",
    r"(ide[0-3]|sata[0-5]|scsi([0-9]|[12]\d|30)|virtio([0-9]|1[0-5]))": DISK,
    r"serial0": r"socket",
    r"smbios1": r"uuid=[0-9a-f-]{36}",
    r"vga": r"std|virtio|serial0",
}
"""Key and value by qm.conf(5), of what p2vd writes."""


@pytest.mark.parametrize("path", of(".conf"), ids=lambda path: path.name)
def test_proxmoxs_file_has_the_form_of_qm_conf(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    keys = [line.split(": ", 1)[0] for line in lines]
    assert len(set(keys)) == len(keys)
    assert {"name", "memory", "cores", "sockets", "boot", "smbios1"} <= set(keys)
    for line in lines:
        key, value = line.split(": ", 1)
        (form,) = [form for name, form in QM_CONF.items() if re.fullmatch(name, key)]
        assert re.fullmatch(form, value), line


STUBS = {
    "qm": '[ "$1" = status ] && exit 2\necho "qm $*" >> "$CALLS"',
    "pvesh": "echo 107",
}


@pytest.mark.parametrize(
    ("name", "arguments", "calls", "disks_in_conf"),
    [
        ("proxmox", [], [], True),
        (
            "proxmox-windows",
            ["--storage", "local-lvm", "120"],
            ["qm set 120 --efidisk0 local-lvm:1,efitype=4m,pre-enrolled-keys=0"],
            True,
        ),
        (
            "proxmox",
            ["--import", "--storage", "ceph"],
            [
                "qm set 107 --scsi0 ceph:0,import-from=DISK0,aio=native,cache=none,discard=on,"
                "serial=6508937515eb84cf0001",
                "qm set 107 --scsi1 ceph:0,import-from=DISK1,aio=native,cache=none,discard=ignore,"
                "serial=6508937515eb84cf0002",
                "qm set 107 --boot order=scsi0;scsi1",
            ],
            False,
        ),
    ],
)
def test_proxmoxs_script_registers_the_machine(
    name: str, arguments: list[str], calls: list[str], disks_in_conf: bool, tmp_path: Path
) -> None:
    found, script = run_script(name, arguments, tmp_path)
    assert found.returncode == 0, found.stderr
    vmid = arguments[-1] if arguments[-1:] == ["120"] else "107"
    conf = (tmp_path / f"pve/qemu-server/{vmid}.conf").read_text()
    assert bool(re.search(r"^(scsi|sata)0:", conf, re.MULTILINE)) is disks_in_conf
    made = (tmp_path / "calls").read_text().splitlines() if calls else []
    assert [re.sub(r"=\S*?/disk(\d)", r"=DISK\1", call) for call in made] == calls
    again = subprocess.run(
        [*script, *arguments], capture_output=True, text=True, check=False, env=env(tmp_path)
    )
    assert again.returncode == 1
    assert "is taken" in again.stderr


def env(place: Path) -> dict[str, str]:
    return {"PATH": f"{place}/bin:/usr/bin:/bin", "CALLS": f"{place}/calls"}


def run_script(
    name: str, arguments: list[str], place: Path
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script of a machine, with /etc/pve and the disks in `place`, and Proxmox's commands noted."""
    (place / "bin").mkdir()
    (place / "pve/qemu-server").mkdir(parents=True)
    for tool, body in STUBS.items():
        (place / "bin" / tool).write_text(f"#!/bin/sh\n{body}\n")
        (place / "bin" / tool).chmod(0o755)
    machine = definition(name)
    conf, script = domain_files(machine)
    assert script.runs
    for file in (conf, script):
        text = file.text.replace("/etc/pve", f"{place}/pve")
        for number, disk in reversed(list(enumerate(machine.disks))):
            (place / f"disk{number}").touch()
            text = text.replace(disk.devnode, f"{place}/disk{number}")
        (place / file.name).write_text(text)
    command = ["sh", str(place / script.name)]
    return (
        subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=env(place)),
        command,
    )


def test_proxmoxs_script_wants_a_storage_for_uefi(tmp_path: Path) -> None:
    found, _ = run_script("proxmox-windows", [], tmp_path)
    assert found.returncode == 2
    assert "--storage STORAGE is missing" in found.stderr
    assert not list((tmp_path / "pve/qemu-server").iterdir())


def test_proxmoxs_script_wants_to_see_the_disks(tmp_path: Path) -> None:
    run_script("proxmox", ["nonsense"], tmp_path)
    (tmp_path / "disk1").unlink()
    found = subprocess.run(
        ["sh", str(tmp_path / "web_1-register.sh")],
        capture_output=True,
        text=True,
        check=False,
        env=env(tmp_path),
    )
    assert found.returncode == 1
    assert "does not see" in found.stderr


# ---- KubeVirt ------------------------------------------------------------------------------------

KUBE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DOMAIN_KEYS = {"machine", "cpu", "memory", "firmware", "features", "clock", "devices"}
DISK_KEYS = {"name", "disk", "serial", "bootOrder", "cache", "io", "blockSize"}


@pytest.mark.parametrize("path", of(".yaml"), ids=lambda path: path.name)
def test_kubevirts_file_is_whole(path: Path) -> None:
    """Each document has what its kind requires, and all names that it refers to are there."""
    found: list[dict[str, Any]] = list(yaml.safe_load_all(path.read_text()))
    machine = definition(path.stem)
    kinds = [document["kind"] for document in found]
    assert kinds == ["PersistentVolume", "PersistentVolumeClaim"] * len(machine.disks) + ["VirtualMachine"]
    assert all(KUBE_NAME.fullmatch(document["metadata"]["name"]) for document in found)
    volumes, claims, vm = found[:-1:2], found[1:-1:2], found[-1]
    for volume, claim, disk in zip(volumes, claims, machine.disks, strict=True):
        spec = volume["spec"]
        assert spec["local"] == {"path": disk.devnode}
        assert spec["volumeMode"] == claim["spec"]["volumeMode"] == "Block"
        assert spec["persistentVolumeReclaimPolicy"] == "Retain"
        assert spec["claimRef"] == {key: claim["metadata"][key] for key in ("name", "namespace")}
        assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
        assert spec["capacity"]["storage"] == str(disk.size_bytes)
        (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert term["matchExpressions"][0]["values"] == list(machine.nodes)
    assert vm["apiVersion"] == "kubevirt.io/v1"
    assert vm["spec"]["runStrategy"] == ("Always" if machine.start else "Halted")
    guest = vm["spec"]["template"]["spec"]
    domain = guest["domain"]
    assert set(domain) == DOMAIN_KEYS
    assert (
        domain["cpu"]["sockets"] * domain["cpu"]["cores"] * domain["cpu"]["threads"] == machine.topology.count
    )
    claimed = [volume["persistentVolumeClaim"]["claimName"] for volume in guest["volumes"]]
    assert claimed == [claim["metadata"]["name"] for claim in claims]
    disks = domain["devices"]["disks"]
    assert [disk["name"] for disk in disks] == [volume["name"] for volume in guest["volumes"]]
    assert all(set(disk) <= DISK_KEYS for disk in disks)
    assert [disk["serial"] for disk in disks] == [disk.serial for disk in machine.disks]
    assert [nic["name"] for nic in domain["devices"]["interfaces"]] == [
        net["name"] for net in guest["networks"]
    ]


@pytest.mark.parametrize(
    ("name", "made"), [("Web.1", "web-1"), ("a_b+c", "a-b-c"), ("_", "machine"), ("x" * 63, "x" * 52)]
)
def test_names_for_kubernetes(name: str, made: str) -> None:
    assert kube_name(name) == made


VALUE = {
    "a": ["12345e67", "no", "0123", "~", 'a"b\n#c: d', "", "ü"],
    "yes": {"b": [], "c": {}, "d": [{"e": 1, "f": True}, {"g": None}]},
    "n/m.o": -3,
}


def test_every_yaml_reader_gets_the_same_values() -> None:
    assert list(yaml.safe_load_all(documents([VALUE, VALUE]))) == [VALUE, VALUE]
    assert '"12345e67"' in documents([VALUE])


# ---- nothing for libvirt --------------------------------------------------------------------------


def test_libvirt_takes_no_files() -> None:
    assert domain_files(definition("bios-linux")) == ()
