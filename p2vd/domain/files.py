"""The files that a hypervisor without p2vd's own connection is given. Pure."""

from p2vd.domain.definition import Definition, Hypervisor
from p2vd.domain.kubevirt import kubevirt_yaml
from p2vd.domain.proxmox import import_script, qm_conf
from p2vd.domain.xl import xl_cfg
from p2vd.model.definition_file import DefinitionFile


def domain_files(definition: Definition) -> tuple[DefinitionFile, ...]:
    """Return the files for the definition's hypervisor; none where libvirt takes it."""
    name = definition.name
    if definition.hypervisor is Hypervisor.XL:
        return (DefinitionFile(f"{name}.cfg", xl_cfg(definition)),)
    if definition.hypervisor is Hypervisor.PROXMOX:
        conf, script = f"{name}.conf", f"{name}-register.sh"
        return (
            DefinitionFile(conf, qm_conf(definition)),
            DefinitionFile(script, import_script(definition, conf, script), runs=True),
        )
    if definition.hypervisor is Hypervisor.KUBEVIRT:
        return (DefinitionFile(f"{name}.yaml", kubevirt_yaml(definition)),)
    return ()
