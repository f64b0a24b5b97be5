"""Which machines start by themselves, and what is said of the others."""

from dataclasses import replace

from p2vd.model.inventory import Inventory
from p2vd.model.passport import Passport, PassportDisk
from p2vd.model.size import GIB
from p2vd.planning.auto import AutoView, auto_view
from tests.planning.builders import THIN, VG, make_policies, make_source

ONE, TWO = (make_source(wwid=f"3600{n:028x}", name=f"mpath{n}") for n in (1, 2))
AUTO = make_policies(
    THIN.replace('name = "thin"', 'name = "thin"\nauto = true') + "[rule.source]\noffline = true\n"
)
DISKS = (PassportDisk("sda", 10 * GIB, ONE.wwid), PassportDisk("sdb", 10 * GIB, TWO.wwid))
ERP = Passport("erp1", disks=DISKS)


def view(*records: Passport, had: dict[str, str] | None = None, absent: bool = False) -> AutoView:
    inventory = Inventory((ONE,) if absent else (ONE, TWO), (VG,))
    return auto_view(inventory, AUTO, {one.name: one for one in records}, had or {})


def test_a_machine_with_all_its_disks_may_start() -> None:
    (machine,) = view(ERP).ready
    assert (machine.name, machine.source_ids) == ("erp1", (ONE.id, TWO.id))
    assert view(ERP).said == {}
    assert view(ERP) == view(ERP)


def test_without_the_flag_nothing_starts_and_nothing_is_said() -> None:
    assert auto_view(Inventory((ONE, TWO), (VG,)), make_policies(THIN), {"erp1": ERP}, {}) == AutoView()


def test_what_is_missing_is_said_of_each_disk_that_is_here() -> None:
    assert "when the record of its machine is imported" in view().said[ONE.id]
    waiting = view(ERP, absent=True)
    assert waiting.ready == ()
    assert waiting.said == {
        ONE.id: f"It is not started by itself: the disk {TWO.wwid} of erp1 is not attached to this host."
    }
    nameless = replace(ERP, disks=(*DISKS, PassportDisk("sdc", GIB)))
    assert "tells no WWID of its disk sdc" in view(nameless).said[TWO.id]


def test_a_disk_that_ever_had_a_job_keeps_its_machine_from_starting() -> None:
    once = view(ERP, had={TWO.wwid: "job-1"})
    assert once.ready == ()
    assert once.said[TWO.id] == "It is not started by itself again: job job-1 has it, or had it."
    assert "job job-1 has the disk" in once.said[ONE.id]


def test_a_disk_of_two_records_is_nobodys() -> None:
    both = view(ERP, replace(ERP, name="erp2", disks=DISKS[:1]))
    assert both.ready == ()
    assert "the records erp1, erp2 all name it" in both.said[ONE.id]
    assert "is named by several records" in both.said[TWO.id]
