"""A rule in words, key by key, with what is only a default marked as such."""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from p2vd.model.duration import format_latency
from p2vd.model.forms import TargetFormat, TargetKind
from p2vd.model.hook import HookFailure
from p2vd.model.plan import DomainOptions, PoolExtension
from p2vd.model.rule import RuleView, Setting
from p2vd.model.size import format_size
from p2vd.policy.model import FileRule, Match, Rule, TargetRule
from p2vd.policy.window import window_text

# How fields of DomainOptions are called in policy files, where it is not the same.
_DOMAIN_KEYS = {"uri": "hypervisor", "virt_type": "type", "memory_bytes": "memory"}
# `firmware` is the rule's own choice, from which that of the domain follows, as its sector size does.
_FOLLOWS = frozenset({"firmware", "logical_block_size"})


_HOOK_FAILURE = {
    HookFailure.AUTO: "one before a step holds, one after it warns",
    HookFailure.HOLD: "holds, but after a registration, where it warns",
    HookFailure.WARN: "warns",
}


def describe(rule: Rule) -> RuleView:
    """Return `rule` as one reads it: all that it says, and all that goes without saying."""
    return RuleView(rule.name, rule.path, rule.line, tuple(_Writer(rule).settings()))


@dataclass(frozen=True)
class _Writer:
    rule: Rule

    def settings(self) -> Iterator[Setting]:
        yield from self._match(self.rule.match)
        yield self._say("", "priority", f"{self.rule.copy.priority}")
        windows = " or ".join(window_text(window) for window in self.rule.copy.windows)
        yield self._say("", "window", windows or "any time")
        yield self._say("", "cutover", self.rule.cutover.value)
        auto = "disks of machines whose record is known are started by themselves"
        yield self._say("", "auto", auto if self.rule.auto else "no: each disk is started by p2vctl migrate")
        yield self._say("hooks", "failure", _HOOK_FAILURE[self.rule.copy.hook_failure])
        yield from self._target()
        yield from self._source()
        yield from self._copy()
        if self.rule.target.is_thin:
            yield self._say(
                "pool", "over_commit", f"promises at most {self.rule.over_commit:g} times its size"
            )
        if self.rule.target.is_thin or self.rule.target.files:
            yield self._say("pool", "reserve_percent", f"{self.rule.copy.pool_reserve_percent} % stay free")
        if self.rule.target.is_thin:
            yield self._say("pool", "extend", extension_text(self.rule.copy.pool_extension))
        yield from self._domain(self.rule.domain)

    def _say(self, section: str, key: str, text: str) -> Setting:
        there: Mapping[str, Any] = json.loads(self.rule.text)
        for part in section.split(".") if section else ():
            there = there.get(part, {})
        return Setting(section, key, text, is_default=key not in there)

    def _match(self, match: Match, section: str = "match") -> Iterator[Setting]:
        criteria: tuple[tuple[str, Sequence[str]], ...] = (
            ("transport", [transport.value for transport in match.transport]),
            ("wwid", match.wwid),
            ("vendor", match.vendor),
            ("model", match.model),
            ("serial", match.serial),
            ("portal", match.portal),
            ("target", match.target),
            ("wwpn", match.wwpn),
            ("machine", match.machine),
        )
        for key, values in criteria:
            if values:
                yield self._say(section, key, " or ".join(values))
        if match.size_min_bytes or match.size_max_bytes:
            low = f"from {format_size(match.size_min_bytes)}" if match.size_min_bytes else ""
            high = f"up to {format_size(match.size_max_bytes)}" if match.size_max_bytes else ""
            yield self._say(section, "size", " ".join(filter(None, (low, high))))

    def _target(self) -> Iterator[Setting]:
        target = self.rule.target
        yield self._say("target", "kind", target.kind.value)
        if target.kind is TargetKind.LV:
            yield from self._volumes(target)
        if target.luns is not None:
            yield from self._match(target.luns, "target.lun")
            yield self._say("target", "unmap", _yes(target.unmap))
        if target.files is not None:
            yield from self._files(target.files)
        if target.kind is not TargetKind.LUN:
            yield self._say("target", "name", target.name)
        yield self._say("target", "sector_size_remedy", target.sector_size_remedy.value)

    def _volumes(self, target: TargetRule) -> Iterator[Setting]:
        groups = [f"those tagged {name[1:]}" if name[0] == "@" else name for name in target.volume_groups]
        yield self._say("target", "volume_groups", ", else ".join(groups))
        yield self._say("target", "provisioning", target.provisioning.value)
        if target.is_thin:
            yield self._say("target", "thin_pool", target.thin_pool or "the only one of the volume group")
        yield self._say("target", "single_host", _yes(target.single_host))
        yield self._say("target", "autoactivate", _yes(target.autoactivate))

    def _files(self, files: FileRule) -> Iterator[Setting]:
        yield self._say("target", "directory", files.directory)
        yield self._say("target", "format", files.format.value)
        yield self._say("target", "require_mount", files.mount or "no: on whatever filesystem it is")
        yield self._say("target", "owner", files.owner or "p2vd's own user")
        yield self._say("target", "group", files.group or "p2vd's own group")
        yield self._say("target", "mode", f"{files.mode:04o}")
        if files.format is TargetFormat.QCOW2:
            yield self._say("target", "cluster_size", format_size(files.cluster_bytes))
            yield self._say("target", "compression", files.compression.value)

    def _source(self) -> Iterator[Setting]:
        offline = "yes" if self.rule.source_offline else "no: each plan needs --source-offline"
        yield self._say("source", "offline", offline)
        yield self._say("source", "allow_hibernated", _yes(self.rule.allow_hibernated))

    def _copy(self) -> Iterator[Setting]:
        copy = self.rule.copy
        limit = copy.bandwidth_bytes_per_s
        yield self._say("copy", "verify", copy.verify.value)
        yield self._say("copy", "queue_depth", f"{copy.queue_depth} requests at a time")
        yield self._say("copy", "bandwidth", f"at most {format_size(limit)}/s" if limit else "no limit")
        late = copy.max_latency_us
        slower = f"slower while a read takes more than {format_latency(late)}" if late else "no bound"
        yield self._say("copy", "max_latency", slower)
        bad = f"up to {copy.bad_sectors} may be unreadable" if copy.bad_sectors else "none may be unreadable"
        yield self._say("copy", "bad_sectors", bad)

    def _domain(self, domain: DomainOptions) -> Iterator[Setting]:
        yield self._say("domain", "firmware", self.rule.firmware.value)
        for field in fields(domain):
            if field.name not in _FOLLOWS:
                key = _DOMAIN_KEYS.get(field.name, field.name.removesuffix("_bytes"))
                yield self._say("domain", key, _value(field.name, getattr(domain, field.name)))


def _value(field: str, value: object) -> str:
    if isinstance(value, bool):
        return _yes(value)
    if isinstance(value, enum.Enum):
        return str(value.value)
    if value == 0 and field in ("memory_bytes", "vcpus"):
        return "as the machine's record says"
    if field.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value in ("", None) else str(value)


def extension_text(extension: PoolExtension | None) -> str:
    """Return in words whether and how far p2vd extends a pool."""
    if extension is None:
        return "no: a copy that runs short is held"
    beside = f", while {format_size(extension.vg_free_bytes)} of the volume group stay free"
    return (
        f"by {format_size(extension.step_bytes)} at a time, up to {format_size(extension.max_bytes)}"
        f"{beside if extension.vg_free_bytes else ''}; its metadata by "
        f"{format_size(extension.metadata_step_bytes)}"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
