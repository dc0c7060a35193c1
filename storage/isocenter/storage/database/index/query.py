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
own, where `MULTIPLE_GROUPS_PREFIX` at the beginning stands for ``irregular``: a name with an
ideographic group is no rarity, and must not make its patient's ID slow.  UIDs were validated before
they came here and have only the first half.  Values are bound, never part of the text.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Final, assert_never

from isocenter.services.archive.index import matching
from isocenter.services.archive.index.attributes import BY_TAG, Attribute, Level
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
from isocenter.storage.database.database import Question
from isocenter.storage.database.dialect import TEXTS, joined, json_list
from isocenter.storage.database.index.columns import (
    AFTER_MULTIPLE_GROUPS,
    EARLIEST_TIME,
    ENTITY_TAGS,
    MULTIPLE_GROUPS_PREFIX,
    STORED_IN,
    TABLE,
    has_fast_text,
    key_column,
)
from isocenter.storage.database.index.fragment import Sql, bound, join, reference
from isocenter.storage.database.text import replace_surrogates

#: GLOB backtracks: with n stars it may take length^n steps.  Up to here it is harmless and
#: faster than calling Python; beyond, `matching.wildcard_match` answers in bounded time.
MAX_GLOB_STARS: Final = 2

#: The highest code point: no text with a prefix sorts after the prefix and this.
_LAST_CHARACTER: Final = "\U0010ffff"

_LEVELS: Final = tuple(Level)
_DATE_LENGTH: Final = len("YYYYMMDD")

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
    if attribute.computed or attribute.tag in ENTITY_TAGS:
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
        missing = f"substr('{EARLIEST_TIME}', length({column}) + 1)"
        return f"CASE {column} WHEN '' THEN '' ELSE {column} || {missing} END"
    return column


def compile_keys(query: Query) -> Question:
    """The row numbers of all matches of *query*, each once; of all there is, ordered by
    unique key."""
    return _Compiler(query).keys().question()


def compile_instance_keys(query: Query) -> Question:
    """The row numbers of all instances below the matches, by study, series, instance number."""
    return _Compiler(query).instance_keys().question()


#: The same for every instance there is.
ALL_INSTANCE_KEYS: Final = Question(
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
        return f"coalesce((SELECT {joined(source.column)} FROM ({values})), '')"
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
    """Compiles one query."""

    def __init__(self, query: Query) -> None:
        self._query = query
        depth = query.level.depth
        self._here = [c for c in query.criteria if _level(c).depth <= depth]
        self._below = [c for c in query.criteria if _level(c).depth > depth]
        self._combined_here = [c for c in query.combined if _level(c).depth <= depth]
        self._combined_below = [c for c in query.combined if _level(c).depth > depth]
        #: An index leads to few rows, whatever the subqueries say.
        self._is_narrow = bool(self._combined_here) or any(map(_uses_index, self._here))

    def keys(self) -> Sql:
        base = TABLE[self._query.level]
        order = _ORDER[self._query.level]
        source, where, distinct = self._matches()
        # The criteria choose the index, not the order: what is found first is answered first.
        ending = where if where.text else f" ORDER BY {order}"
        return Sql(f"SELECT {distinct}{base}.{base}_pk FROM {source}") + ending

    def instance_keys(self) -> Sql:
        level = self._query.level
        base = TABLE[level]
        source, where, _ = self._matches()
        matches = f"SELECT {base}.{base}_pk FROM {source}" + where
        if level is Level.PATIENT:
            base = "study"
            matches = (
                "SELECT study_statement.study_pk FROM study_statement JOIN patient_statement "
                "USING (patient_statement_pk) WHERE patient_statement.patient_pk IN ("
                + matches
                + ")"
            )
        found = Sql(f"SELECT instance.instance_pk FROM {_source({'instance', 'series', 'study'})}")
        if where.text:
            found += f" WHERE {base}.{base}_pk IN (" + matches + ")"
        return found + f" ORDER BY {_INSTANCE_ORDER}"

    def _matches(self) -> tuple[str, Sql, str]:
        """FROM and WHERE of the query, and DISTINCT where one entity may come more than once."""
        base = TABLE[self._query.level]
        tables = {base}
        terms: list[Sql] = []
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
        where = " WHERE " + join(" AND ", terms) if terms else Sql("")
        # The plus is for SQLite: it would look at all entities in their order to find each once.
        return _source(tables), where, "DISTINCT +" if tables & _STATEMENTS else ""

    def _all(self, criteria: Sequence[Criterion], combined: Sequence[CombinedRange]) -> list[Sql]:
        return [self._criterion(c) for c in criteria] + [self._combined(c) for c in combined]

    def _above(
        self,
        group: frozenset[str],
        criteria: Sequence[Criterion],
        combined: Sequence[CombinedRange],
    ) -> Sql:
        """Some statement of what is above the query's level says all of this."""
        inner, key = (
            ("series_statement", "series_pk")
            if "series_statement" in group
            else ("study_statement", "study_pk")
        )
        outer = "instance" if key == "series_pk" else "series"
        condition = join(" AND ", self._all(criteria, combined))
        source = _source(_tables(criteria, combined) | {inner})
        others = [c for c in self._here if c not in criteria]
        if any(map(_uses_index, others)) and not any(map(_uses_index, criteria)):
            return (
                f"EXISTS (SELECT 1 FROM {source} WHERE {inner}.{key} = {outer}.{key} AND "
                + condition
                + ")"
            )
        return f"{outer}.{key} IN (SELECT {inner}.{key} FROM {source} WHERE " + condition + ")"

    def _relational(self) -> Sql:
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
            join(" AND ", terms),
        )

    def _exists(self, key: str, outer: str, inner: str, source: str, condition: Sql) -> Sql:
        """A row of *source* belongs to the row of *outer* and satisfies *condition*.

        Where an index leads to few rows of *outer*, each is looked at; otherwise the
        inner rows are found first, once.
        """
        if self._is_narrow:
            link = f"{inner}.{key} = {outer}.{key}"
            return f"EXISTS (SELECT 1 FROM {source} WHERE {link} AND " + condition + ")"
        return f"{outer}.{key} IN (SELECT {inner}.{key} FROM {source} WHERE " + condition + ")"

    def _criterion(self, criterion: Criterion) -> Sql:
        attribute = BY_TAG[criterion.tag]
        computed = _COMPUTED_FROM.get(attribute.tag)
        if computed is None:
            return self._value(table_of(attribute), attribute, criterion.match)
        table, source = computed
        if isinstance(criterion.match, EmptyValue):
            return _slow(attribute, criterion.match, answer(attribute))
        condition = self._value(table, source, criterion.match)
        return self._exists("study_pk", "study", table, table, condition)

    def _value(self, table: str, attribute: Attribute, match: Match) -> Sql:
        """*match* holds for the value of *attribute* in the row of *table*."""
        column = answer(attribute) if attribute.computed else f'{table}."{attribute.column}"'
        fast = _fast(table, attribute, match)
        if fast is not None and attribute.vr == "UI":
            return fast
        slow = _slow(attribute, match, column)
        if fast is None:
            return slow
        if attribute.vr == "PN":
            key = compared(table, attribute)
            marked = f"{key} >= '{MULTIPLE_GROUPS_PREFIX}' AND {key} < '{AFTER_MULTIPLE_GROUPS}'"
            return "(" + fast + f" OR ({marked} AND " + slow + "))"
        regular, irregular = f"{table}.irregular = 0", f"{table}.irregular = 1"
        return f"(({regular} AND " + fast + f") OR ({irregular} AND " + slow + "))"

    def _combined(self, combined: CombinedRange) -> Sql:
        date, time = BY_TAG[combined.date_tag], BY_TAG[combined.time_tag]
        table = table_of(date)
        date_column = f'{table}."{date.column}"'
        time_column = f'{table_of(time)}."{time.column}"'
        bounds = _between(
            date_column,
            combined.low and combined.low[:_DATE_LENGTH],
            combined.high and combined.high[:_DATE_LENGTH],
        )
        exact = reference(partial(matching.matches_combined, combined), date_column, time_column)
        regular, irregular = f"{table}.irregular = 0", f"{table}.irregular = 1"
        return f"(({regular} AND " + bounds + f") OR {irregular}) AND " + exact


