"""The record of a machine, where there is one."""

from p2vd.jobs.store import Store
from p2vd.model.errors import NotFound
from p2vd.model.passport import Passport


def known_passport(store: Store, machine_name: str) -> Passport | None:
    """Return the passport of the machine of that name, None where nobody brought one."""
    try:
        return store.passport(machine_name)
    except NotFound:
        return None
