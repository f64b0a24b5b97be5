"""The simulated host's open-iscsi: its sessions to every portal of the SAN are there from the start."""

from collections.abc import Sequence

from p2vd.model.disk import Portal
from p2vd.sim.lvm import Answered
from p2vd.sim.san import IQN, San, address_of

# iscsiadm(8), EXIT STATUS.
_INVALID, _NO_OBJECTS = 7, 21


class Iscsi:
    """Answers what p2vd asks where every session is there already. Used under the SAN's lock."""

    def __init__(self, san: San) -> None:
        self._san = san

    def iscsiadm(self, words: Sequence[str]) -> str:
        """Run a command; returns what it prints."""
        match list(words):
            case ["-m", "discovery", "-t", "sendtargets", "-p", portal, "-o", "nonpersistent", "-I", _]:
                return self._offers(portal)
            case ["-m", "session", "-r", number, "--rescan"] if number.isdigit():
                return self._rescan(int(number))
        raise Answered(_INVALID, f"iscsiadm: the simulator does not know iscsiadm {' '.join(words)}\n")

    def identity(self, words: Sequence[str]) -> str:
        """Say who a disk is, as scsi_id does."""
        lun = self._san.lun_of(words[-1])
        if lun is None:
            raise Answered(1, "")
        return f"{lun.wwid}\n"

    def _offers(self, portal: str) -> str:
        offers = {str(Portal(address_of(number), 3260)) for number in self._san.sessions}
        if portal not in offers:
            told = ", ".join(sorted(offers)) or "none"
            raise Answered(_NO_OBJECTS, f"iscsiadm: the simulated SAN has no such portal; it has {told}\n")
        return "".join(f"{offer},1 {IQN}\n" for offer in sorted(offers))

    def _rescan(self, number: int) -> str:
        if number not in self._san.sessions:
            raise Answered(_NO_OBJECTS, "iscsiadm: No session found.\n")
        # What changes on this SAN is seen at once.
        return f"Rescanning session [sid: {number}, target: {IQN}, portal: {address_of(number)},3260]\n"
