"""Which unit of systemd a process runs in."""

from pathlib import Path

_PROC = Path("/proc")


def unit_of(pid: int, proc: Path = _PROC) -> str:
    """Return the unit (`cron.service`, `session-3.scope`) of a process, "" where that cannot be told.

    Of what a user's own manager runs both: `user@1000.service/backup.service`.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return ""  # it has ended, or is another's
    # cgroups(7): HIERARCHY:CONTROLLERS:PATH; version 2 has hierarchy 0, systemd's own of version 1 a name.
    paths = [line.split(":", 2)[2] for line in lines if line.startswith("0::") or ":name=systemd:" in line]
    units = [part for part in (paths[0].split("/") if paths else ()) if part.endswith((".service", ".scope"))]
    return "/".join(units[: 2 if units and units[0].startswith("user@") else 1])
