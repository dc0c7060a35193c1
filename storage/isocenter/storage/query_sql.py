"""`isocenter.services.index.query.Query` as SQL for the tables of `isocenter.storage.migrations`.

What a query means is said once, in plain Python, by `isocenter.services.index.matching`; this
module only makes it fast, and hands to Python what SQL cannot compare.  A row whose
values all look the way `matching.normalize` leaves them is *regular*: equality, ranges
and GLOB on its columns give the reference's answers, and use an index.  Any other row
(several values where the standard allows one, old date formats, …) carries
``irregular = 1`` and is given to the reference matcher, as a function in the database.
So each criterion becomes

    (irregular = 0 AND column = ?) OR (irregular = 1 AND dicom_matches(…, column))

and SQLite finds both halves by index.  Person names are compared in a column of their
own, where `MARK` at the beginning stands for ``irregular``: a name with an ideographic
group is no rarity, and must not make its patient's ID slow.  UIDs were validated
before they came here and have only the first half.  Values are bound, never part of
the text.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, assert_never

import orjson

from isocenter.services.index import matching
from isocenter.services.index.attributes import ATTRIBUTES, BY_TAG, UNIQUE_KEY, Attribute, Level
from isocenter.services.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)

#: What an instance brings along, by level, in the order of the table.
STORED_COLUMNS: Final = {
    level: tuple(a for a in ATTRIBUTES if a.level is level and not a.computed) for level in Level
}

TABLE: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "instance",
}

_MODALITIES_IN_STUDY: Final = 0x00080061
_SOP_CLASSES_IN_STUDY: Final = 0x00080062

#: Value multiplicity above one (PS3.6): always asked of the reference matcher, value by value.
_SEVERAL_VALUES: Final = frozenset(
    {
        0x00101000,  # Other Patient IDs
        0x00081060,  # Name of Physician(s) Reading Study
        0x00081050,  # Performing Physician's Name
        0x00080008,  # Image Type
    }
)

#: GLOB backtracks: with n stars it may take length^n steps.  Up to here it is harmless and
#: faster than calling Python; beyond, `matching.wildcard_match` answers in bounded time.
MAX_GLOB_STARS: Final = 2

#: The highest code point: no text with a prefix sorts after the prefix and this.
_LAST_CHARACTER: Final = "\U0010ffff"

#: What completes a time of any allowed precision (PS3.5 6.2, TM).
_EARLIEST_TIME: Final = "000000.000000"


Matcher = Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, what is bound to its question marks, and what ``dicom_matches`` calls."""

    text: str
    parameters: tuple[str, ...]
    matchers: tuple[Matcher, ...] = ()


class MatchingConnection(sqlite3.Connection):
    """An SQLite connection that can run compiled statements.

    ``dicom_matches(number, text, …)`` calls a matcher of the statement that runs; so a
    statement is fetched to its end before the next one begins.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._matchers: Sequence[Matcher] = ()
        self.create_function("dicom_matches", -1, self._dicom_matches, deterministic=True)

    def _dicom_matches(self, number: int, *texts: str) -> bool:
        return self._matchers[number](*texts)

    def run(self, statement: Statement) -> sqlite3.Cursor:
        """Begin *statement*."""
        self._matchers = statement.matchers
        return self.execute(statement.text, statement.parameters)


def sound(text: str) -> str:
    """*text* as UTF-8 can hold it: a lone surrogate must fail no query and no batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def key_column(attribute: Attribute) -> str | None:
    """The column that holds the value as it is compared, where that is not the value itself."""
    if attribute.vr == "PN" and attribute.tag not in _SEVERAL_VALUES:
        return f"{attribute.column}_key"
    return None


#: Begins the key of a name with several groups or values; no other normalized name has one.
MARK: Final = "="
#: Sorts after all that begins with `MARK`.
_AFTER_MARK: Final = chr(ord(MARK) + 1)


def key_text(attribute: Attribute, text: str) -> str:
    """What `key_column` holds for the value *text*."""
    key = matching.normalize(attribute.vr, text)
    return MARK + key if MARK in key or "\\" in key or "\0" in key else key


def is_irregular(attribute: Attribute, text: str) -> bool:
    """Does *text*, not empty, need the reference matcher?"""
    vr = attribute.vr
    if vr in _NEVER_IRREGULAR or not _has_fast_text(attribute):
        return False
    if "\\" in text or "\0" in text:
        return True
    normalized = matching.normalize(vr, text)
    if vr in matching.RANGE_VRS and not matching.is_range_comparable(vr, normalized):
        return True
    if vr == "TM":
        text += _EARLIEST_TIME[len(text) :]
    return normalized != text


