"""A week with p2vd on the simulator: the real p2vctl and the real daemon, from install to audit.

What it prints is units/week.md, word for word but for what differs from run to run (ids, times, rates). Where
the two differ, the failure says how to bring the page up to date.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from p2vd.bus.names import BUS_NAME, JOB, MACHINE, SOURCE, encode_label
from p2vd.cli.main import main as p2vctl
from p2vd.cli.render import SHORT_ID
from tests.bus.harness import PATIENCE_S, Client
from tests.sim.test_end_to_end import looked_at, of

PAGE = Path("units/week.md")
HEAD = """# A week with p2vd

What an administrator types and sees in a week, from the installation to the audit. `tests/sim/test_week.py`
made it on the simulator (`p2vd --sim`), with the real p2vd and the real p2vctl; only ids, times and hashes
were made the same for each run. Disks are small, so that the week takes a minute.
"""
SERVERS = 40
MOST_LINES = 50

SAN = f"""
luns = [
    {{ count = 6, size = "64 MiB" }},
    {{ count = 3, size = "128 MiB" }},
    {{ count = {SERVERS}, size = "8 MiB" }},
]

[[volume_group]]
name = "vg_san"
size = "16 GiB"
pool = {{ name = "pool0", size = "4 GiB" }}

[speed]
copy = "32 MiB"
verify = "400 MiB"

# Wednesday: a path of the database's disk fails; somebody fills the pool, and it is extended.
[[faults]]
what = "path-fails"
lun = 8
path = 1
at_percent = 10
lasts_seconds = 6

[[faults]]
what = "pool-filled"
lun = 9
at_percent = 25
percent = 99

[[faults]]
what = "pool-extended"
lun = 9
at_percent = 25
after_seconds = 6
size = "8 GiB"

# Thursday: the host loses its power.
[[faults]]
what = "daemon-dies"
lun = 3
at_percent = 60
"""

POLICY = """\
[[rule]]
name = "erp"                          # one machine of six disks: handed over when we say so
match.machine = ["erp*"]
cutover = "manual"
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
domain.memory = "8 GiB"
domain.vcpus = 4

