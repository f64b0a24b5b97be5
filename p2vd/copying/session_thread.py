"""A session on a thread of its own, whose end is a report whatever becomes of it."""

import threading

from p2vd.copying.errors import ExitCode
from p2vd.copying.session import Session
from p2vd.copying.terms import Failure, Report
from p2vd.model.copying import Progress


class SessionThread(threading.Thread):
    """Runs `session` once it is started."""

    def __init__(self, session: Session) -> None:
        super().__init__(name="session")
        self._session = session
        self._report: Report | None = None

    def run(self) -> None:
        """Run the session: on its thread."""
        self._report = self._session.run()

    def report(self) -> Report:
        """Wait for the end and return its report. `run` reports every end, so one without is a defect."""
        self.join()
        if self._report is not None:
            return self._report
        failure = Failure("Defect", "the session ended without a report")
        return Report(int(ExitCode.IO_FAILED), Progress(), failure=failure)
