"""p2vctl boot-test against the face on a private bus."""

import json
import threading

import pytest

from p2vd.cli.boot_test import told
from tests.bus import values
from tests.bus.harness import PATIENCE_S, Face
from tests.cli.conftest import Run
from tests.waiting import until

BOOTED = {
    "state": "booted",
    "sign": "serial",
    "seen": "The guest lives.",
    "serial": "one\n\nlogin: ",
    "screenshot": "/var/lib/p2vd/machines/x/boot-test.png",
    "accelerator": "tcg",
}


@pytest.fixture
def p2vctl(p2vctl: Run, face: Face) -> Run:
    """Run p2vctl; the test of a machine ends by itself, with `ends`, once it was asked for."""

    def run(*arguments: str, ends: dict[str, str] | None = None) -> tuple[int, str, str]:
        def end() -> None:
            until(
                lambda: any(asked[0] == "boot_test" for asked in face.tell("what_was_asked")),
                within_s=PATIENCE_S,
            )
            face.tell("end_boot_test", values.MACHINE_UUID, ends)

        steering = threading.Thread(target=end, daemon=True)
        if ends is not None:
            steering.start()
        answer = p2vctl(*arguments)
        if ends is not None:
            steering.join()
        return answer

    face.tell("add", values.JOB_UUID, values.MACHINE_UUID)
    return run


def test_what_was_seen_is_told(p2vctl: Run) -> None:
    status, out, _ = p2vctl("boot-test", values.MACHINE_UUID, ends=BOOTED)
    assert status == 0
    assert (
        out.splitlines()[1:]
        == told({name.capitalize(): value for name, value in BOOTED.items()}).splitlines()
    )
    assert "The guest lives." in out
    assert "  login: " in out
    assert "Screen: /var/lib/p2vd/machines/x/boot-test.png" in out
    assert "It ran in emulation" in out


def test_the_machine_tells_of_it_later(p2vctl: Run) -> None:
    p2vctl("boot-test", values.MACHINE_UUID, ends=BOOTED)
    status, out, _ = p2vctl("show", values.MACHINE_UUID)
    assert status == 0
    assert "Boot test: booted\nThe guest lives.\n" in out


def test_options_are_handed_over(p2vctl: Run, face: Face) -> None:
    words = ("--expect", "login:", "--timeout", "60", "--memory", "6 GiB", "--no-wait")
    status, out, _ = p2vctl("boot-test", values.MACHINE_UUID, *words)
    assert status == 0
    assert "What is seen: p2vctl show" in out
    asked = face.tell("what_was_asked")
    assert asked == [
        ["boot_test", values.MACHINE_UUID, {"timeout": 60, "expect": "login:", "memory": 6 << 30}, 1234]
    ]


def test_a_machine_that_does_not_boot_is_an_exit_status(p2vctl: Run) -> None:
    ends = {"state": "not-booted", "seen": "The guest does not boot: the kernel panicked."}
    status, out, _ = p2vctl("boot-test", values.MACHINE_UUID, ends=ends)
    assert status == 5
    assert "the kernel panicked" in out


def test_a_test_that_could_not_be_carried_out_is_an_error(p2vctl: Run) -> None:
    ends = {"state": "failed", "seen": "The volume is open.", "error": "VolumeInUse"}
    status, _, err = p2vctl("boot-test", values.MACHINE_UUID, ends=ends)
    assert status == 1
    assert err == "p2vctl: The volume is open.\n"


def test_json_is_the_property_as_it_is_on_the_bus(p2vctl: Run) -> None:
    status, out, _ = p2vctl("boot-test", values.MACHINE_UUID, "--json", ends=BOOTED)
    assert status == 0
    test = json.loads(out)
    assert (test["State"], test["Sign"], test["EndTime"]) == ("booted", "serial", 2)


def test_a_size_that_is_none_is_refused_at_once(p2vctl: Run) -> None:
    with pytest.raises(SystemExit):
        p2vctl("boot-test", values.MACHINE_UUID, "--memory", "much")


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--timeout", "-1", "write whole seconds, such as 300"),
        ("--timeout", "9999999999", "write whole seconds"),
        ("--memory", "99999999999TiB", "more memory than there is"),
    ],
)
def test_what_the_bus_cannot_say_is_refused_at_once(
    p2vctl: Run, capsys: pytest.CaptureFixture[str], option: str, text: str, said: str
) -> None:
    with pytest.raises(SystemExit):
        p2vctl("boot-test", "erp1", option, text)
    assert said in capsys.readouterr().err
