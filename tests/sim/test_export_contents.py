"""The daemon's parts put together: what is on an NBD export is looked at, and counts, as on a LUN."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2vd.copying.nbd_asking import ExportAnswer
from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.model.contents import BootStyle, Contents, Examination, Partition, Signature, Table
from p2vd.model.disk import Source
from p2vd.model.errors import Refused
from p2vd.model.job import Caller
from p2vd.model.nbd import NbdExport
from p2vd.model.plan import Firmware
from p2vd.model.size import GIB, MIB
from p2vd.sim.examiner import SimExaminer
from p2vd.sim.script import Export as SimulatedExport
from p2vd.sim.script import Script
from p2vd.sim.world import World
from tests.jobs.fake_disks import BIOS, LONG_S
from tests.sim.test_exports import ID, URI, Lab

NAMED = f'[[nbd]]\nuri = "{URI}"\n'
UEFI = replace(BIOS, table=Table.GPT, boot=BootStyle.UEFI)
OPTIONS = {"source-offline": True, "name": "erp1"}


def holding(**signature: Any) -> Contents:
    found = Signature(**signature)
    return replace(BIOS, partitions=(Partition(1, MIB, GIB - MIB, "0x7", signature=found),))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.engine.stop()
    lab.services.store.close()


def until(lab: Lab, examination: Examination) -> Source:
    """The export, once as much is known of it."""
    while (found := lab.engine.inventory().by_id.get(ID)) is None or found.examination is not examination:
        assert lab.news.acquire(timeout=LONG_S)
    return found


def test_a_hibernated_windows_behind_a_server_is_refused(lab: Lab) -> None:
    lab.disks.answers[ID] = ExamineReply(holding(type="ntfs", hibernated=True))
    lab.name(NAMED)
    lab.until(there=True)
    with pytest.raises(Refused, match=r"is hibernated .ntfs on partition 1.*powercfg /h off"):
        lab.engine.plan([URI], OPTIONS, Caller())
    text = (lab.policies / "40-rescue.toml").read_text()
    allowed = text.replace("match.", "source.allow_hibernated = true\nmatch.", 1)
    (lab.policies / "40-rescue.toml").write_text(allowed)
    assert lab.engine.reload() == ()
    plan = lab.engine.plan([URI], OPTIONS, Caller())
    assert [each for each in plan.warnings if "is hibernated" in each and "allows that" in each]


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ({"type": "ntfs", "dirty": True}, "was not unmounted cleanly"),
        ({"type": "LVM2_member", "volume_group": "rootvg"}, "a physical volume of the volume group rootvg"),
        ({"type": "crypto_LUKS"}, "is encrypted (LUKS)"),
    ],
)
def test_the_warnings_of_a_lun_are_those_of_an_export(
    lab: Lab, signature: dict[str, object], said: str
) -> None:
    lab.disks.answers[ID] = ExamineReply(holding(**signature))
    lab.name(NAMED)
    plan = lab.until(there=True).plan([URI], OPTIONS, Caller())
    assert [each for each in plan.warnings if said in each]


def test_it_boots_as_its_disk_was_made_to_and_a_record_is_guessed_from_it(lab: Lab) -> None:
    lab.disks.answers[ID] = ExamineReply(UEFI)
    lab.name(NAMED)
    lab.until(there=True)
    assert lab.engine.plan([URI], OPTIONS, Caller()).domain.firmware is Firmware.UEFI
    assert lab.engine.passports.guess([ID], "erp1").passport.firmware is Firmware.UEFI


def test_each_plan_looks_anew(lab: Lab) -> None:
    lab.name(NAMED)
    until(lab, Examination.DONE)
    lab.disks.answers[ID] = ExamineReply(holding(type="swsuspend", hibernated=True))
    with pytest.raises(Refused, match="is hibernated"):
        lab.engine.plan([URI], OPTIONS, Caller())


def test_one_that_was_away_is_looked_at_when_it_is_back(lab: Lab) -> None:
    lab.name(NAMED)
    assert until(lab, Examination.DONE).contents == BIOS
    lab.servers.answers = {}
    lab.services.exports.ask_soon()
    lab.services.exports.doubt(ID)
    while ID in lab.engine.inventory().by_id:
        assert lab.news.acquire(timeout=LONG_S)
    lab.disks.answers[ID] = ExamineReply(UEFI)
    lab.servers.answers = {URI: ExportAnswer(URI, GIB, "1-2")}
    lab.services.exports.doubt(ID)
    assert until(lab, Examination.DONE).contents == UEFI


def test_another_disk_in_its_place_is_looked_at(lab: Lab) -> None:
    lab.name(NAMED)
    until(lab, Examination.DONE)
    lab.disks.answers[ID] = ExamineReply(UEFI)
    lab.servers.answers = {URI: ExportAnswer(URI, GIB, "1-3")}
    lab.services.exports.doubt(ID)
    while (found := until(lab, Examination.DONE)).file_id != "1-3":
        assert lab.news.acquire(timeout=LONG_S)
    assert found.contents == UEFI


def test_one_that_is_lost_while_it_is_looked_at_is_refused_until_it_is_back(lab: Lab) -> None:
    lost = ExamineReply(problem=f"{URI} was lost: it ended.", examination=Examination.SILENT)
    lab.disks.answers[ID] = lost
    lab.name(NAMED)
    lab.until(there=True)
    with pytest.raises(Refused, match=r"was lost: it ended\. Look at its server"):
        lab.engine.plan([URI], OPTIONS, Caller())
    lab.disks.answers.clear()
    assert lab.engine.plan([URI], OPTIONS, Caller()).disks


def test_the_simulator_tells_what_is_on_its_exports(tmp_path: Path) -> None:
    world = World(Script(exports=(SimulatedExport(URI, GIB),)), tmp_path)
    request = ExamineRequest(ID, GIB, 4096, export=NbdExport(URI))
    found = looked(world.examiner(), request).contents
    assert found is not None
    assert (found.boot, [one.signature.type for one in found.partitions]) == (BootStyle.BIOS, ["ext4"])
    world.processes.exports.all[0].away = True
    assert looked(world.examiner(), request).examination is Examination.SILENT


def looked(examiner: SimExaminer, request: ExamineRequest) -> ExamineReply:
    return examiner.examine(request, lambda _: True)
