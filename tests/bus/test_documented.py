"""What the interfaces' comments say of dictionaries is what they hold."""

import re
from pathlib import Path

import p2vd.bus
from p2vd.bus.waves import view
from p2vd.model.wave import Fate, Wave, WaveEntry, WaveItem
from p2vd.policy.describe import describe
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load

MANAGER = (Path(p2vd.bus.__file__).parent / "interfaces/org.p2vd1.Manager.xml").read_text()
RULES = """
[[rule]]
name = "volumes"
match.wwid = "*"
target = { volume_groups = "vg_san", provisioning = "thin" }

[[rule]]
name = "luns"
match.wwid = "*"
target.lun.wwid = "3600*"

[[rule]]
name = "files"
match.wwid = "*"
target.directory = "/srv"
"""


def comment_of(method: str) -> str:
    """What stands above a method."""
    return MANAGER.partition(f'<method name="{method}">')[0].rpartition("<!--")[2]


def test_a_wave() -> None:
    shown = view(Wave("id", (WaveItem(WaveEntry(sources=("a",)), "vm1", Fate.READY),)))
    machines = shown["Machines"].value
    assert isinstance(machines, tuple)
    comment = " ".join(comment_of("PlanWave").split())
    told = dict(re.findall(r"\b([A-Z][A-Za-z]+) (aa\{sv\}|[a-z]+)(?!\w)", comment))
    for name, variant in (shown | machines[0]).items():
        assert told.get(name) == variant.signature, name


def test_the_sections_of_a_rule() -> None:
    rules = load([PolicyText("1.toml", RULES)])
    assert not rules.errors
    sections = {setting.section for rule in rules.rules for setting in describe(rule).settings} - {""}
    (told,) = re.findall(r"Section s \(the key's table: ([^;]*);", comment_of("GetPolicy"))
    assert set(re.split(r",\s+", told)) == sections