def _slow(attribute: Attribute, match: Match, column: str) -> Sql:
    return reference(partial(matching.matches_text, attribute.vr, match), column)


def _fast(table: str, attribute: Attribute, match: Match) -> Sql | None:
    """The same for a regular row, in SQL alone; None: only the reference matcher knows."""
    vr = attribute.vr
    if not has_fast_text(attribute):
        return None
    column = compared(table, attribute)
    match match:
        case EmptyValue():
            return Sql(f"{column} = ''")
        case SingleValue(value):
            if vr == "PN" and "=" in value:
                return None
            key = matching.normalize(vr, value)
            return bound(f"{column} = ?", key) if key else None
        case ValueList(values):
            keys = [key for value in values if (key := matching.normalize(vr, value))]
            if vr == "PN" and any("=" in key for key in keys):
                return None
            return bound(
                f"{column} IN {TEXTS}", json_list([replace_surrogates(key) for key in keys])
            )
        case WildCard(pattern):
            if vr not in matching.WILD_CARD_VRS or (vr == "PN" and "=" in pattern):
                return None
            return _glob(attribute, column, matching.normalize(vr, pattern))
        case Range():
            if vr not in matching.RANGE_VRS:
                return None
            return _between(column, *matching.range_bounds(vr, match))
        case SequenceMatch():
            return None
        case _:
            assert_never(match)


def _glob(attribute: Attribute, column: str, pattern: str) -> Sql | None:
    if pattern.count("*") > MAX_GLOB_STARS or "\0" in pattern:
        return None
    prefix = re.split(r"[*?]", pattern, maxsplit=1)[0]
    if prefix:
        bounds = bound(f"{column} >= ? AND {column} < ?", prefix, prefix + _LAST_CHARACTER)
    else:
        # No value matches nothing, not even `**`.
        bounds = Sql(f"{column} <> ''")
        if attribute.vr == "PN":
            bounds += f" AND {column} NOT GLOB '{MULTIPLE_GROUPS_PREFIX}*'"
    return "(" + bounds + " AND " + bound(f"{column} GLOB ?", pattern.replace("[", "[[]")) + ")"


def _between(column: str, low: str | None, high: str | None) -> Sql:
    # No value is in no range, and '' sorts before every date and time.
    terms = [bound(f"{column} >= ?", low) if low else Sql(f"{column} > ''")]
    if high is not None:
        terms.append(bound(f"{column} <= ?", high))
    return "(" + join(" AND ", terms) + ")"