[[rule]]
name = "all-others"
match.transport = ["iscsi"]
target.volume_groups = ["vg_san"]
target.provisioning = "thin"
target.single_host = true
domain.memory = "2 GiB"
domain.vcpus = 2
"""

CONFIG = """\
policy_dirs = ["{directory}/policy.d"]
max_jobs = 20"""


class Week:
    """The simulated host, its daemon and the page that is written."""

    def __init__(self, address: str, client: Client, directory: Path) -> None:
        self.address, self.client, self.directory = address, client, directory
        self.page: list[str] = []
        self._log = (directory / "log").open("a")
        self._daemon: subprocess.Popen[bytes] | None = None

    # ---- the page ----------------------------------------------------------------------------

    def day(self, name: str, *sentences: str) -> None:
        self.page += ["", f"## {name}", ""]
        self.say(*sentences)

    def say(self, *sentences: str) -> None:
        self.page += [" ".join(sentences), ""]

    def shows(self, command: str, output: str, only: str = "", last: int = 0) -> None:
        """Put a command and what it said on the page; `only`, `last`: what grep and tail leave of it."""
        lines = output.rstrip().splitlines()
        if only:
            lines = sorted((line for line in lines if only in line), key=lambda line: line.split()[1])
            command = f"{command} | grep {only}{' | sort -k 2' if len(lines) > 1 else ''}"
        if last:
            command, lines = f"{command} | tail -{last}", lines[-last:]
        if len(lines) > MOST_LINES:
            lines = [*lines[:4], "...", *lines[-3:]]
        if self.page[-1].startswith("    "):
            self.page.append("")
        self.page += [f"    # {command}", *(f"    {line}".rstrip() for line in lines), ""]

    def ctl(self, *words: str, only: str = "", last: int = 0, status: int = 0) -> None:
        """Run p2vctl, as the administrator does, and show it."""
        self.shows(f"p2vctl {' '.join(words)}", self.quietly(*words, status=status), only, last)

    def quietly(self, *words: str, status: int = 0) -> str:
        """Run p2vctl in this process: to start Python a hundred times is no part of the week."""
        out = StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            ended = p2vctl(["--bus", self.address, *words])
        assert ended == status, out.getvalue()
        return out.getvalue()

    def text(self) -> str:
        """The page, with what differs from run to run made the same."""
        text = HEAD + "\n".join(self.page)
        for place, told in (("policy.d", "/etc/p2vd/policy.d"), ("state", "/var/lib/p2vd")):
            text = text.replace(f"{self.directory}/{place}", told)
        for uuid, same in self._ids():
            text = text.replace(uuid, same).replace(encode_label(uuid), encode_label(same))
            text = re.sub(rf"\b{uuid[:SHORT_ID]}\b", same[:SHORT_ID], text)
        for pattern, told in _SAME:
            text = re.sub(pattern, told, text)
        plans = dict.fromkeys(re.findall(_PLAN, text))
        for number, plan in enumerate(plans, 1):
            text = text.replace(plan, f"{number:x}" * 16)
        return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"

    def _ids(self) -> Iterator[tuple[str, str]]:
        """The UUIDs of machines and jobs, and what they are on the page: by name and disk."""
        machines = sorted(of(self.client, MACHINE).values(), key=lambda own: str(own["Name"]))
        jobs = of(self.client, JOB)
        for number, machine in enumerate(machines, 1):
            yield str(machine["Uuid"]), f"b{number:07x}{_REST}"
            for disk, job in enumerate(machine["Jobs"], 1):
                yield str(jobs[job]["Uuid"]), f"a{number:05x}{disk:02x}{_REST}"

    # ---- the daemon --------------------------------------------------------------------------

    def start(self) -> None:
        """Start p2vd, or start it again, as systemd does at a boot."""
        words = [f"--sim={self.directory}/san.toml", "--state-dir", f"{self.directory}/state"]
        words += ["--bus-address", self.address, "--config", f"{self.directory}/p2vd.toml"]
        self._daemon = subprocess.Popen(
            [sys.executable, "-m", "p2vd.daemon", *words], stderr=self._log, stdin=subprocess.DEVNULL
        )
        self.client.until(lambda: self.client.connection.name_has_owner(BUS_NAME) or self._ended())

    def _ended(self) -> bool:
        assert self._daemon is not None
        assert self._daemon.poll() is None, (self.directory / "log").read_text()
        time.sleep(0.05)
        return False

    def power_cut(self) -> None:
        """Wait for the one that the simulator's script has."""
        assert self._daemon is not None
        assert self._daemon.wait(PATIENCE_S) == -9

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(PATIENCE_S)
        self._log.close()

    # ---- looks -------------------------------------------------------------------------------

    def disks(self) -> list[str]:
        """The sources in the script's order: the kernel's names tell it."""
        found = [(str(own["Name"]), str(own["Id"])) for own in of(self.client, SOURCE).values()]
        return [wwid for name, wwid in sorted(found, key=lambda each: (len(each[0]), each[0]))][1:]

    def machine(self, name: str) -> dict[str, Any]:
        found: dict[str, Any]
        (found,) = (own for own in of(self.client, MACHINE).values() if own["Name"] == name)
        return found

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = of(self.client, JOB)[self.machine(name)["Jobs"][0]]
        return found

    def until(self, probe: Any) -> None:
        self.client.until(probe)

    def await_state(self, name: str, state: str) -> None:
        self.until(lambda: self.machine(name)["State"] == state)

    def migrate(self, source: str, name: str) -> None:
        """Plan and start, shown as two commands."""
        plan = json.loads(self.quietly("plan", source, "--source-offline", "--name", name, "--json"))
        self.shows(f"p2vctl plan {source} --source-offline --name {name} --json", "...")
        self.ctl("migrate", plan["Id"])


