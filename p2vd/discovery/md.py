"""md arrays' names: the array's own UUID, which no `/dev/mdN` can drift away from.

Linux 6.1 does not show it in sysfs, so mdadm is asked. It reads the array's superblock and changes
nothing.
"""

from p2vd.model.disk import md_uuid
from p2vd.model.errors import OutputUnclear
from p2vd.system.command import Commands


def array_uuid(commands: Commands, devnode: str) -> str:
    """Return the UUID of a running array, as `mdadm --detail` writes it.

    Raises CommandFailed (also where mdadm is not installed), CommandTimedOut, OutputUnclear.
    """
    argv = ["mdadm", "--detail", "--export", devnode]
    answer = commands.query(argv, timeout_s=15.0).stdout
    try:
        return md_uuid(answer)
    except ValueError as error:
        raise OutputUnclear(" ".join(argv), answer[:80]) from error
