"""Rules as a configuration has them: TOML tables in, `Rule` out, and back.

What cannot be is a `RuleFault` that names the rule, the key and the cure.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.ports import CompressionOrder, ForwardPriority, Route
from isocenter.services.archive.rules.conditions import CALLED_AE, CALLING_AE, FIELDS, Condition
from isocenter.services.archive.rules.evaluation import LAST_OF_HEAD, Rule
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.settings import value_types as kinds

if TYPE_CHECKING:
    from isocenter.services.archive.coercion.edits import Edit

#: Rules of one configuration: each is looked at for each object.
MAX_RULES: Final = 100
_MAX_PATTERNS: Final = 100
#: Characters of a pattern: an LO has 64.
_MAX_TEXT: Final = 128
_MAX_NAME: Final = 64
_MAX_REASON: Final = 200
#: An object key has to stay shorter than 230 characters, of which UIDs and folders take 207.
_MAX_AREA: Final = 22
_AREA: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*(?:/[0-9A-Za-z][0-9A-Za-z_-]*)*")
_MAX_DELAY_MINUTES: Final = 365 * 24 * 60
_MINUTE: Final = 60.0
_PRIORITIES: Final = {priority.name.lower(): priority for priority in ForwardPriority}
#: Values that are short, and text or numbers.
_SHORT_VRS: Final = frozenset(
    (
        "AE", "AS", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS",
        "ST", "TM", "UI", "UL", "US", "UN",
    )
)  # fmt: skip
#: The functional groups of multi-frame objects can take megabytes.
_FUNCTIONAL_GROUPS: Final = 0x5200
_FORWARD_KEYS: Final = ("delay_minutes", "forward_priority", "commit", "delete_after")
_COMPRESSED_WHEN: Final = ("arrival", "complete")
_KEYS: Final = frozenset(
    (
        "name", "enabled", "priority", "when", "case_sensitive", "forward", *_FORWARD_KEYS,
        "area", "coerce", "compress", "compress_when", "quarantine", "stop",
    )
)  # fmt: skip
_BARE_KEY: Final = re.compile(r"[0-9A-Za-z_-]+")


class RuleFault(kinds.InvalidValueError):
    """A rule that cannot be; the message says which, and why."""


def parse_rule(table: object) -> Rule:
    """One table of ``[[rules]]``.

    Raises:
        RuleFault: it cannot be.
    """
    if not isinstance(table, dict):
        raise RuleFault("each rule is a table: [[rules]]")
    name = table.get("name")
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise RuleFault(f"each rule needs a name of 1 to {_MAX_NAME} characters")

    def fault(text: str) -> RuleFault:
        return RuleFault(f"rule {name!r}: {text}")

    unknown = sorted(table.keys() - _KEYS)
    if unknown:
        raise fault(f"there is no {unknown[0]!r}; there are {', '.join(sorted(_KEYS))}")
    get = _Getter(table, fault)
    case_sensitive = get.switch("case_sensitive")
    conditions = tuple(
        _condition(field, patterns, case_sensitive, fault)
        for field, patterns in get.table("when").items()
    )
    rule = Rule(
        name=name,
        enabled=get.switch("enabled", default=True),
        priority=get.integer("priority", -1_000_000, 1_000_000),
        conditions=conditions,
        routes=_routes(name, get, fault),
        area=_area(table.get("area", ""), fault),
        edits=_edits(table.get("coerce", []), fault),
        compression=_compression(name, table, fault),
        quarantine=_quarantine(table.get("quarantine", ""), fault),
        stop=get.switch("stop"),
    )
    if rule.edits or rule.stop:
        # Coercion is decided when the head of the data set is there, and stops with the rules.
        for condition in conditions:
            if isinstance(condition.place, tuple) or (condition.place or 0) > LAST_OF_HEAD:
                raise fault(
                    f"when.{condition.field}: a rule with coerce or stop can look at attributes up "
                    "to (0400,0561) only, and into no sequence; drop the condition, or make the "
                    "rule two"
                )
    return rule


@dataclass(frozen=True, slots=True)
class _Getter:
    """Values of a rule's table, checked."""

    table_: Mapping[str, Any]
    fault: Callable[[str], RuleFault]

    def switch(self, key: str, *, default: bool = False) -> bool:
        value = self.table_.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(f"{key} must be true or false")
        return value

    def integer(self, key: str, least: int, most: int) -> int:
        value = self.table_.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.fault(f"{key} must be a whole number from {least} to {most}")
        return value

    def table(self, key: str) -> Mapping[str, object]:
        value = self.table_.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(f'{key} must be a table of patterns: {{ modality = "CT" }}')
        return value


