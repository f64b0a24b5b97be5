"""A directory in which files become disks, as it was seen at one moment."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetDirectory:
    """`mount_point` and `filesystem` (`ext4`, `nfs4`): of what it lies on, which `filesystem_id` names.

    `free_bytes`: what is left for p2vd's user. `names`: of all that is in it. `problem`: why nothing can be
    written there, as a sentence; then nothing else counts. `under_way`: that is only that it is looked at.
    """

    path: str
    mount_point: str = ""
    filesystem: str = ""
    filesystem_id: str = ""
    size_bytes: int = 0
    free_bytes: int = 0
    names: frozenset[str] = frozenset()
    problem: str = ""
    under_way: bool = False
