"""From what somebody typed to the one object meant. Pure."""

from collections.abc import Iterable, Sequence

from p2vd.bus.names import JOB, MACHINE, PASSPORT, PORTAL, SOURCE, VOLUME_GROUP
from p2vd.cli.client import CliError, Object

_LISTS = {
    JOB: "p2vctl jobs",
    MACHINE: "p2vctl jobs",
    SOURCE: "p2vctl sources",
    VOLUME_GROUP: "p2vctl vgs",
    PORTAL: "p2vctl portals list",
    PASSPORT: "p2vctl machine list",
}

_QEMU = "qemu:///system"

_KINDS = {VOLUME_GROUP: "volume group", PASSPORT: "record of a machine"}


def find(text: str, objects: Iterable[Object], interfaces: Sequence[str]) -> Object:
    """Return the object of `interfaces` that `text` names, exactly or by a unique prefix of its id.

    Raises CliError where there is none or more than one, and says which.
    """
    candidates = [item for item in objects if item.interface in interfaces]
    exact = [item for item in candidates if text in _names(item)]
    found = exact or [item for item in candidates if text and identity(item).startswith(text)]
    if len(found) == 1:
        return found[0]
    kinds = " or ".join(_KINDS.get(each) or each.rpartition(".")[2].lower() for each in interfaces)
    lists = " or ".join(sorted({_LISTS[interface] for interface in interfaces}))
    if not found:
        raise CliError(f"There is no {kinds} {text!r}. See: {lists}")
    which = ", ".join(identity(item) for item in found)
    raise CliError(f"{text!r} may be any of {which}. Give more of the id.")


def find_all(texts: Iterable[str], objects: Sequence[Object]) -> list[Object]:
    """Return the jobs and machines that `texts` name, before anything is done to one: see `find`."""
    return [find(text, objects, (JOB, MACHINE)) for text in texts]


def source_id(text: str, objects: Iterable[Object]) -> str:
    """Return the id of the source that `text` names; where none has it, `text`: p2vd knows paths too.

    Raises CliError where more than one may be meant.
    """
    sources = [item for item in objects if item.interface == SOURCE]
    if not any(text in _names(item) or identity(item).startswith(text) for item in sources):
        return text
    return identity(find(text, sources, (SOURCE,)))


def identity(item: Object) -> str:
    """The id that an object is found by."""
    if item.interface == PASSPORT:
        return str(item["Name"])
    return str(item["Id"] if item.interface in (SOURCE, PORTAL) else item["Uuid"])


def _names(item: Object) -> tuple[str, ...]:
    if item.interface == SOURCE:
        name = str(item["Name"])
        return (identity(item), name, str(item["Device"]), f"/dev/mapper/{name}")
    if item.interface in (MACHINE, VOLUME_GROUP):
        return (identity(item), str(item["Name"]))
    if item.interface == PORTAL:
        return (identity(item), str(item["Address"]))
    return (identity(item),)


def libvirt_uri(machine: Object) -> str:
    """The connection of libvirt at which a machine is defined; "" where others take it, or nobody."""
    hypervisor = str(machine.properties.get("Hypervisor", _QEMU))  # an older p2vd does not tell
    return hypervisor if "://" in hypervisor else ""


def domain_command(machine: Object) -> str:
    """The command that shows a machine's domain; "" where libvirt has none."""
    uri = libvirt_uri(machine)
    if not uri or not machine["Domain"]:
        return ""
    return f"virsh {'' if uri == _QEMU else f'-c {uri} '}dominfo {machine['Domain']}"


def jobs_of(item: Object, objects: Iterable[Object]) -> list[Object]:
    """The jobs of a machine in the order of its disks, or the job itself."""
    if item.interface == JOB:
        return [item]
    by_path = {other.path: other for other in objects}
    return [by_path[path] for path in item["Jobs"] if path in by_path]


def machine_name(job: Object, objects: Iterable[Object]) -> str:
    """What the machine of a job is called."""
    return next((str(item["Name"]) for item in objects if item.path == job["Machine"]), "?")
