"""The tables `[[nbd]]` of a policy file: which NBD exports are sources."""

from collections.abc import Sequence

from p2vd.model.nbd import NbdExport, key_problems
from p2vd.policy.toml import Table

_SECTOR_SIZES = (512, 4096)


def export_of(table: Table, others: Sequence[NbdExport]) -> NbdExport | None:
    """Return the export that the table names; all that is wrong in it is recorded there.

    None: it names none. `others` are those that were named before.
    """
    export = NbdExport(
        uri=table.text("uri"),
        certificates=_path(table, "tls_certificates"),
        psk_file=_path(table, "tls_psk_file"),
        sector_size=table.integer("sector_size", NbdExport.sector_size, *_SECTOR_SIZES),
    )
    table.finish()
    if export.sector_size not in _SECTOR_SIZES:
        table.error("sector_size", f"must be {' or '.join(map(str, _SECTOR_SIZES))}")
    if not export.uri:
        table.error("uri", "every export needs one, such as nbds://rescue.example.org/")
        return None
    try:
        identity = export.id
    except ValueError as error:
        table.error("uri", f"{error}")
        return None
    for problem in key_problems(export.address, export.certificates, export.psk_file):
        table.error("uri", problem)
    if any(other.id == identity for other in others):
        table.error("uri", f"{identity} is named twice; name each export once")
    return export


def _path(table: Table, key: str) -> str:
    path = table.text(key)
    if path and not path.startswith("/"):
        table.error(key, "must begin with /")
    return path
