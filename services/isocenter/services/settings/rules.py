"""Rules as a configuration has them: TOML tables in, `Rule` out, and back.

What cannot be is a `RuleFault` that names the rule, the key and the cure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.orders import CompressionOrder, ForwardPriority, Route
from isocenter.services.archive.rules.conditions import CALLED_AE, CALLING_AE, FIELDS, Condition
from isocenter.services.archive.rules.evaluation import LAST_OF_HEAD, Rule
from isocenter.services.archive.sent_form import SentForm
from isocenter.services.archive.validation.mark import ValidationPolicy
from isocenter.services.dicom.attribute_path import TagOrPath
from isocenter.services.integration.ai.ai_service import is_service_name
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.array_of_tables import ArrayOfTables, inline
from isocenter.services.settings.rule_expiry import (
    EXPIRY_KEYS,
    rule_retention,
    table_of_retention,
)
from isocenter.services.settings.rule_times import TIME_KEYS, rule_timing, table_of_timing
from isocenter.services.workflow.nodes.node import is_node_name

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
_FORWARD_KEYS: Final = (
    "delay_minutes", "forward_priority", "forward_coerce", "forward_syntax", "commit",
    "delete_after", "deidentify",
)  # fmt: skip
#: Of those that are no codecs of pixels, which objects can be sent in.
_PLAIN_SYNTAXES: Final = ("implicit", "explicit", "deflated")
_COMPRESSED_WHEN: Final = ("arrival", "complete")
KEYS: Final = frozenset(
    (
        "name", "enabled", "priority", "when", "case_sensitive", "forward", *_FORWARD_KEYS,
        *EXPIRY_KEYS, "analyse", "area", "coerce", "compress", "compress_when", "quarantine",
        "sign", *TIME_KEYS, "stop", "validate",
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

    unknown = sorted(table.keys() - KEYS)
    if unknown:
        raise fault(f"there is no {unknown[0]!r}; there are {', '.join(sorted(KEYS))}")
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
        edits=_edits("coerce", table, fault),
        compression=_compression(name, table, fault),
        signs=get.switch("sign"),
        analyses=_analyses(table.get("analyse", []), fault),
        retention=rule_retention(name, table, conditions, fault),
        quarantine=_quarantine(table.get("quarantine", ""), fault),
        validation=_validation(table.get("validate", ""), fault),
        timing=rule_timing(table, fault),
        stop=get.switch("stop"),
    )
    if rule.timing is not None and rule.timing.schedule and not rule.routes:
        raise fault('schedule is about sending; add forward = ["AET"], a peer')
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
    if not isinstance(priority, str) or priority not in _PRIORITIES:
        raise fault(f"forward_priority must be {', '.join(_PRIORITIES)}")
    commit, delete_after = get.switch("commit"), get.switch("delete_after")
    if delete_after and not commit:
        raise fault(
            "delete_after needs commit = true: nothing is deleted that nobody else promises to keep"
        )
    project = get.table_.get("deidentify", "")
    if not isinstance(project, str) or not project.isprintable() or len(project) > _MAX_NAME:
        raise fault('deidentify must be the name of one of [[deidentification]]: "research"')
    if project and commit:
        raise fault(
            "commit asks for what was sent, and with deidentify that is another object; leave one "
            "of them out"
        )
    form = SentForm(
        project, _edits("forward_coerce", get.table_, fault), _forward_syntax(get.table_, fault)
    )
    if form.edits and delete_after:
        raise fault(
            "delete_after with forward_coerce would leave nobody with the object as it is; leave "
            "one of them out"
        )
    if not peers:
        for key in _FORWARD_KEYS:
            if key in get.table_:
                raise fault(f'{key} is about sending; add forward = ["AET"], a peer')
    for peer in peers:
        if not isinstance(peer, str) or not (is_ae_title(peer) or is_node_name(peer)):
            raise fault('forward must be a list of AE titles of peers, or names of nodes: ["PACS"]')
    return tuple(
        Route(
            destination=peer,
            rule=name,
            form=form,
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


def _analyses(names: object, fault: Callable[[str], RuleFault]) -> tuple[str, ...]:
    listed = names if isinstance(names, list) else [names]
    if not all(isinstance(one, str) and is_service_name(one) for one in listed):
        raise fault('analyse must be a list of names of [[ai_services]]: ["lung"]')
    return tuple(dict.fromkeys(listed))


def _quarantine(reason: object, fault: Callable[[str], RuleFault]) -> str:
    if reason == "":
        return ""
    if not isinstance(reason, str) or not reason.isprintable() or len(reason) > _MAX_REASON:
        raise fault(
            f"quarantine must be the reason, up to {_MAX_REASON} characters on one line: "
            'quarantine = "no Patient ID"'
        )
    return reason


def _validation(policy: object, fault: Callable[[str], RuleFault]) -> ValidationPolicy | None:
    if policy == "":
        return None
    for each in ValidationPolicy:
        if policy == each.value:
            return each
    raise fault(f"validate must be {', '.join(each.value for each in ValidationPolicy)}")


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


def _edits(
    key: str, table: Mapping[str, Any], fault: Callable[[str], RuleFault]
) -> tuple[Edit, ...]:
    raw = table.get(key, [])
    if raw == []:
        return ()
    if not isinstance(raw, list):
        raise fault(f'{key} must be a list of tables: [{{ set = "0008,0080", value = "X" }}]')
    # The data dictionary takes a while to load; most configurations need it for nothing.
    from isocenter.services.archive.coercion.edit_tables import edits_of

    try:
        return edits_of(raw)
    except ValueError as error:
        raise fault(f"{key} {error}") from error


def _forward_syntax(table: Mapping[str, Any], fault: Callable[[str], RuleFault]) -> str:
    """The UID of the transfer syntax that is named; empty: none is."""
    keyword = table.get("forward_syntax", "")
    if keyword == "":
        return ""
    # The table of transfer syntaxes is needed by few configurations.
    from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD, LOSSLESS_TARGETS

    known = (*_PLAIN_SYNTAXES, *LOSSLESS_TARGETS)
    if keyword not in known:
        raise fault(
            f"forward_syntax must be {', '.join(known)}: what loses something would make another "
            "object (PS3.3 C.7.6.1.1.5)"
        )
    return BY_KEYWORD[keyword].uid


# -- As a setting ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleKind:
    """One table of ``[[rules]]``."""

    allowed: str = (
        "a table [[rules]] with name, when, and what is to be done (forward, analyse, area, "
        "coerce, compress, quarantine, sign, validate, stop)"
    )

    def from_toml(self, value: object) -> Rule:
        """A table."""
        return parse_rule(value)

    def from_text(self, text: str) -> Rule:
        """An inline table of TOML."""
        return parse_rule(inline(text, RuleFault))

    def to_toml(self, value: object) -> str:
        """An inline table."""
        assert isinstance(value, Rule)
        return _shown(table_of(value))


RULES: Final = ArrayOfTables(RuleKind(), "rules", MAX_RULES, RuleFault)


def table_of(rule: Rule) -> dict[str, object]:
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
        if route.form.project:
            table["deidentify"] = route.form.project
        if route.form.edits:
            table["forward_coerce"] = tables_of(route.form.edits)
        if route.form.transfer_syntax_uid:
            table["forward_syntax"] = keyword_of_syntax(route.form.transfer_syntax_uid)
    if rule.area:
        table["area"] = rule.area
    if rule.edits:
        table["coerce"] = tables_of(rule.edits)
    if rule.compression is not None:
        order = rule.compression
        table["compress"] = keyword_of_syntax(order.transfer_syntax_uid)
        table["compress_when"] = "complete" if order.when_complete else "arrival"
    if rule.signs:
        table["sign"] = True
    if rule.analyses:
        table["analyse"] = list(rule.analyses)
    if rule.retention is not None:
        table |= table_of_retention(rule.retention)
    if rule.quarantine:
        table["quarantine"] = rule.quarantine
    if rule.validation is not None:
        table["validate"] = rule.validation.value
    if rule.timing is not None:
        table |= table_of_timing(rule.timing)
    if rule.stop:
        table["stop"] = True
    return table


def text_of_table(table: Mapping[str, Any]) -> str:
    """As TOML, a line for each key."""
    return "".join(f"{_key(name)} = {_shown(value)}\n" for name, value in table.items())


def tables_of(edits: Sequence[Edit]) -> list[dict[str, object]]:
    """As ``coerce`` has them."""
    if not edits:
        return []
    from isocenter.services.archive.coercion.edit_tables import table_of_edit

    return [table_of_edit(edit) for edit in edits]


def keyword_of_syntax(uid: str) -> str:
    """What a rule calls a transfer syntax; of none it is empty."""
    if not uid:
        return ""
    from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

    return PIXEL_SYNTAXES[uid].keyword


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
