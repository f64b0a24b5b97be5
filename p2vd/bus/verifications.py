"""Later verifications on the bus: begun, looked at, and the records of them."""

from collections.abc import Callable, Mapping

from p2vd.bus.call import Answer, Call
from p2vd.bus.names import JOB, MANAGER
from p2vd.bus.port import EnginePort
from p2vd.bus.views_work import verification


def verification_methods(engine: EnginePort) -> Mapping[tuple[str, str], Callable[[Call], Answer]]:
    """Return the methods of the Manager and of jobs."""

    def named(call: Call) -> str:
        return str(call.arguments[0])

    def verify(job: str, call: Call) -> Answer:
        engine.verify(job, call.caller)
        return Answer(changed=((JOB, job),))

    return {
        (JOB, "Verify"): lambda call: verify(call.object_id, call),
        (MANAGER, "Verify"): lambda call: verify(named(call), call),
        (MANAGER, "GetVerification"): lambda call: Answer((verification(engine.verification(named(call))),)),
        (MANAGER, "GetVerifications"): lambda call: Answer((engine.records.verifications(named(call)),)),
    }
