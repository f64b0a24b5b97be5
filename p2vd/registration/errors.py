"""Why a domain could not be defined or undefined, each with the remedy."""

from dataclasses import dataclass
from typing import ClassVar

from p2vd.model.errors import P2vdError


@dataclass(eq=False)
class DomainNameTaken(P2vdError):
    """There is a domain of that name which p2vd did not define."""

    uri: str
    domain: str
    uuid: str
    template: ClassVar[str] = (
        "libvirt ({uri}) has a domain {domain} already, with UUID {uuid}; it was not touched. "
        "Rename it (virsh domrename), then retry: the copied disks stay as they are."
    )


@dataclass(eq=False)
class DomainGone(P2vdError):
    """The domain that p2vd defined is no longer there."""

    uri: str
    uuid: str
    template: ClassVar[str] = (
        "libvirt ({uri}) has no domain {uuid} any more: somebody undefined it. Its disks are untouched; "
        "have it defined again: p2vctl retry."
    )


@dataclass(eq=False)
class DomainNotOurs(P2vdError):
    """The domain with a machine's UUID does not carry p2vd's mark."""

    uri: str
    domain: str
    uuid: str
    template: ClassVar[str] = (
        "The domain {domain} with UUID {uuid} at libvirt ({uri}) was not defined by p2vd, or its mark was "
        "edited away; it was not touched. Look at virsh dumpxml {uuid}; undefine it by hand if it may go."
    )


@dataclass(eq=False)
class DomainRunning(P2vdError):
    """A domain runs, or has a saved state, and so cannot be undefined."""

    uri: str
    domain: str
    state: str
    template: ClassVar[str] = (
        "The domain {domain} at libvirt ({uri}) {state}; it was not undefined. "
        "Shut it down (virsh shutdown {domain}; virsh managedsave-remove {domain}), then ask again."
    )


@dataclass(eq=False)
class DomainHasPoints(P2vdError):
    """A domain has snapshots or checkpoints, of which libvirt would know nothing any more without it.

    `kind`: `snapshot` or `checkpoint`, as virsh's commands are called.
    """

    uri: str
    domain: str
    kind: str
    count: int
    template: ClassVar[str] = (
        "The domain {domain} at libvirt ({uri}) has {count} {kind}(s), which libvirt would forget with it, "
        "though its disks may be made of them; it was not undefined. Look at them (virsh {kind}-list "
        "{domain}), delete them (virsh {kind}-delete {domain} NAME), then ask again."
    )


@dataclass(eq=False)
class LibvirtUnreachable(P2vdError):
    """libvirt does not answer."""

    uri: str
    message: str
    remedy: str = "Start it (systemctl start libvirtd)"
    template: ClassVar[str] = (
        "libvirt ({uri}) cannot be reached: {message}. {remedy}: "
        "what was to be done there is tried again by itself."
    )


@dataclass(eq=False)
class LibvirtFailed(P2vdError):
    """libvirt refused a request; `message` is its own."""

    uri: str
    doing: str
    message: str
    code: int
    template: ClassVar[str] = "libvirt ({uri}) failed at {doing}: {message} (code {code})."


@dataclass(eq=False)
class DefinitionRefused(LibvirtFailed):
    """libvirt does not take a machine's definition, for what is in it; nothing was defined."""

    machine: str
    template: ClassVar[str] = (
        "libvirt ({uri}) failed at {doing}: {message} (code {code}). What was copied stays as it is. Mend "
        "what its policy says of the machine ([rule.domain]), then: p2vctl reload; "
        "p2vctl cutover {machine} --with-present-policy. If the cause was another: p2vctl retry {machine}"
    )


@dataclass(eq=False)
class BootTestCannotRun(P2vdError):
    """A boot test cannot be carried out on this host; nothing was started."""

    machine: str
    why: str
    template: ClassVar[str] = "Machine {machine} cannot be started for a test: {why}"


@dataclass(eq=False)
class MachineRuns(P2vdError):
    """A machine that runs already cannot be started for a test."""

    machine: str
    uri: str
    template: ClassVar[str] = (
        "The virtual machine {machine} runs at {uri}, which shows that it boots; a test beside it would read "
        "disks in mid-change. To test it all the same, shut it down first (virsh shutdown {machine})."
    )


