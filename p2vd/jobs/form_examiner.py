"""The disposable helper that looks at what is on an NBD export, or on the disk in an image that is not raw.

`python -m p2vd.jobs.form_examiner --user UID:GID --channel FD`. It reads by the doors by which copies read,
has the tools that look at disks work on a facsimile (discovery.facsimile), and answers one request: by then
it has no privileges left, nor have the tools.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from p2vd.copying import look
from p2vd.copying.asking import ImageToAsk
from p2vd.copying.controls import Interrupted
from p2vd.copying.errors import OpenFailed
from p2vd.copying.look import InOrderOnly, LookedAt
from p2vd.copying.nbd_errors import Lost
from p2vd.copying.terms import NbdServer
from p2vd.discovery import examining
from p2vd.discovery.examiner import DiskChanged, Examiner
from p2vd.discovery.examining import ExamineReply, ExamineRequest
from p2vd.discovery.facsimile import Facsimile, FacsimileTools
from p2vd.model.codec import from_dict, to_dict
from p2vd.model.contents import Contents, Examination
from p2vd.model.errors import P2vdError
from p2vd.model.forms import PACKED
from p2vd.system import life_line, privileges
from p2vd.system.descriptors import SeqpacketChannel

_SECTOR = 512  # what the tools take a file's to be


def answer(request: ExamineRequest, drop: Callable[[], None], ended: look.Ended) -> ExamineReply:
    """Reach the disk, `drop` the privileges, and return what is on it; what goes wrong is a reply too.

    Raises PrivilegesKept, and Interrupted when `ended` says that nobody waits any more.
    """
    name = request.export.uri if request.export else request.devnode
    try:
        begun = _begin(request, ended)
    except (P2vdError, Lost, OSError, ImportError) as error:
        return _problem(error, request, name)
    drop()
    try:
        disk = begun()
        try:
            return ExamineReply(_examine(disk, request))
        finally:
            disk.close()
    except (P2vdError, Lost, OSError, ImportError) as error:
        return _problem(error, request, name)


def _begin(request: ExamineRequest, ended: look.Ended) -> Callable[[], LookedAt]:
    if (export := request.export) is not None:
        server = NbdServer(export.uri, export.certificates, export.psk_file)
        return look.export(server, privileged=export.needs_privileges, edges=request.file_id, ended=ended)
    image = ImageToAsk(request.devnode, request.file_id, request.format)
    return look.image(image, request.size_bytes, ended)


def _examine(disk: LookedAt, request: ExamineRequest) -> Contents:
    if disk.size_bytes != request.size_bytes:
        raise DiskChanged(request.export.uri if request.export else request.devnode, "size")
    facsimile = Facsimile(disk.size_bytes, request.sector_size, disk.read)
    try:
        told = request.sector_size if request.sector_size != _SECTOR else 0
        return Examiner(FacsimileTools(facsimile), told).examine(facsimile)
    finally:
        facsimile.close()


def _problem(error: Exception, request: ExamineRequest, name: str) -> ExamineReply:
    """What an error means: a server that is away says nothing of its disk, and may be back soon."""
    if isinstance(error, InOrderOnly):
        return ExamineReply(problem=str(error), examination=Examination.NO)
    if isinstance(error, Lost):
        return ExamineReply(problem=f"{name} was lost: {error}.", examination=Examination.SILENT)
    if request.export and isinstance(error, OpenFailed):
        return ExamineReply(problem=f"{name}: {error.cause}.", examination=Examination.SILENT)
    if isinstance(error, ImportError):
        package = "python3-zstandard" if request.format in PACKED else "python3-libnbd"
        return ExamineReply(problem=f"{name} cannot be looked at: {error}; install {package}.")
    if isinstance(error, OSError):
        return ExamineReply(problem=f"{name} cannot be read: {error.strerror or error}.")
    return ExamineReply(problem=str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one request on the inherited channel."""
    parser = argparse.ArgumentParser(prog="p2vd-form-examiner", description=__doc__)
    parser.add_argument("--user", required=True, metavar="UID:GID", help="who reads what strangers wrote")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--life-line", type=int, metavar="FD", help="what children inherit")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="p2vd-form-examiner %(levelname)s: %(message)s")
    if options.life_line is not None:
        life_line.hand_down(options.life_line)
    uid, _, gid = options.user.partition(":")

    def drop() -> None:
        privileges.become(int(uid), int(gid))

    with SeqpacketChannel.from_fd(options.channel) as channel:
        try:
            channel.send(examining.READY)
            packet = channel.receive()
            if packet is None:
                return 0
            request = from_dict(ExamineRequest, packet[0])
            channel.send(to_dict(answer(request, drop, channel.peer_is_gone)))
        except (BrokenPipeError, Interrupted):
            return 1  # the daemon did not wait for us
    return 0


if __name__ == "__main__":
    sys.exit(main())
