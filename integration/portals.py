"""Portals of the host that p2vd runs on, as a management tool sees them."""

from integration.host import Host, Properties

PORTAL = "org.p2vd1.Portal"


class Portals:
    """The portals of a host."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def add(self, *portals: str, secret: str, secret_in: str, user: str, user_in: str) -> tuple[int, str]:
        """Add portals by p2vctl with mutual CHAP; its exit status, and what it said."""
        command = ["p2vctl", "portals", "add", *portals, "--chap-user", user, "--chap-secret-file", "-"]
        command += ["--chap-user-in", user_in, "--chap-secret-in-file", "-"]
        done = self.host.vm.run(command, check=False, stdin=f"{secret}\n{secret_in}\n")
        return done.returncode, done.stdout + done.stderr

    def all(self) -> dict[str, Properties]:
        """Return every portal by its id."""
        return {portal["Id"]: portal for portal in self.host.of(PORTAL)}

    def wait(self, portal: str, state: str) -> Properties:
        """Wait until a portal is in a state; return it."""
        found: Properties = self.host.wait(
            lambda: (now := self.all().get(portal)) and now["State"] == state and now,
            f"the portal {portal} {state}",
        )
        return found

    def rescan(self, portal: str) -> Properties:
        """Rescan a portal's LUNs; return what was found, by its keys."""
        path = self.all()[portal]["path"]
        self.host.call(path, PORTAL, "Rescan", "a{sv}", {})
        done = self.host.wait(lambda: not self.all()[portal]["Rescanning"], "the end of the rescan")
        assert done
        now = self.all()[portal]
        assert now["Error"] == ["", ""], now["Error"]
        report: Properties = now["LastRescan"]
        return report
