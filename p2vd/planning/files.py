"""The file of a rule's directory that a disk becomes, or every reason why it cannot. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from p2vd.model.directory import TargetDirectory
from p2vd.model.disk import Source
from p2vd.model.errors import Reason
from p2vd.model.forms import Compression, TargetFormat
from p2vd.model.inventory import Inventory
from p2vd.model.plan import FileTarget
from p2vd.model.size import MIB, format_size, round_up
from p2vd.planning.contents import UNDER_EXAMINATION_CODE
from p2vd.planning.place import Place
from p2vd.policy.model import FileRule, Rule, SectorSizeRemedy
from p2vd.policy.names import file_name, file_name_problem

SECTOR_SIZE = 512
"""What a file shows to a guest that is told nothing else."""

_QCOW2_POINTER_BYTES = 8 + 2
"""A cluster takes an entry of eight bytes in a table of level 2, and a reference count of two."""


@dataclass(frozen=True)
class FileChoice:
    """A file that can be made. `worst_case_bytes`: what it takes of its filesystem at most."""

    files: FileRule
    directory: TargetDirectory
    name: str
    size_bytes: int
    worst_case_bytes: int
    logical_block_size: int

    def target(self, rule: Rule) -> FileTarget:
        """Return the file that is to be made."""
        files = self.files
        return FileTarget(
            directory=files.directory,
            name=self.name,
            format=files.format,
            size_bytes=self.size_bytes,
            mount=files.mount,
            owner=files.owner,
            group=files.group,
            mode=files.mode,
            cluster_bytes=files.cluster_bytes,
            compression=files.compression,
        )


def choose_file(
    rule: Rule, source: Source, place: Place, inventory: Inventory
) -> FileChoice | tuple[Reason, ...]:
    """Return the file of the rule's directory for `source`, else what is wrong with it."""
    files = rule.target.files
    if files is None:
        return (Reason("no-directory", f'The policy "{rule.name}" names no directory.'),)
    directory = next((one for one in inventory.directories if one.path == files.directory), None)
    if directory is None:
        text = f"{files.directory} has not been looked at yet. Plan again in a moment."
        return (Reason("directory-unknown", text),)
    name = file_name(
        rule.target.name, place.machine_name, source, f".{files.format.value}", place.number, place.of
    )
    # Whole clusters are compressed; all else is as long as the disk.
    whole = files.cluster_bytes if files.compression is not Compression.NONE else 1
    size = round_up(source.size_bytes, whole)
    choice = FileChoice(
        files=files,
        directory=directory,
        name=name,
        size_bytes=size,
        worst_case_bytes=worst_case_bytes(files.format, size, files.cluster_bytes),
        logical_block_size=source.sector_size if source.sector_size != SECTOR_SIZE else 0,
    )
    if directory.problem:
        code = UNDER_EXAMINATION_CODE if directory.under_way else "directory-unusable"
        return (Reason(code, directory.problem),)
    return tuple(_reasons(rule, source, choice)) or choice


def reserve_file(inventory: Inventory, choice: FileChoice) -> Inventory:
    """Return the inventory as the machine's next disk shall find it: with this one's file made and full."""
    return with_file(inventory, choice.directory, choice.name, choice.worst_case_bytes)


def with_file(
    inventory: Inventory, directory: TargetDirectory, name: str, worst_case_bytes: int
) -> Inventory:
    """Return the inventory with a file in a directory that a planned disk becomes, made and full."""
    fuller = replace(
        directory,
        names=directory.names | {name},
        free_bytes=max(0, directory.free_bytes - worst_case_bytes),
    )
    directories = tuple(fuller if one.path == fuller.path else one for one in inventory.directories)
    return replace(inventory, directories=directories)


def worst_case_bytes(form: TargetFormat, size_bytes: int, cluster_bytes: int) -> int:
    """Return what a file of that form takes at most for a disk of `size_bytes` without a single zero.

    Bytes that do not compress grow: zstd's frames by 1/256 at most (its ZSTD_COMPRESSBOUND), gzip's by
    less; the index and the frames' headers are well below a KiB a MiB.
    """
    match form:
        case TargetFormat.RAW:
            return size_bytes
        case TargetFormat.QCOW2:
            clusters = -(-size_bytes // cluster_bytes)
            tables = -(-clusters * _QCOW2_POINTER_BYTES // cluster_bytes) * cluster_bytes
            return clusters * cluster_bytes + tables + max(MIB, 4 * cluster_bytes)
        case TargetFormat.RAW_ZST | TargetFormat.RAW_GZ:
            return size_bytes + size_bytes // 200 + MIB


def file_step(choice: FileChoice) -> str:
    """Return what is made, as an administrator reads it."""
    path = f"{choice.files.directory.rstrip('/')}/{choice.name}"
    where = f"{choice.directory.filesystem} at {choice.directory.mount_point}"
    forms = {
        TargetFormat.RAW: "a sparse raw file",
        TargetFormat.RAW_ZST: "raw bytes in frames that zstd reads",
        TargetFormat.RAW_GZ: "raw bytes in frames that gunzip reads",
        TargetFormat.QCOW2: "a qcow2 image",
    }
    return (
        f"Create {path} for {format_size(choice.size_bytes)}, {forms[choice.files.format]} on {where}; until "
        "it is proven its name ends in its job's UUID."
    )


def file_warnings(choice: FileChoice, reserve_percent: int) -> Iterator[str]:
    """Yield what does not forbid the file, but should be known."""
    directory = choice.directory
    free = free_for_files(directory, reserve_percent)
    if choice.worst_case_bytes > free:
        yield (
            f"The copy may need {format_size(choice.worst_case_bytes)} of {directory.mount_point}, which has "
            f"{format_size(free)} free beyond the reserve of {reserve_percent} %: the job is held "
            '("pool") before the filesystem is full, and goes on when there is room.'
        )
    if directory.mount_point == "/":
        yield (
            f"{directory.path} is on this host's root filesystem. If another one was to be mounted there, "
            f"mount it, and write target.require_mount in the policy."
        )


def free_for_files(directory: TargetDirectory, reserve_percent: int) -> int:
    """Return what files may still take of the directory's filesystem."""
    return max(0, directory.free_bytes - -(-directory.size_bytes * reserve_percent // 100))


def _reasons(rule: Rule, source: Source, choice: FileChoice) -> Iterator[Reason]:
    path = f"{choice.directory.path.rstrip('/')}/{choice.name}"
    if problem := file_name_problem(choice.name):
        yield Reason(
            "file-name", f"{problem} Change target.name in the policy, or name the machine otherwise."
        )
    if choice.name in choice.directory.names:
        yield Reason(
            "file-name-taken",
            f"{path} is there already, or another disk of the machine gets that name. Name the machine "
            "otherwise, put {disk} or {wwid} into target.name, or remove the file if it is not needed.",
        )
    mount = choice.files.mount
    if mount and choice.directory.mount_point != mount:
        yield Reason(
            "not-mounted",
            f"Nothing is mounted at {mount}: {choice.directory.path} is on the filesystem of "
            f"{choice.directory.mount_point}, which would fill up instead. Mount {mount}, then plan again.",
        )
    if source.sector_size != SECTOR_SIZE and rule.target.sector_size_remedy is SectorSizeRemedy.NONE:
        yield Reason(
            "sector-sizes-differ",
            f"{source} has sectors of {source.sector_size} bytes, and a file shows {SECTOR_SIZE}: partition "
            "tables count in sectors. Let the virtual machine see the old size by the policy's "
            'target.sector_size_remedy = "domain".',
        )