def _has_fast_text(attribute: Attribute) -> bool:
    return not (
        attribute.computed or attribute.vr in _NEVER_FAST or attribute.tag in _SEVERAL_VALUES
    )


_LEVELS: Final = tuple(Level)
_DATE_LENGTH: Final = len("YYYYMMDD")

#: A sequence is JSON; of a decimal, the usual text is not the one that is compared.
_NEVER_FAST: Final = frozenset({"SQ", "DS"})
#: See the module's docstring.
_NEVER_IRREGULAR: Final = frozenset({"PN", "UI"})

_ORDER: Final = {
    Level.PATIENT: "patient.patient_id, patient.issuer_of_patient_id, patient.patient_pk",
    Level.STUDY: "study.study_instance_uid",
    Level.SERIES: "series.series_instance_uid",
    Level.IMAGE: "instance.sop_instance_uid",
}
_INSTANCE_ORDER: Final = (
    "study.study_instance_uid, series.series_instance_uid, "
    "instance.instance_order, instance.sop_instance_uid"
)

#: Attributes of the study that its parts tell: where, and as which attribute.
_COMPUTED_FROM: Final = {
    0x00080061: ("series", BY_TAG[0x00080060]),
    0x00080062: ("study_sop_class", BY_TAG[0x00080016]),
}

_INDEXED: Final = frozenset(
    {0x00100020, 0x00100010, 0x00100030, 0x0020000D, 0x00080020, 0x00080050, 0x0020000E, 0x00080018}
)


def _level(criterion: Criterion | CombinedRange) -> Level:
    """Where *criterion* is judged: of a date and a time, at the lower of their levels."""
    if isinstance(criterion, Criterion):
        return BY_TAG[criterion.tag].level
    levels = (BY_TAG[criterion.date_tag].level, BY_TAG[criterion.time_tag].level)
    return max(levels, key=lambda level: level.depth)


def _uses_index(criterion: Criterion) -> bool:
    match criterion.match:
        case SingleValue() | ValueList() | Range():
            return criterion.tag in _INDEXED
        case WildCard(pattern):
            return criterion.tag in _INDEXED and pattern[:1] not in ("*", "?")
        case _:
            return False


def _join(base: Level, levels: set[Level]) -> str:
    """*base* and its parents up to the highest of *levels*."""
    top = min((level.depth for level in levels), default=base.depth)
    # Levels below *base* are the business of a subquery: their slice is empty.
    source = TABLE[base]
    for level in reversed(_LEVELS[top : base.depth]):
        source += f" JOIN {TABLE[level]} USING ({TABLE[level]}_pk)"
    return source


def compared(table: str, attribute: Attribute) -> str:
    """SQL for the value of *attribute* as it is compared, in a regular row."""
    if attribute.vr == "PN":
        return f"{table}.{key_column(attribute)}"
    column = f'{table}."{attribute.column}"'
    if attribute.vr == "TM":
        # As `matching.normalize` completes a time; no value stays none.
        missing = f"substr('{_EARLIEST_TIME}', length({column}) + 1)"
        return f"CASE {column} WHEN '' THEN '' ELSE {column} || {missing} END"
    return column


def compile_keys(query: Query) -> Statement:
    """The row numbers of all matches of *query*; of all there is, ordered by unique key."""
    return _Compiler(query).keys()


def compile_instance_keys(query: Query) -> Statement:
    """The row numbers of all instances below the matches, by study, series, instance number."""
    return _Compiler(query).instance_keys()


#: The same for every instance there is.
ALL_INSTANCE_KEYS: Final = Statement(
    "SELECT instance.instance_pk FROM instance JOIN series USING (series_pk) "
    f"JOIN study USING (study_pk) ORDER BY {_INSTANCE_ORDER}",
    (),
)


def compile_rows(query: Query) -> tuple[tuple[int, ...], str]:
    """How the answers to *query* are fetched: their tags, and a SELECT with a column for each.

    Its one parameter is a JSON list of row numbers; rows come in that order.
    """
    depth = query.level.depth
    wanted = [UNIQUE_KEY[level] for level in _LEVELS[: depth + 1]]
    wanted += [tag for tag in query.return_tags if BY_TAG[tag].level.depth <= depth]
    tags = tuple(dict.fromkeys(wanted))
    base = TABLE[query.level]
    columns = ", ".join(_answer(BY_TAG[tag]) for tag in tags)
    parents = _join(query.level, {Level.PATIENT}).removeprefix(base)
    return tags, (
        f"SELECT {columns} FROM json_each(?) AS wanted "
        f"CROSS JOIN {base} ON {base}.{base}_pk = wanted.value{parents} ORDER BY wanted.key"
    )