_REST = "-0000-4000-8000-000000000000"
_PLAN = r"(?<![0-9a-f])[0-9a-f]{16}(?![0-9a-f])"
_SAME = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-30 09:00:00"),
    (r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "0123456789abcdef" * 4),
    (r"(?<=  Volume      )\S{38}", "AbCdEf-0000-0000-0000-0000-0000-AbCdEf"),
    (r"kernel \S+, p2vd (\S+), python \S+", r"kernel 6.1.0-18-amd64, p2vd \1, python 3.11.2"),
    (r"uid \d+", "uid 0"),
    (r"(held: pool +)\d+%", r"\g<1>34%"),
    (r"\d+ entries, 1 to \d+", "663 entries, 1 to 663"),
)


@pytest.fixture
def week(bus_address: str, client: Client, tmp_path: Path) -> Iterator[Week]:
    one = Week(bus_address, client, tmp_path)
    yield one
    one.stop()


def record(wwids: Sequence[str]) -> str:
    """What p2vd-machine(5) permits to be written by hand."""
    disks = "".join(
        f'\n[[disks]]\nname = "sd{letter}"\nsize_bytes = "64 MiB"\nwwid = "{wwid}"\n'
        for letter, wwid in zip("abcdef", wwids, strict=True)
    )
    return f'name = "erp1"\nfirmware = "bios"\nmemory_bytes = "8 GiB"\n{disks}'


