"""Policy files to rules. What may be written is described in p2vd-policy(5)."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from p2vd.model.copying import MAX_BAD_SECTORS, MAX_QUEUE_DEPTH
from p2vd.model.disk import Transport
from p2vd.model.fc import plain_wwn
from p2vd.model.plan import CopyOptions, Cutover, Provisioning
from p2vd.policy.domain import domain_options
from p2vd.policy.model import (
    FirmwareChoice,
    Match,
    PolicySet,
    PolicyText,
    Rule,
    SectorSizeRemedy,
    TargetRule,
)
from p2vd.policy.names import template_problem
from p2vd.policy.pool_table import pool_rule
from p2vd.policy.toml import Document, FileError, Table
from p2vd.policy.window_table import windows_of

MAX_PRIORITY = 1000
_WWN_DIGITS = 16
_WWN_GLOB = re.compile(r"[0-9a-f*?!\[\]-]+")
_OTHER_TARGETS = ("lun", "directory")


def load(texts: Sequence[PolicyText]) -> PolicySet:
    """Return the rules of all files, in the files' and the texts' order, or every error in them."""
    rules: list[Rule] = []
    errors: list[FileError] = []
    for text in texts:
        document = Document(text.path, text.text)
        if text.problem:
            document.error((), text.problem)
        if not document.errors:
            root = document.root()
            for table in root.tables("rule"):
                rule = _rule(table, text.path)
                _refuse_double(rule, rules, table)
                rules.append(rule)
            root.finish()
        errors += document.errors
    errors.sort(key=lambda error: (error.path, error.line, error.key))
    return PolicySet(() if errors else tuple(rules), tuple(errors))


def _refuse_double(rule: Rule, rules: Sequence[Rule], table: Table) -> None:
    other = next((other for other in rules if other.name == rule.name), None)
    if other is not None:
        table.error(
            "name", f'a rule "{rule.name}" is already in {other.path}:{other.line}; name each rule once'
        )


def _rule(table: Table, path: str) -> Rule:
    name = table.text("name")
    if not name:
        table.error("name", "every rule needs a name")
    match = _match(table.table("match"))
    target = _target(table.table("target"))
    pool = pool_rule(table, target.provisioning)
    copy = replace(
        _copy(table.table("copy")),
        pool_reserve_percent=pool.reserve_percent,
        pool_extension=pool.extension,
        priority=table.integer("priority", CopyOptions.priority, -MAX_PRIORITY, MAX_PRIORITY),
        windows=windows_of(table),
    )
    source = table.table("source")
    offline = source.flag("offline")
    allow_hibernated = source.flag("allow_hibernated")
    source.finish()
    domain_table = table.table("domain")
    firmware = domain_table.choice("firmware", FirmwareChoice.AUTO)
    domain = domain_options(domain_table)
    cutover = table.choice("cutover", Cutover.AUTO)
    auto = table.flag("auto")
    if auto and not offline:
        table.error(
            "auto", "needs source.offline = true: nobody is there to declare that the machines are shut down"
        )
    table.later("warm")
    table.finish()
    return Rule(
        name=name,
        path=path,
        line=table.line,
        text=json.dumps(table.data, sort_keys=True, default=str),
        match=match,
        target=target,
        copy=copy,
        domain=domain,
        over_commit=pool.over_commit,
        source_offline=offline,
        firmware=firmware,
        allow_hibernated=allow_hibernated,
        cutover=cutover,
        auto=auto,
    )


def _match(table: Table) -> Match:
    names = table.texts("transport")
    transports = {transport.value: transport for transport in Transport}
    for name in names:
        if name not in transports:
            allowed = ", ".join(f'"{value}"' for value in transports)
            table.error("transport", f"there is no transport {name!r}; allowed: {allowed}")
    size = table.table("size")
    match = Match(
        transport=tuple(transports[name] for name in names if name in transports),
        wwid=table.texts("wwid"),
        vendor=table.texts("vendor"),
        model=table.texts("model"),
        serial=table.texts("serial"),
        portal=table.texts("portal"),
        target=table.texts("target"),
        wwpn=_wwpns(table),
        machine=table.texts("machine"),
        size_min_bytes=size.size("min"),
        size_max_bytes=size.size("max"),
    )
    if "max" in size and not max(match.size_min_bytes, 1) <= match.size_max_bytes:
        size.error("max", "must not be less than min, nor zero")
    size.finish()
    table.finish()
    if not size.data and not any(key != "size" for key in table.data):
        table.error("", 'a rule needs a criterion; wwid = "*" matches every disk')
    return match


def _wwpns(table: Table) -> tuple[str, ...]:
    globs = tuple(plain_wwn(text) for text in table.texts("wwpn"))
    for glob in globs:
        if "*" not in glob and "[" not in glob and len(glob) != _WWN_DIGITS:
            table.error("wwpn", f"{glob!r} can match no WWPN: it has 16 hexadecimal digits, or write a *")
        elif not _WWN_GLOB.fullmatch(glob):
            table.error("wwpn", f"{glob!r} can match no WWPN: those have hexadecimal digits only")
    return globs


def _target(table: Table) -> TargetRule:
    # Where one of these stands, it is what is wrong, and not that there is no volume group beside it.
    elsewhere = any(table.data.get(key, False) is not False for key in _OTHER_TARGETS)
    groups = table.texts("volume_groups")
    if "volume_groups" not in table and not elsewhere:
        table.error("volume_groups", 'is missing: a list of names or "@tags" of volume groups')
    provisioning = table.choice("provisioning", Provisioning.THIN)
    if "provisioning" not in table and not elsewhere:
        table.error("provisioning", 'is missing: "thin" or "thick"')
    thin_pool = table.text("thin_pool")
    if provisioning is Provisioning.THICK and thin_pool:
        table.error("thin_pool", 'a thick volume has no pool; remove the key or write provisioning = "thin"')
    name = table.text("name", TargetRule.name)
    if "name" in table and (problem := template_problem(name)):
        table.error("name", problem)
    target = TargetRule(
        volume_groups=groups,
        provisioning=provisioning,
        thin_pool=thin_pool,
        name=name,
        single_host=table.flag("single_host"),
        autoactivate=table.flag("autoactivate", TargetRule.autoactivate),
        sector_size_remedy=table.choice("sector_size_remedy", SectorSizeRemedy.NONE),
    )
    table.later(*_OTHER_TARGETS)
    table.finish()
    return target


def _copy(table: Table) -> CopyOptions:
    copy = CopyOptions(
        verify=table.choice("verify", CopyOptions.verify),
        queue_depth=table.integer("queue_depth", CopyOptions.queue_depth, 1, MAX_QUEUE_DEPTH),
        bandwidth_bytes_per_s=table.size("bandwidth"),
        bad_sectors=table.integer("bad_sectors", CopyOptions.bad_sectors, 0, MAX_BAD_SECTORS),
    )
    table.later("latency")
    table.finish()
    return copy
