"""The files that a hypervisor without p2vd's own connection is given. Pure."""

from dataclasses import dataclass

from p2vd.domain.definition import Definition, Hypervisor
from p2vd.domain.kubevirt import kubevirt_yaml
from p2vd.domain.proxmox import import_script, qm_conf
from p2vd.domain.xl import xl_cfg


@dataclass(frozen=True)
class DomainFile:
    """A file of the machine: its name within the policy's directory, and its text."""

    name: str
    text: str
    executable: bool = False


def domain_files(definition: Definition) -> tuple[DomainFile, ...]:
    """Return the files for the definition's hypervisor; none where libvirt takes it."""
    name = definition.name
    if definition.hypervisor is Hypervisor.XL:
        return (DomainFile(f"{name}.cfg", xl_cfg(definition)),)
    if definition.hypervisor is Hypervisor.PROXMOX:
        conf, script = f"{name}.conf", f"{name}-register.sh"
        return (
            DomainFile(conf, qm_conf(definition)),
            DomainFile(script, import_script(definition, conf, script), executable=True),
        )
    if definition.hypervisor is Hypervisor.KUBEVIRT:
        return (DomainFile(f"{name}.yaml", kubevirt_yaml(definition)),)
    return ()