@pytest.mark.slow
def test_a_week(week: Week, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    (tmp_path / "san.toml").write_text(SAN)
    (tmp_path / "p2vd.toml").write_text(CONFIG.format(directory=tmp_path))

    week.day("Monday: install, connect, find out what there is")
    install(week, tmp_path)
    week.start()
    looked_at(week.client)
    disks = week.disks()
    erp, (web, database, archive), servers = disks[:6], disks[6:9], disks[9:]
    week.say("The array's first portal. The host is logged in to it already:")
    week.ctl("portals", "add", "192.0.2.1")
    week.ctl("portals", "list")
    week.say("The ERP server has told what it is (`p2vd-collect`), while it still ran:")
    (tmp_path / "erp1.toml").write_text(record(erp))
    week.shows("p2vctl machine import erp1.toml", week.quietly("machine", "import", f"{tmp_path}/erp1.toml"))
    week.ctl("machine", "list")
    week.say("It still runs, and nobody has said that it does not. So there is no plan:")
    week.ctl("plan", "--machine", "erp1", status=1)

    week.day("Tuesday: the first server, then forty", "The web server is shut down; its disk goes first.")
    week.ctl("plan", web, "--source-offline", "--name", "web1")
    plan = json.loads(week.quietly("plan", web, "--source-offline", "--name", "web1", "--json"))
    week.ctl("migrate", plan["Id"], "--wait", last=1)
    week.ctl("receipt", "web1")
    wave(week, servers, tmp_path)

    week.day(
        "Wednesday: the SAN has a bad day",
        "A path of the database's disk fails while it is copied. The copy goes on by the other one:",
    )
    week.migrate(database, "db1")
    week.until(
        lambda: next(s for s in of(week.client, SOURCE).values() if s["Id"] == database)["PathsReady"] == 1
    )
    week.ctl("sources", "--filter", f"id={database}")
    week.await_state("db1", "registered")
    week.say("Somebody else fills the thin pool. The copy is held before the pool is full:")
    week.migrate(archive, "archive1")
    week.until(lambda: list(week.job("archive1")["Holds"]) == ["pool"] and week.job("archive1")["Stalled"])
    week.ctl("jobs", only="pool")
    week.say("The administrator extends it, and the copy goes on by itself:")
    week.shows("lvextend -L 8G vg_san/pool0", "")
    week.await_state("archive1", "registered")
    week.ctl("jobs", only="archive1")

    week.day(
        "Thursday: six disks, and the power fails",
        "The ERP server is shut down. Its six disks move together; half-way the host loses its power.",
    )
    plan = json.loads(week.quietly("plan", "--machine", "erp1", "--source-offline", "--json"))
    week.shows("p2vctl plan --machine erp1 --source-offline --json", "...")
    week.ctl("migrate", plan["Id"])
    week.power_cut()
    week.say(
        "After the boot p2vd goes on at its checkpoints, without being asked, and waits for the cutover:"
    )
    week.start()
    assert all(of(week.client, JOB)[job]["Stage"] != "failed" for job in week.machine("erp1")["Jobs"])
    week.await_state("erp1", "ready")
    assert any(of(week.client, JOB)[job]["ResumedFrom"] for job in week.machine("erp1")["Jobs"])
    week.ctl("show", "erp1")

    week.day("Friday: cutover", "Does it boot? Then it is handed over:")
    week.ctl("boot-test", "erp1", "--expect", "login:")
    week.ctl("cutover", "erp1")
    week.say(
        "The web server's owner has found a mistake in it, and wants the old machine back for another week:"
    )
    week.ctl("rollback", "web1")
    week.say("The ERP server stays. Its old disks are removed from this host:")
    week.ctl("accept", "erp1", "--yes")
    week.say("The auditor asks who moved the ERP server, and whether the records are as they were written:")
    entries = json.loads(week.quietly("audit", "--machine", "erp1", "--json"))
    asked = [f"uid {entry['who']['uid']}: {entry['verb']}" for entry in entries if entry.get("who")]
    program = r'.[] | select(.who) | "uid \(.who.uid): \(.verb)"'
    week.shows(f"p2vctl audit --machine erp1 --json | jq -r '{program}'", "\n".join(asked))
    week.ctl("audit", "verify")

    text = week.text()
    if not PAGE.exists() or text != PAGE.read_text():
        made = tmp_path / "week.md"
        made.write_text(text)
        pytest.fail(
            f"units/week.md is not what this week was; look at the differences, then: cp {made} {PAGE}"
        )


def install(week: Week, tmp_path: Path) -> None:
    """From a checkout; into a directory here, where it must leave this host alone."""
    root = tmp_path / "root"
    words = [sys.executable, "setup.py", "-q", "install_host", f"--root={root}"]
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    assert (root / "usr/lib/systemd/system/p2vd.service").exists()
    week.shows("/usr/bin/python3 setup.py install_host", "")
    week.say("A policy says where disks go; the ERP server's is to wait for its cutover:")
    (tmp_path / "policy.d").mkdir()
    (tmp_path / "policy.d/10-site.toml").write_text(POLICY)
    week.shows("cat /etc/p2vd/policy.d/10-site.toml", POLICY)
    words = [sys.executable, "-m", "p2vd.daemon", "--config", f"{tmp_path}/p2vd.toml", "--check-config"]
    subprocess.run(words, check=True)
    week.shows("p2vd --check-config && systemctl enable --now p2vd", "")


def wave(week: Week, servers: Sequence[str], tmp_path: Path) -> None:
    """Forty servers, one disk each."""
    week.say(f"The branch offices' {SERVERS} servers have one disk each and are shut down over night:")
    lines = [f"{source},branch{number:02},yes" for number, source in enumerate(servers, 1)]
    listed = ["sources,name,source_offline", *lines]
    (tmp_path / "branches.csv").write_text("\n".join(listed) + "\n")
    week.shows("head -3 branches.csv", "\n".join(listed[:3]))
    said = week.quietly("migrate", "--wave", str(tmp_path / "branches.csv")).splitlines()
    week.shows("p2vctl migrate --wave branches.csv", "\n".join([*said[:8], "...", *said[-4:]]))
    names = {f"branch{number:02}" for number in range(1, SERVERS + 1)}

    def registered() -> bool:
        return (
            names
            == {own["Name"] for own in of(week.client, MACHINE).values() if own["State"] == "registered"}
            & names
        )

    week.until(registered)
    week.say("In the morning:")
    week.ctl("jobs", only="branch0")
