"""Queries of the index as SQL for the tables of `isocenter.storage.database.sqlite.schema`.

An entity (patient, study, series) has statements, one for each set of values that differs
(`isocenter.storage.database.sqlite.schema`); it matches when one of them does, which `DISTINCT`
tells once.

What a query means is said once, in plain Python, by `isocenter.services.archive.index.matching`;
this module only makes it fast, and hands to Python what SQL cannot compare.  A row whose values all
look the way `matching.normalize` leaves them is *regular*: equality, ranges and GLOB on its columns
give the reference's answers, and use an index.  Any other row (several values where the standard
allows one, old date formats, …) carries ``irregular = 1`` and is given to the reference matcher, as
a function in the database. So each criterion becomes

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
from functools import partial
from typing import Any, Final, assert_never

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index import matching
from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, Attribute, Level
from isocenter.services.archive.index.query import (
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

#: UIDs that make a study and a series what it is; nothing is said of them that could differ.
_ENTITY_TAGS: Final = frozenset({0x0020000D, 0x0020000E})

#: What an object says of each level, in the order of the table.
STATED: Final = {
    level: tuple(
        a for a in ATTRIBUTES if a.level is level and not a.computed and a.tag not in _ENTITY_TAGS
    )
    for level in Level
}

#: What there is, a row each.
TABLE: Final = {
    Level.PATIENT: "patient",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "instance",
}

#: Where that is which objects say.
STORED_IN: Final = {
    Level.PATIENT: "patient_statement",
    Level.STUDY: "study_statement",
    Level.SERIES: "series_statement",
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
    0x00080061: ("series_statement", BY_TAG[0x00080060]),
    0x00080062: ("study_sop_class", BY_TAG[0x00080016]),
}

#: The studies that the patient of a statement has.
_STUDIES_OF_PATIENT: Final = (
    "SELECT s.study_pk FROM study_statement AS s JOIN patient_statement AS p "
    "ON p.patient_statement_pk = s.patient_statement_pk "
    "WHERE p.patient_pk = patient_statement.patient_pk"
)
_SUM_OF_STUDIES: Final = (
    "(SELECT sum({column}) FROM study AS of_patient "
    f"WHERE of_patient.study_pk IN ({_STUDIES_OF_PATIENT}))"
)
#: Counts of a patient, which no row holds.
_COUNTS_OF_PATIENT: Final = {
    0x00201200: _SUM_OF_STUDIES.format(column="1"),
    0x00201202: _SUM_OF_STUDIES.format(column="num_series"),
    0x00201204: _SUM_OF_STUDIES.format(column="num_instances"),
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


def table_of(attribute: Attribute) -> str:
    """The table that has the value of *attribute*, or leads to it."""
    if attribute.level is Level.PATIENT:
        return "patient_statement"
    if attribute.computed or attribute.tag in _ENTITY_TAGS:
        return TABLE[attribute.level]
    return STORED_IN[attribute.level]


#: From the bottom to the top; each with the tables that it can be joined to, and by what.
_JOINS: Final = {
    "instance": {},
    "series": {"instance": "series_pk"},
    "series_statement": {"instance": "series_pk", "series": "series_pk"},
    "study": {"series": "study_pk", "series_statement": "study_pk"},
    "study_statement": {"study": "study_pk", "series": "study_pk", "series_statement": "study_pk"},
    "patient_statement": {"study_statement": "patient_statement_pk"},
    "patient": {"patient_statement": "patient_pk"},
}
_STATEMENTS: Final = frozenset(STORED_IN.values()) - {"instance"}


def _source(tables: set[str]) -> str:
    """FROM: all *tables*, and what it takes to join them."""
    tables = set(tables)
    if "patient_statement" in tables and tables - {"patient", "patient_statement"}:
        tables.add("study_statement")
    if "instance" in tables and tables & {"study", "study_statement"}:
        tables.add("series")
    source = ""
    for table, links in _JOINS.items():
        if table not in tables:
            continue
        if not source:
            source = table
            continue
        other = next(other for other in links if other in tables)
        source += f" JOIN {table} ON {table}.{links[other]} = {other}.{links[other]}"
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
    """The row numbers of all matches of *query*, each once; of all there is, ordered by
    unique key."""
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


def answer(attribute: Attribute) -> str:
    """SQL for the value of *attribute* in an answer."""
    computed = _COMPUTED_FROM.get(attribute.tag)
    if computed is not None:
        table, source = computed
        values = (
            f"SELECT DISTINCT {source.column} FROM {table} WHERE {table}.study_pk = study.study_pk "
            f"AND {source.column} <> '' ORDER BY {source.column}"
        )
        return f"coalesce((SELECT group_concat({source.column}, char(92)) FROM ({values})), '')"
    count = _COUNTS_OF_PATIENT.get(attribute.tag)
    column = count or f'{table_of(attribute)}."{attribute.column}"'
    return f"CAST({column} AS TEXT)" if attribute.computed else column


def _tables(criteria: Sequence[Criterion], combined: Sequence[CombinedRange]) -> set[str]:
    tags = {criterion.tag for criterion in criteria}
    for both in combined:
        tags |= {both.date_tag, both.time_tag}
    return {table_of(BY_TAG[tag]) for tag in tags}


def _groups(level: Level) -> tuple[frozenset[str], ...]:
    """Tables of which one statement has to say all that is asked of them."""
    if level is Level.PATIENT:
        return (frozenset({"patient_statement"}),)
    return frozenset({"patient_statement", "study_statement"}), frozenset({"series_statement"})


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
        source, where, distinct = self._matches()
        # The criteria choose the index, not the order: what is found first is answered first.
        order = "" if where else f" ORDER BY {order}"
        return self._statement(f"SELECT {distinct}{base}.{base}_pk FROM {source}{where}{order}")

    def instance_keys(self) -> Statement:
        level = self._query.level
        base = TABLE[level]
        source, where, _ = self._matches()
        matches = f"SELECT {base}.{base}_pk FROM {source}{where}"
        if level is Level.PATIENT:
            base = "study"
            matches = (
                "SELECT study_statement.study_pk FROM study_statement JOIN patient_statement "
                f"USING (patient_statement_pk) WHERE patient_statement.patient_pk IN ({matches})"
            )
        return self._statement(
            f"SELECT instance.instance_pk FROM {_source({'instance', 'series', 'study'})}"
            f"{f' WHERE {base}.{base}_pk IN ({matches})' if where else ''} "
            f"ORDER BY {_INSTANCE_ORDER}"
        )

    def _statement(self, text: str) -> Statement:
        return Statement(text, tuple(self._parameters), tuple(self._matchers))

    def _matches(self) -> tuple[str, str, str]:
        """FROM and WHERE of the query, and DISTINCT where one entity may come more than once."""
        base = TABLE[self._query.level]
        tables = {base}
        terms: list[str] = []
        for group in _groups(self._query.level):
            criteria = [c for c in self._here if table_of(BY_TAG[c.tag]) in group]
            combined = [c for c in self._combined_here if _tables((), (c,)) <= group]
            if not criteria and not combined:
                continue
            if STORED_IN[self._query.level] in group:
                tables |= _tables(criteria, combined)
                terms += self._all(criteria, combined)
            else:
                terms.append(self._above(group, criteria, combined))
                tables |= (
                    {base} if base != "instance" or "series_statement" in group else {"series"}
                )
        rest = [c for c in self._here if table_of(BY_TAG[c.tag]) not in _STATEMENTS]
        tables |= _tables(rest, ())
        terms += self._all(rest, ())
        for both in self._combined_here:
            # Of two groups, or of the base itself.
            if not any(_tables((), (both,)) <= group for group in _groups(self._query.level)):
                tables |= _tables((), (both,))
                terms.append(self._combined(both))
        if self._below or self._combined_below:
            terms.append(self._relational())
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        # The plus is for SQLite: it would look at all entities in their order to find each once.
        return _source(tables), where, "DISTINCT +" if tables & _STATEMENTS else ""

    def _all(self, criteria: Sequence[Criterion], combined: Sequence[CombinedRange]) -> list[str]:
        return [self._criterion(c) for c in criteria] + [self._combined(c) for c in combined]

    def _above(
        self,
        group: frozenset[str],
        criteria: Sequence[Criterion],
        combined: Sequence[CombinedRange],
    ) -> str:
        """Some statement of what is above the query's level says all of this."""
        inner, key = (
            ("series_statement", "series_pk")
            if "series_statement" in group
            else ("study_statement", "study_pk")
        )
        outer = "instance" if key == "series_pk" else "series"
        condition = " AND ".join(self._all(criteria, combined))
        source = _source(_tables(criteria, combined) | {inner})
        others = [c for c in self._here if c not in criteria]
        if any(map(_uses_index, others)) and not any(map(_uses_index, criteria)):
            return (
                f"EXISTS (SELECT 1 FROM {source} WHERE {inner}.{key} = {outer}.{key} "
                f"AND {condition})"
            )
        return f"{outer}.{key} IN (SELECT {inner}.{key} FROM {source} WHERE {condition})"

    def _relational(self) -> str:
        """Some entity below the query's level satisfies what is asked there."""
        terms = [self._criterion(c) for c in self._below]
        terms += [self._combined(c) for c in self._combined_below]
        level = self._query.level
        tables = _tables(self._below, self._combined_below)
        if level is Level.PATIENT:
            inner = "patient_statement"
        elif level is Level.STUDY:
            inner = "series_statement" if "series_statement" in tables else "series"
        else:
            inner = "instance"
        return self._exists(
            f"{TABLE[level]}_pk",
            TABLE[level],
            inner,
            _source(tables | {inner}),
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
            return self._value(table_of(attribute), attribute, criterion.match)
        table, source = computed
        if isinstance(criterion.match, EmptyValue):
            return self._slow(attribute, criterion.match, answer(attribute))
        condition = self._value(table, source, criterion.match)
        return self._exists("study_pk", "study", table, table, condition)

    def _value(self, table: str, attribute: Attribute, match: Match) -> str:
        """*match* holds for the value of *attribute* in the row of *table*."""
        column = answer(attribute) if attribute.computed else f'{table}."{attribute.column}"'
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
        table = table_of(date)
        date_column = f'{table}."{date.column}"'
        time_column = f'{table_of(time)}."{time.column}"'
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
