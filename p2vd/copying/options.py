"""The options of `p2vd-copy` that say which forms source and target have."""

import argparse

from p2vd.copying.controls import Controls, Gauge
from p2vd.copying.errors import UsageError
from p2vd.copying.forms import SOURCES, TARGETS, Asked, source_form
from p2vd.copying.packing import LEVELS
from p2vd.copying.terms import NbdServer, SourceForm, TargetForm
from p2vd.model.forms import Compression, SourceFormat, TargetFormat
from p2vd.model.size import parse_size


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command line."""
    parser.add_argument(
        "--source-format",
        choices=[SourceFormat.RAW.value, *(name for name in SOURCES if name != "nbd")],
        help="how the file SOURCE holds the disk; a file that looks like an image must have it said",
    )
    parser.add_argument(
        "--target-format",
        choices=[each.value for each in (TargetFormat.RAW, *TARGETS)],
        default=TargetFormat.RAW.value,
        help="how the new file TARGET is to hold the disk",
    )
    parser.add_argument(
        "--level",
        type=int,
        default=0,
        metavar="N",
        help="of raw.zst (1 to 19, default 3) or raw.gz (1 to 9, 6)",
    )
    parser.add_argument(
        "--cluster-size", type=parse_size, metavar="SIZE", help="of a qcow2: 64 KiB (default) to 2 MiB"
    )
    parser.add_argument(
        "--compress", choices=[each.value for each in Compression], help="compress the clusters of a qcow2"
    )
    parser.add_argument(
        "--tls-certificates", default="", metavar="DIR", help="ca-cert.pem and the like, for nbds://"
    )
    parser.add_argument("--tls-psk-file", default="", metavar="FILE", help="a pre-shared key, for nbds://")
    parser.add_argument(
        "--reconnect",
        type=float,
        metavar="SECONDS",
        help="how long a lost NBD connection is tried again (default 300)",
    )


def asked(arguments: argparse.Namespace, controls: Controls, gauge: Gauge) -> Asked:
    """What the command line asks for. Raises UsageError, SourceRefused."""
    return Asked(
        source=arguments.source,
        target=arguments.target,
        checkpoint=arguments.checkpoint,
        digest=arguments.digest,
        source_form=_source_form(arguments),
        target_form=_target_form(arguments),
        controls=controls,
        gauge=gauge,
        threads=arguments.queue_depth,
        bad_sectors=arguments.bad_sectors,
        resync=arguments.resync,
    )


def _source_form(arguments: argparse.Namespace) -> SourceForm:
    keys = arguments.tls_certificates, arguments.tls_psk_file
    form = source_form(arguments.source, arguments.source_format, *keys)
    if form.nbd is None:
        if any(keys) or arguments.reconnect is not None:
            raise UsageError("--tls-certificates, --tls-psk-file and --reconnect are for NBD exports.")
        return form
    if arguments.reconnect is None:
        return form
    if arguments.reconnect < 0:
        raise UsageError("--reconnect must not be below zero.")
    return SourceForm(nbd=NbdServer(form.nbd.uri, *keys, arguments.reconnect))


def _target_form(arguments: argparse.Namespace) -> TargetForm:
    form = TargetForm(TargetFormat(arguments.target_format), level=arguments.level)
    if form.level and form.format not in LEVELS:
        raise UsageError("--level is for --target-format raw.zst and raw.gz.")
    if form.format is not TargetFormat.QCOW2:
        if arguments.cluster_size is not None or arguments.compress is not None:
            raise UsageError("--cluster-size and --compress are for --target-format qcow2.")
        return form
    return TargetForm(
        form.format,
        arguments.cluster_size or form.cluster_bytes,
        Compression(arguments.compress or Compression.NONE.value),
    )