@dataclass(eq=False)
class BootTestEnded(P2vdError):
    """QEMU ended before there was a verdict; `said` is what its unit said last."""

    machine: str
    what: str
    said: str
    template: ClassVar[str] = (
        "The boot test of {machine} ended before it could tell anything. {what} Last words: {said}"
    )


@dataclass(eq=False)
class BootTestInterrupted(P2vdError):
    """A boot test was ended: p2vd stops, or the machine is to be started in earnest."""

    machine: str
    template: ClassVar[str] = (
        "The boot test of {machine} was ended before it could tell anything. Start it again."
    )


@dataclass(eq=False)
class VolumeInUse(P2vdError):
    """A volume that a boot test would read is open: what it showed would say nothing."""

    machine: str
    device: str
    count: str
    template: ClassVar[str] = (
        "{device} of machine {machine} is open already ({count} times), perhaps by a virtual machine: "
        "a boot test needs it at rest. Who has it open: lsof {device}, dmsetup ls --tree"
    )


@dataclass(eq=False)
class VolumeWritten(P2vdError):
    """Somebody wrote to a volume while it was tested; QEMU cannot have done it."""

    machine: str
    devices: str
    template: ClassVar[str] = (
        "While machine {machine} was tested, something wrote to {devices}. The test can only read them: "
        "find out who does (lsof, dmsetup ls --tree), for what it showed is worth nothing."
    )


@dataclass(eq=False)
class FileNotOurs(P2vdError):
    """A file has the name of a machine's definition, and p2vd did not write it for that machine."""

    path: str
    uuid: str
    template: ClassVar[str] = (
        "{path} is there already and was not written for the machine {uuid}, or its first lines were edited. "
        "It was not touched. Move it away, then retry: the copied disks stay as they are."
    )


@dataclass(eq=False)
class DefinitionUnwritable(P2vdError):
    """The files of a definition cannot be written, read or removed."""

    path: str
    message: str
    remedy: str
    template: ClassVar[str] = "{path}: {message}. {remedy}"

    def __str__(self) -> str:
        return self.template.format(path=self.path, message=self.message, remedy=self.remedy).strip()


@dataclass(eq=False)
class StartedElsewhere(P2vdError):
    """The machine is defined by files, which another tool takes, perhaps on another host."""

    uuid: str
    tool: str
    how: str
    template: ClassVar[str] = (
        "p2vd does not start the machine {uuid}: its definition is made of files for {tool}. "
        "Where its volumes are active (lvchange -ay), and nowhere else, run: {how}"
    )


@dataclass(eq=False)
class ConverterMissing(P2vdError):
    """The policy wants a conversion, and this host has nothing to do it."""

    program: str
    template: ClassVar[str] = (
        "The policy wants the guest converted, and this host has no {program}. "
        "Install it (apt-get install virt-v2v) and try again, or do without: for a plan, domain.conversion = "
        '"none" in the policy; for a machine that is ready, p2vctl cutover MACHINE --no-conversion.'
    )


@dataclass(eq=False)
class ConversionFailed(P2vdError):
    """The converter did not convert the guest; its volumes are as they were copied."""

    machine: str
    status: int
    said: str
    template: ClassVar[str] = (
        "The guest of machine {machine} could not be converted (exit status {status}); its volumes are taken "
        "back to what was copied. The converter said: {said}. Mend the cause and convert again: p2vctl retry "
        "{machine}. Or register it as it was copied: p2vctl cutover {machine} --no-conversion"
    )


@dataclass(eq=False)
class ConversionLost(P2vdError):
    """What the converter wrote could not be made durable; the volumes are as they were copied."""

    machine: str
    device: str
    said: str
    template: ClassVar[str] = (
        "The guest of machine {machine} was converted, but {device} does not keep what was written to it: "
        "{said}. Its volumes are taken back to what was copied. Look at the disks below (journalctl -k, "
        "multipath -ll), then convert again: p2vctl retry {machine}"
    )
