"""Policy files to rules. What may be written is described in p2vd-policy(5)."""

import json
from collections.abc import Sequence
from dataclasses import replace

from p2vd.model.copying import MAX_BAD_SECTORS, MAX_QUEUE_DEPTH
from p2vd.model.hook import HookFailure
from p2vd.model.nbd import NbdExport
from p2vd.model.plan import CopyOptions, Cutover
from p2vd.policy.domain import domain_options
from p2vd.policy.match_table import match_of
from p2vd.policy.model import FirmwareChoice, PolicySet, PolicyText, Rule
from p2vd.policy.nbd_table import export_of
from p2vd.policy.pool_table import pool_rule
from p2vd.policy.target_table import refuse_contradictions, target_of
from p2vd.policy.toml import Document, FileError, Table
from p2vd.policy.window_table import windows_of

MAX_PRIORITY = 1000


def load(texts: Sequence[PolicyText]) -> PolicySet:
    """Return what all files say, in the files' and the texts' order, or every error in them."""
    rules: list[Rule] = []
    exports: list[NbdExport] = []
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
            for table in root.tables("nbd"):
                if (export := export_of(table, exports)) is not None:
                    exports.append(export)
            root.finish()
        errors += document.errors
    errors.sort(key=lambda error: (error.path, error.line, error.key))
    if errors:
        return PolicySet(errors=tuple(errors))
    return PolicySet(tuple(rules), exports=tuple(exports))


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
    match = match_of(table.table("match"))
    target = target_of(table.table("target"))
    pool = pool_rule(table)
    copy = replace(
        _copy(table.table("copy")),
        pool_reserve_percent=pool.reserve_percent,
        pool_extension=pool.extension,
        priority=table.integer("priority", CopyOptions.priority, -MAX_PRIORITY, MAX_PRIORITY),
        windows=windows_of(table),
        hook_failure=_hook_failure(table.table("hooks")),
    )
    source = table.table("source")
    offline = source.flag("offline")
    allow_hibernated = source.flag("allow_hibernated")
    source.finish()
    domain_table = table.table("domain")
    firmware = domain_table.choice("firmware", FirmwareChoice.AUTO)
    domain = domain_options(domain_table)
    refuse_contradictions(target, domain, table)
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


def _hook_failure(table: Table) -> HookFailure:
    failure = table.choice("failure", HookFailure.AUTO)
    table.finish()
    return failure


def _copy(table: Table) -> CopyOptions:
    copy = CopyOptions(
        verify=table.choice("verify", CopyOptions.verify),
        queue_depth=table.integer("queue_depth", CopyOptions.queue_depth, 1, MAX_QUEUE_DEPTH),
        bandwidth_bytes_per_s=table.size("bandwidth"),
        max_latency_us=table.latency("max_latency"),
        bad_sectors=table.integer("bad_sectors", CopyOptions.bad_sectors, 0, MAX_BAD_SECTORS),
    )
    table.finish()
    return copy