def _answer(attribute: Attribute) -> str:
    computed = _COMPUTED_FROM.get(attribute.tag)
    if computed is not None:
        table, source = computed
        values = (
            f"SELECT DISTINCT {source.column} FROM {table} WHERE {table}.study_pk = study.study_pk "
            f"AND {source.column} <> '' ORDER BY {source.column}"
        )
        return f"coalesce((SELECT group_concat({source.column}, char(92)) FROM ({values})), '')"
    column = f'{TABLE[attribute.level]}."{attribute.column}"'
    return f"CAST({column} AS TEXT)" if attribute.computed else column


class _Compiler:
    """Compiles one query: collects parameters and matchers in the order of the text."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._parameters: list[str] = []
        self._matchers: list[Matcher] = []
        depth = query.level.depth
        self._here = [c for c in query.criteria if _level(c).depth <= depth]
        self._below = [c for c in query.criteria if _level(c).depth > depth]
        self._combined_here = [c for c in query.combined if _level(c).depth <= depth]
        self._combined_below = [c for c in query.combined if _level(c).depth > depth]
        #: An index leads to few rows, whatever the subqueries say.
        self._is_narrow = bool(self._combined_here) or any(map(_uses_index, self._here))

    def keys(self) -> Statement:
        base = TABLE[self._query.level]
        order = _ORDER[self._query.level]
        source, where = self._matches()
        # The criteria choose the index, not the order: what is found first is answered first.
        order = "" if where else f" ORDER BY {order}"
        return self._statement(f"SELECT {base}.{base}_pk FROM {source}{where}{order}")

    def instance_keys(self) -> Statement:
        level = self._query.level
        base = TABLE[level]
        source, where = self._matches()
        matches = f" WHERE {base}.{base}_pk IN (SELECT {base}.{base}_pk FROM {source}{where})"
        return self._statement(
            f"SELECT instance.instance_pk FROM {_join(Level.IMAGE, {Level.STUDY, level})}"
            f"{matches if where else ''} ORDER BY {_INSTANCE_ORDER}"
        )

    def _statement(self, text: str) -> Statement:
        return Statement(text, tuple(self._parameters), tuple(self._matchers))

    def _matches(self) -> tuple[str, str]:
        """FROM and WHERE of the query."""
        terms = [self._criterion(c) for c in self._here]
        terms += [self._combined(c) for c in self._combined_here]
        if self._below or self._combined_below:
            terms.append(self._relational())
        levels = {_level(c) for c in self._here}
        for combined in self._query.combined:
            levels |= {BY_TAG[combined.date_tag].level, BY_TAG[combined.time_tag].level}
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        return _join(self._query.level, levels), where

    def _relational(self) -> str:
        """Some entity below the query's level satisfies what is asked there."""
        criteria: list[Criterion | CombinedRange] = [*self._below, *self._combined_below]
        deepest = max((_level(c) for c in criteria), key=lambda level: level.depth)
        terms = [self._criterion(c) for c in self._below]
        terms += [self._combined(c) for c in self._combined_below]
        child = _LEVELS[self._query.level.depth + 1]
        return self._exists(
            f"{TABLE[self._query.level]}_pk",
            TABLE[self._query.level],
            TABLE[child],
            _join(deepest, {child}),
            " AND ".join(terms),
        )

    def _exists(self, key: str, outer: str, inner: str, source: str, condition: str) -> str:
        """A row of *source* belongs to the row of *outer* and satisfies *condition*.

        Where an index leads to few rows of *outer*, each is looked at; otherwise the
        inner rows are found first, once.
        """
        if self._is_narrow:
            link = f"{inner}.{key} = {outer}.{key}"
            return f"EXISTS (SELECT 1 FROM {source} WHERE {link} AND {condition})"
        return f"{outer}.{key} IN (SELECT {inner}.{key} FROM {source} WHERE {condition})"

    def _criterion(self, criterion: Criterion) -> str:
        attribute = BY_TAG[criterion.tag]
        computed = _COMPUTED_FROM.get(attribute.tag)
        if computed is None:
            return self._value(TABLE[attribute.level], attribute, criterion.match)
        table, source = computed
        if isinstance(criterion.match, EmptyValue):
            return self._slow(attribute, criterion.match, _answer(attribute))
        condition = self._value(table, source, criterion.match)
        return self._exists("study_pk", "study", table, table, condition)

    def _value(self, table: str, attribute: Attribute, match: Match) -> str:
        """*match* holds for the value of *attribute* in the row of *table*."""
        if attribute.computed:
            column = f"CAST({table}.{attribute.column} AS TEXT)"
        else:
            column = f'{table}."{attribute.column}"'
        fast = self._fast(table, attribute, match)
        if fast is None:
            return self._slow(attribute, match, column)
        if attribute.vr == "UI":
            return fast
        slow = self._slow(attribute, match, column)
        if attribute.vr == "PN":
            key = compared(table, attribute)
            marked = f"{key} >= '{MARK}' AND {key} < '{_AFTER_MARK}'"
            return f"({fast} OR ({marked} AND {slow}))"
        return f"(({table}.irregular = 0 AND {fast}) OR ({table}.irregular = 1 AND {slow}))"

    def _slow(self, attribute: Attribute, match: Match, column: str) -> str:
        return self._reference(partial(matching.matches_text, attribute.vr, match), column)

    def _fast(self, table: str, attribute: Attribute, match: Match) -> str | None:
        """The same for a regular row, in SQL alone; None: only the reference matcher knows."""
        vr = attribute.vr
        if not _has_fast_text(attribute):
            return None
        column = compared(table, attribute)
        match match:
            case EmptyValue():
                return f"{column} = ''"
            case SingleValue(value):
                if vr == "PN" and "=" in value:
                    return None
                key = matching.normalize(vr, value)
                if not key:
                    return None
                self._bind(key)
                return f"{column} = ?"
            case ValueList(values):
                keys = [key for value in values if (key := matching.normalize(vr, value))]
                if vr == "PN" and any("=" in key for key in keys):
                    return None
                self._bind(orjson.dumps([sound(key) for key in keys]).decode())
                return f"{column} IN (SELECT value FROM json_each(?))"
            case WildCard(pattern):
                if vr not in matching.WILD_CARD_VRS or (vr == "PN" and "=" in pattern):
                    return None
                return self._glob(attribute, column, matching.normalize(vr, pattern))
            case Range():
                if vr not in matching.RANGE_VRS:
                    return None
                return self._between(column, *matching.range_bounds(vr, match))
            case SequenceMatch():
                return None
            case _:
                assert_never(match)

    def _glob(self, attribute: Attribute, column: str, pattern: str) -> str | None:
        if pattern.count("*") > MAX_GLOB_STARS or "\0" in pattern:
            return None
        prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
        if prefix:
            self._bind(prefix, prefix + _LAST_CHARACTER)
            bounds = f"{column} >= ? AND {column} < ?"
        else:
            # No value matches nothing, not even `**`.
            bounds = f"{column} <> ''"
            if attribute.vr == "PN":
                bounds += f" AND {column} NOT GLOB '{MARK}*'"
        self._bind(pattern.replace("[", "[[]"))
        return f"({bounds} AND {column} GLOB ?)"

    def _between(self, column: str, low: str | None, high: str | None) -> str:
        # No value is in no range, and '' sorts before every date and time.
        terms = []
        if low:
            self._bind(low)
            terms.append(f"{column} >= ?")
        else:
            terms.append(f"{column} > ''")
        if high is not None:
            self._bind(high)
            terms.append(f"{column} <= ?")
        return f"({' AND '.join(terms)})"

    def _combined(self, combined: CombinedRange) -> str:
        date, time = BY_TAG[combined.date_tag], BY_TAG[combined.time_tag]
        date_column = f'{TABLE[date.level]}."{date.column}"'
        time_column = f'{TABLE[time.level]}."{time.column}"'
        table = TABLE[date.level]
        bounds = self._between(
            date_column,
            combined.low and combined.low[:_DATE_LENGTH],
            combined.high and combined.high[:_DATE_LENGTH],
        )
        exact = self._reference(
            partial(matching.matches_combined, combined), date_column, time_column
        )
        return f"(({table}.irregular = 0 AND {bounds}) OR {table}.irregular = 1) AND {exact}"

    def _bind(self, *values: str) -> None:
        self._parameters.extend(map(sound, values))

    def _reference(self, matcher: Matcher, *columns: str) -> str:
        self._matchers.append(matcher)
        return f"dicom_matches({len(self._matchers) - 1}, {', '.join(columns)})"
