"""Where an NBD export is, as the tool and the worker are told it. Pure."""

from p2vd.copying.errors import SourceRefused
from p2vd.model.nbd import NbdAddress, parse_uri


def parse(uri: str) -> NbdAddress:
    """Return what `uri` names. Raises SourceRefused."""
    try:
        return parse_uri(uri)
    except ValueError as error:
        raise SourceRefused(uri, f"{error}.") from error