def _condition(
    field: str, raw: object, case_sensitive: bool, fault: Callable[[str], RuleFault]
) -> Condition:
    patterns: list[str] = []
    for pattern in raw if isinstance(raw, list) else [raw]:
        if not isinstance(pattern, str) or len(pattern) > _MAX_TEXT:
            raise fault(f"when.{field} must be a pattern, or a list of them: text with * and ?")
        patterns.append(pattern)
    if not 0 < len(patterns) <= _MAX_PATTERNS:
        raise fault(f"when.{field} must have 1 to {_MAX_PATTERNS} patterns")
    return Condition(
        field=field,
        place=None if field in (CALLING_AE, CALLED_AE) else _place(field, fault),
        patterns=tuple(patterns),
        case_sensitive=case_sensitive,
    )


def _place(field: str, fault: Callable[[str], RuleFault]) -> TagOrPath:
    if field in FIELDS:
        return FIELDS[field]
    # The data dictionary takes a while to load; most configurations need it for nothing.
    from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_attribute_path
    from isocenter.services.dicom.data_dictionary import dictionary_vr

    try:
        path = parse_attribute_path(field)
    except KeySyntaxError as error:
        names = ", ".join((*FIELDS, CALLING_AE, CALLED_AE))
        raise fault(
            f"when.{field}: {error}; or one of {names} (in quotes where it has a comma or a dot)"
        ) from error
    sequences, tag = path
    if dictionary_vr(tag) not in _SHORT_VRS:
        raise fault(
            f"when.{field}: a {dictionary_vr(tag)} is not looked at; take a short text or number"
        )
    if any(step >> 16 == _FUNCTIONAL_GROUPS for step, _ in sequences):
        raise fault(f"when.{field}: functional groups are too large to be looked at")
    return path if sequences else tag


def _routes(name: str, get: _Getter, fault: Callable[[str], RuleFault]) -> tuple[Route, ...]:
    raw = get.table_.get("forward", [])
    peers = raw if isinstance(raw, list) else [raw]
    delay = get.integer("delay_minutes", 0, _MAX_DELAY_MINUTES)
    priority = get.table_.get("forward_priority", "normal")
    if priority not in _PRIORITIES:
        raise fault(f"forward_priority must be {', '.join(_PRIORITIES)}")
    commit, delete_after = get.switch("commit"), get.switch("delete_after")
    if delete_after and not commit:
        raise fault(
            "delete_after needs commit = true: nothing is deleted that nobody else promises to keep"
        )
    if not peers:
        for key in _FORWARD_KEYS:
            if key in get.table_:
                raise fault(f'{key} is about sending; add forward = ["AET"], a peer')
    for peer in peers:
        if not isinstance(peer, str) or not is_ae_title(peer):
            raise fault('forward must be a list of AE titles of peers: ["PACS"]')
    return tuple(
        Route(
            destination=peer,
            rule=name,
            delay=delay * _MINUTE,
            priority=_PRIORITIES[priority],
            commit=commit,
            delete_after=delete_after,
        )
        for peer in dict.fromkeys(peers)
    )


def _area(area: object, fault: Callable[[str], RuleFault]) -> str:
    if area == "":
        return ""
    if not isinstance(area, str) or len(area) > _MAX_AREA or not _AREA.fullmatch(area):
        raise fault(
            f"area must be the name of a folder: up to {_MAX_AREA} characters 0-9 A-Z a-z _ - "
            "with / between the parts"
        )
    return area


def _quarantine(reason: object, fault: Callable[[str], RuleFault]) -> str:
    if reason == "":
        return ""
    if not isinstance(reason, str) or not reason.isprintable() or len(reason) > _MAX_REASON:
        raise fault(
            f"quarantine must be the reason, up to {_MAX_REASON} characters on one line: "
            'quarantine = "no Patient ID"'
        )
    return reason


def _compression(
    name: str, table: Mapping[str, Any], fault: Callable[[str], RuleFault]
) -> CompressionOrder | None:
    keyword, when = table.get("compress", ""), table.get("compress_when", "complete")
    if when not in _COMPRESSED_WHEN:
        raise fault(f"compress_when must be {' or '.join(_COMPRESSED_WHEN)}")
    if not keyword:
        if "compress_when" in table:
            raise fault('compress_when is about compressing; add compress = "jpeg-ls"')
        return None
    # The table of transfer syntaxes is needed by few configurations.
    from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD, LOSSLESS_TARGETS

    if keyword not in LOSSLESS_TARGETS:
        lossy = isinstance(keyword, str) and keyword in BY_KEYWORD
        raise fault(
            f"compress must be {', '.join(LOSSLESS_TARGETS)}"
            + (
                f": {keyword} loses something or compresses nothing, and an object that was "
                "changed so would be another one (PS3.3 C.7.6.1.1.5)"
                if lossy
                else ""
            )
        )
    return CompressionOrder(
        transfer_syntax_uid=BY_KEYWORD[keyword].uid, rule=name, when_complete=when == "complete"
    )


