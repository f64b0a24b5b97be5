"""What the doctor judges: this host's settings, and whether those whom policies name could take machines.

Else it is told only when a machine is to be registered, after hours of copying.
"""

import logging
import threading
from dataclasses import replace
from functools import partial
from queue import Empty, Queue

from p2vd.jobs.services import Services
from p2vd.model.doctor import HostFacts
from p2vd.model.errors import P2vdError, Reason
from p2vd.policy.domain import LIBVIRT
from p2vd.system.threads import start

log = logging.getLogger(__name__)

_ANSWER_S = 10.0


class HostLook:
    """Looks at the host; a hypervisor that hangs is waited for some seconds, and not asked twice at a time.

    For one thread at a time, as a Checkup has it.
    """

    def __init__(self, services: Services, answer_s: float = _ANSWER_S) -> None:
        self._services = services
        self._answer_s = answer_s
        self._asking: dict[str, threading.Thread] = {}

    def facts(self) -> HostFacts:
        """Return what was found. Raises NoThread, and what looking at the host does."""
        facts = self._services.host.host_facts()
        domains = [rule.domain for rule in self._services.policies().rules]
        named = {domain.uri for domain in domains} & set(LIBVIRT)
        found = ((uri, self._problem(uri)) for uri in sorted(named))
        silent = (_reason(uri, problem) for uri, problem in found if problem)
        directories = {domain.directory for domain in domains if domain.directory}
        closed = map(self._closed, sorted(directories))
        return replace(facts, hypervisors=(*silent, *(reason for reason in closed if reason)))

    def _closed(self, directory: str) -> Reason | None:
        """Return why no definition could be written there; None: one could."""
        problem = self._services.image_files.look_at(directory).problem
        if not problem:
            return None
        text = f"Policies have the definitions of machines written to {directory}. {problem}"
        return Reason("definitions-unwritable", text)

    def _problem(self, uri: str) -> str:
        """Return why the hypervisor cannot be asked; "" where it can."""
        silent = f"libvirt ({uri}) does not answer. See: systemctl status libvirtd"
        if (before := self._asking.get(uri)) is not None and before.is_alive():
            return silent
        said: Queue[str] = Queue()
        self._asking[uri] = start(partial(self._ask, uri, said), "hypervisor")
        try:
            return said.get(timeout=self._answer_s)
        except Empty:
            return silent

    def _ask(self, uri: str, said: "Queue[str]") -> None:
        try:
            self._services.libvirt(uri).reach()
            said.put("")
        except P2vdError as error:
            said.put(str(error))
        except Exception:  # a defect of ours, or of libvirt's library
            log.exception("%s cannot be asked", uri)
            said.put(f"libvirt ({uri}) could not be asked; the log says why: journalctl -u p2vd")


def _reason(uri: str, problem: str) -> Reason:
    return Reason(
        "hypervisor-unreachable",
        f"Policies give machines to {uri}, which cannot take them now: they would wait for it when they are "
        f"copied. {problem}",
    )