def _edits(raw: object, fault: Callable[[str], RuleFault]) -> tuple[Edit, ...]:
    if raw == []:
        return ()
    if not isinstance(raw, list):
        raise fault('coerce must be a list of tables: [{ set = "0008,0080", value = "X" }]')
    from isocenter.services.archive.coercion.edits import check_edit

    edits = []
    for number, table in enumerate(raw, 1):
        try:
            edit = _edit(table)
            check_edit(edit)
        except ValueError as error:
            raise fault(f"coerce {number}: {error}") from error
        edits.append(edit)
    return tuple(edits)


def _edit(table: object) -> Edit:
    from isocenter.services.archive.coercion.edits import MapValue, RemoveAttribute, SetValue

    match table:
        case {"set": str(name), "value": str(value), **rest} if not rest:
            return SetValue(_tag(name), value)
        case {"remove": str(name), **rest} if not rest:
            return RemoveAttribute(_tag(name))
        case {"map": str(name), "table": dict(mapping), **rest} if rest.keys() <= {"default"}:
            default = rest.get("default")
            is_text = all(isinstance(text, str) for text in mapping.values())
            if is_text and (default is None or isinstance(default, str)):
                return MapValue(_tag(name), mapping, default)
    raise RuleFault(
        "must be { set = TAG, value = TEXT }, { remove = TAG }, or "
        "{ map = TAG, table = { OLD = NEW }, default = TEXT }"
    )


def _tag(name: str) -> int:
    from isocenter.services.dicom.attribute_path import parse_attribute_path

    sequences, tag = parse_attribute_path(name)
    if sequences:
        raise RuleFault(f"{name!r}: items of sequences are not changed")
    return tag


# -- As a setting ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleKind:
    """One table of ``[[rules]]``."""

    allowed: str = (
        "a table [[rules]] with name, when, and what is to be done (forward, area, coerce, "
        "compress, quarantine, stop)"
    )

    def from_toml(self, value: object) -> Rule:
        """A table."""
        return parse_rule(value)

    def from_text(self, text: str) -> Rule:
        """An inline table of TOML."""
        return parse_rule(_inline(text))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Rule)
        return _shown(_table_of(value))


@dataclass(frozen=True, slots=True)
class RulesKind(kinds.ListOf[Rule]):
    """All rules; as text, a TOML array of inline tables."""

    kind: kinds.ValueType[Rule] = RuleKind()

    def from_toml(self, value: object) -> tuple[Rule, ...]:
        """An array of tables."""
        rules = kinds.ListOf.from_toml(self, value)
        if len(rules) > MAX_RULES:
            raise RuleFault(f"there may be {MAX_RULES} rules; these are {len(rules)}")
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise RuleFault(f"two rules have the name {name!r}; rename one")
        return rules

    def from_text(self, text: str) -> tuple[Rule, ...]:
        """``[{ name = … }]``."""
        return self.from_toml(_inline(text))


def _inline(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        raise RuleFault(f"not TOML: {error}") from error


def _table_of(rule: Rule) -> dict[str, object]:
    """What `parse_rule` makes the same rule of; what is as by default is left out."""
    table: dict[str, object] = {"name": rule.name}
    if not rule.enabled:
        table["enabled"] = False
    if rule.priority:
        table["priority"] = rule.priority
    if rule.conditions:
        table["when"] = {each.field: list(each.patterns) for each in rule.conditions}
        if rule.conditions[0].case_sensitive:
            table["case_sensitive"] = True
    if rule.routes:
        route = rule.routes[0]
        table["forward"] = [each.destination for each in rule.routes]
        table["forward_priority"] = route.priority.name.lower()
        table["delay_minutes"] = round(route.delay / _MINUTE)
        table |= {"commit": route.commit, "delete_after": route.delete_after}
    if rule.area:
        table["area"] = rule.area
    if rule.edits:
        table["coerce"] = [table_of_edit(edit) for edit in rule.edits]
    if rule.compression is not None:
        from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

        order = rule.compression
        table["compress"] = PIXEL_SYNTAXES[order.transfer_syntax_uid].keyword
        table["compress_when"] = "complete" if order.when_complete else "arrival"
    if rule.quarantine:
        table["quarantine"] = rule.quarantine
    if rule.stop:
        table["stop"] = True
    return table


def table_of_edit(edit: Edit) -> dict[str, object]:
    """As ``coerce`` has it; the first pair says what is done to which attribute."""
    from isocenter.services.archive.coercion.edits import RemoveAttribute, SetValue

    tag = f"{edit.tag >> 16:04x},{edit.tag & 0xFFFF:04x}"
    if isinstance(edit, SetValue):
        return {"set": tag, "value": edit.value}
    if isinstance(edit, RemoveAttribute):
        return {"remove": tag}
    table: dict[str, object] = {"map": tag, "table": dict(edit.table)}
    return table if edit.default is None else table | {"default": edit.default}


def _shown(value: object) -> str:
    """A value as TOML has it inline."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case list():
            return f"[{', '.join(map(_shown, value))}]"
        case dict():
            pairs = (f"{_key(name)} = {_shown(each)}" for name, each in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case _:
            return kinds.toml_string(str(value))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else kinds.toml_string(name)
