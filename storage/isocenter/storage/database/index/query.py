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
ideographic group is no rarity, and must not make its patient's ID slow; without accents, or by
sound, they are found by their words (`isocenter.storage.database.index.name_words`).  UIDs were
validated before they came here and have only the first half.  Values are bound, never part of the
text.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import Final

from isocenter.services.archive.index import matching
from isocenter.services.archive.index.attributes import BY_TAG, Attribute, Level
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    NameMatch,
    Query,
    Range,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.storage.database.database import Candidates, Question
from isocenter.storage.database.dialect import NUMBERS, index_hint, json_list
from isocenter.storage.database.index.columns import (
    AFTER_MULTIPLE_GROUPS,
    MULTIPLE_GROUPS_PREFIX,
    STORED_IN,
    TABLE,
)
from isocenter.storage.database.index.comparison import between, compared, fast, slow
from isocenter.storage.database.index.fragment import Sql, join, reference
from isocenter.storage.database.index.joins import (
    COMPUTED_FROM,
    STATEMENTS,
    answer,
    from_clause,
    groups_of,
    table_of,
    tables_of,
)
from isocenter.storage.database.index.name_words import PATIENT_NAME, candidates
from isocenter.storage.database.index.order import BY_PLACE, PLACE, Stretch

#: A page has fewer, and to find each may take long.
_PLACES_AT_ONCE: Final = 100
#: The first answers are made of fewer; all there are may be millions.
_KEYS_AT_ONCE: Final = 1_000

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

_STUDY_DATE: Final = 0x00080020

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
        case NameMatch() as names:
            return criterion.tag == PATIENT_NAME and candidates(names) is not None
        case _:
            return False


def compile_keys(query: Query) -> Question:
    """The row numbers of all matches of *query*, each once; of all there is, ordered by
    unique key."""
    compiler = _Compiler(query)
    return compiler.keys().question(0 if compiler.is_narrow else _KEYS_AT_ONCE)


def compile_places(query: Query, stretch: Stretch) -> Question:
    """Places and row numbers of all matches of *query* in a stretch of the order, in no order; an
    entity may come again.

    They are found by what is asked for: what takes time is how many there are.
    """
    return _Compiler(query, _Way.EACH, stretch).places().question(_PLACES_AT_ONCE)


def compile_places_in_order(query: Query, stretch: Stretch) -> Question:
    """The same in the order of pages, or backwards.

    Rows are looked at in that order: what takes time is how many do not match before the last one
    that is wanted.
    """
    if query.level is Level.STUDY and any(map(_is_of_order, _asked(query))):
        # Apart, the regular rows are a range of the order; there are few others.
        parts = [_Compiler(query, _Way.ORDER, stretch, only=only).places() for only in (0, 1)]
        found = join(" UNION ALL ", parts)
    else:
        found = _Compiler(query, _Way.ORDER, stretch).places()
    columns = range(1, len(PLACE[query.level]) + 1)
    in_order = found + " ORDER BY " + ", ".join(f"{n}{stretch.direction}" for n in columns)
    return in_order.question(_PLACES_AT_ONCE)


def compile_places_of(query: Query, keys: Sequence[int]) -> Question:
    """Places and row numbers of matches of *query* among entities with these row numbers; one may
    come again."""
    return _Compiler(query, _Way.ORDER, Stretch(query.level), keys=keys).places().question()


def compile_edge(query: Query, number: int, stretch: Stretch) -> Question:
    """How far so many studies, or patients, of a stretch reach: a date; a Patient ID; a UID where
    series or instances are asked for.  Of studies, those that *query* does not leave out by their
    date."""
    if query.level is not Level.STUDY:
        question = stretch.keys_in_order().question()
    else:
        by_date = Query(
            level=query.level,
            criteria=tuple(filter(_is_of_order, query.criteria)),
            combined=tuple(filter(_is_of_order, query.combined)),
        )
        question = compile_places_in_order(by_date, stretch)
    return replace(question, text=f"{question.text} LIMIT 1 OFFSET {number}", rows_at_once=0)


def is_found_in_order(query: Query) -> bool:
    """Whether nothing but a range of the order of pages is asked for, which may be all of it."""
    return all(map(_is_of_order, _asked(query))) and (
        query.level is Level.STUDY or not (query.criteria or query.combined)
    )


def _asked(query: Query) -> tuple[Criterion | CombinedRange, ...]:
    return (*query.criteria, *query.combined)


def is_of_few(query: Query) -> bool:
    """Whether a value is asked for that few entities have."""
    return any(
        criterion.tag in _INDEXED
        and criterion.tag != _STUDY_DATE
        and isinstance(criterion.match, SingleValue | ValueList | NameMatch)
        for criterion in query.criteria
    )


def _is_of_order(criterion: Criterion | CombinedRange) -> bool:
    if isinstance(criterion, CombinedRange):
        return criterion.date_tag == _STUDY_DATE
    return criterion.tag == _STUDY_DATE and isinstance(criterion.match, SingleValue | Range)


def compile_instance_keys(query: Query) -> Question:
    """The row numbers of all instances below the matches, by study, series, instance number."""
    return _Compiler(query).instance_keys().question()


#: The same for every instance there is.
ALL_INSTANCE_KEYS: Final = Question(
    "SELECT instance.instance_pk FROM instance JOIN series USING (series_pk) "
    f"JOIN study USING (study_pk) ORDER BY {_INSTANCE_ORDER}",
    (),
)


class _Way(Enum):
    """How matches are come by."""

    #: All of them, each once.
    ALL = "all"
    #: Some of them, as they are found; the same one may be found again.
    EACH = "each"
    #: Rows are looked at in the order of pages.
    ORDER = "order"


class _Compiler:
    """Compiles one query.

    Args:
        stretch: places within it; None: it is not about places.
        only: of the statements of studies, the regular (0) or the irregular ones (1).
        keys: of entities with these row numbers only; None: of any.
    """

    def __init__(
        self,
        query: Query,
        way: _Way = _Way.ALL,
        stretch: Stretch | None = None,
        *,
        only: int | None = None,
        keys: Sequence[int] | None = None,
    ) -> None:
        self._query = query
        self._way = way
        self._stretch = stretch
        self._only = only
        self._keys = keys
        #: What subqueries are linked to.  A place has all that is needed of a study.
        self._base = (
            "study_statement"
            if way is not _Way.ALL and query.level is Level.STUDY
            else TABLE[query.level]
        )
        depth = query.level.depth
        self._here = [c for c in query.criteria if _level(c).depth <= depth]
        self._below = [c for c in query.criteria if _level(c).depth > depth]
        self._combined_here = [c for c in query.combined if _level(c).depth <= depth]
        self._combined_below = [c for c in query.combined if _level(c).depth > depth]
        #: Few rows are looked at, whatever the subqueries say.
        self.is_narrow = (
            way is _Way.ORDER or bool(self._combined_here) or any(map(_uses_index, self._here))
        )
        #: The table of a computed attribute that is joined, and not looked into for each row.
        self._joined = self._table_to_join() if way is _Way.EACH else None

    def keys(self) -> Sql:
        base = TABLE[self._query.level]
        order = _ORDER[self._query.level]
        source, where, distinct = self._matches()
        # The criteria choose the index, not the order: what is found first is answered first.
        ending = where if where.text else f" ORDER BY {order}"
        return Sql(f"SELECT {distinct}{base}.{base}_pk FROM {source}") + ending

    def places(self) -> Sql:
        level = self._query.level
        source, where, _ = self._matches()
        return Sql(f"SELECT {', '.join(PLACE[level])} FROM {source}") + where

    def _table_to_join(self) -> str | None:
        """Only where nothing else leads to few rows, and nothing else is asked of that table."""
        if self.is_narrow or self._below or self._combined_below:
            return None
        computed = [COMPUTED_FROM[c.tag] for c in self._here if c.tag in COMPUTED_FROM]
        has_value = not any(isinstance(c.match, EmptyValue) for c in self._here)
        return computed[0][0] if len(computed) == 1 and has_value else None

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
        found = Sql(
            f"SELECT instance.instance_pk FROM {from_clause({'instance', 'series', 'study'})}"
        )
        if where.text:
            found += f" WHERE {base}.{base}_pk IN (" + matches + ")"
        return found + f" ORDER BY {_INSTANCE_ORDER}"

    def _matches(self) -> tuple[str, Sql, str]:
        """FROM and WHERE of the query, and DISTINCT where one entity may come more than once."""
        base = TABLE[self._query.level]
        tables = {self._base}
        terms: list[Sql] = []
        for group in groups_of(self._query.level):
            criteria = [c for c in self._here if table_of(BY_TAG[c.tag]) in group]
            combined = [c for c in self._combined_here if tables_of((), (c,)) <= group]
            if not criteria and not combined:
                continue
            if STORED_IN[self._query.level] in group:
                if self._way is _Way.ORDER and "patient_statement" in group:
                    terms += self._in_order(criteria, combined)
                else:
                    tables |= tables_of(criteria, combined)
                    terms += self._all(criteria, combined)
            else:
                terms.append(self._above(group, criteria, combined))
                tables |= (
                    {base} if base != "instance" or "series_statement" in group else {"series"}
                )
        rest = [c for c in self._here if table_of(BY_TAG[c.tag]) not in STATEMENTS]
        tables |= tables_of(rest, ())
        terms += self._all(rest, ())
        for both in self._combined_here:
            # Of two groups, or of the base itself.
            if not any(tables_of((), (both,)) <= group for group in groups_of(self._query.level)):
                tables |= tables_of((), (both,))
                terms.append(self._combined(both))
        if self._below or self._combined_below:
            terms.append(self._relational())
        if self._way is not _Way.ALL:
            tables |= {
                column.split(".")[0]
                for column in PLACE[self._query.level][:-1]
                if "(" not in column
            }
            tables |= {self._joined} if self._joined else set()
            if self._only is not None:
                terms.append(Sql(f"study_statement.irregular = {self._only}"))
            if self._keys is not None:
                key = PLACE[self._query.level][-1]
                terms.append(Sql(f"{key} IN {NUMBERS}", (json_list(self._keys),)))
            if self._stretch is not None:
                terms += self._stretch.terms()
        where = " WHERE " + join(" AND ", terms) if terms else Sql("")
        # The plus is for SQLite: it would look at all entities in their order to find each once.
        return self._from(tables), where, "DISTINCT +" if tables & STATEMENTS else ""

    def _from(self, tables: set[str]) -> str:
        if self._way is not _Way.ORDER or self._keys is not None:
            return from_clause(tables)
        table, index = BY_PLACE[self._query.level]
        if self._only == 1:
            index = "study_statement_irregular"
        return from_clause(tables, {table: index_hint(index)})

    def _in_order(
        self, criteria: Sequence[Criterion], combined: Sequence[CombinedRange]
    ) -> list[Sql]:
        """Patients are looked up one by one: to join them, SQLite would first look at them all."""
        of_patient = [c for c in criteria if table_of(BY_TAG[c.tag]) == "patient_statement"]
        both_of = [c for c in combined if "patient_statement" in tables_of((), (c,))]
        terms = self._all(
            [c for c in criteria if c not in of_patient], [c for c in combined if c not in both_of]
        )
        if of_patient or both_of:
            condition = join(" AND ", self._all(of_patient, both_of))
            key, outer = (
                ("patient_pk", "patient")
                if self._query.level is Level.PATIENT
                else ("patient_statement_pk", "study_statement")
            )
            terms.append(
                "EXISTS (SELECT 1 FROM patient_statement WHERE "
                f"patient_statement.{key} = {outer}.{key} AND " + condition + ")"
            )
        return terms

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
        source = from_clause(tables_of(criteria, combined) | {inner})
        others = [c for c in self._here if c not in criteria]
        is_few_rows = any(map(_uses_index, others)) and not any(map(_uses_index, criteria))
        if is_few_rows or self._way is _Way.ORDER:
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
        tables = tables_of(self._below, self._combined_below)
        if level is Level.PATIENT:
            inner = "patient_statement"
        elif level is Level.STUDY:
            inner = "series_statement" if "series_statement" in tables else "series"
        else:
            inner = "instance"
        return self._exists(
            f"{TABLE[level]}_pk",
            self._base,
            inner,
            from_clause(tables | {inner}),
            join(" AND ", terms),
        )

    def _exists(self, key: str, outer: str, inner: str, source: str, condition: Sql) -> Sql:
        """A row of *source* belongs to the row of *outer* and satisfies *condition*.

        Where an index leads to few rows of *outer*, each is looked at; otherwise the
        inner rows are found first, once.
        """
        if self.is_narrow:
            link = f"{inner}.{key} = {outer}.{key}"
            return f"EXISTS (SELECT 1 FROM {source} WHERE {link} AND " + condition + ")"
        return f"{outer}.{key} IN (SELECT {inner}.{key} FROM {source} WHERE " + condition + ")"

    def _criterion(self, criterion: Criterion) -> Sql:
        attribute = BY_TAG[criterion.tag]
        computed = COMPUTED_FROM.get(attribute.tag)
        if computed is None:
            return self._value(table_of(attribute), attribute, criterion.match)
        table, source = computed
        if isinstance(criterion.match, EmptyValue):
            return slow(attribute, criterion.match, answer(attribute), "study")
        condition = self._value(table, source, criterion.match)
        if table == self._joined:
            return condition
        outer = self._base if self._query.level is Level.STUDY else "study"
        return self._exists("study_pk", outer, table, table, condition)

    def _value(self, table: str, attribute: Attribute, match: Match) -> Sql:
        """*match* holds for the value of *attribute* in the row of *table*."""
        column = answer(attribute) if attribute.computed else f'{table}."{attribute.column}"'
        if isinstance(match, NameMatch):
            return self._name(table, attribute, match, column)
        quick = fast(table, attribute, match)
        if quick is not None and attribute.vr == "UI":
            return quick
        if quick is None:
            return slow(attribute, match, column, table)
        if attribute.vr == "PN":
            key = compared(table, attribute)
            marked = f"{key} >= '{MULTIPLE_GROUPS_PREFIX}' AND {key} < '{AFTER_MULTIPLE_GROUPS}'"
            exact = slow(attribute, match, column, table, marked)
            return "(" + quick + f" OR ({marked} AND " + exact + "))"
        regular, irregular = f"{table}.irregular = 0", f"{table}.irregular = 1"
        exact = slow(attribute, match, column, table, irregular)
        if self._only is not None and table == "study_statement":
            return exact if self._only else quick
        return f"(({regular} AND " + quick + f") OR ({irregular} AND " + exact + "))"

    def _name(self, table: str, attribute: Attribute, match: NameMatch, column: str) -> Sql:
        """Of names that may fit, which the words of a patient's lead to, the matcher decides."""
        among = candidates(match) if attribute.tag == PATIENT_NAME else None
        if among is None:
            return slow(attribute, match, column, table)
        exact = reference(
            partial(matching.matches_text, attribute.vr, match),
            Candidates((column,), table, among.text, among.parameters),
        )
        return "(" + among + " AND " + exact + ")"

    def _combined(self, combined: CombinedRange) -> Sql:
        date, time = BY_TAG[combined.date_tag], BY_TAG[combined.time_tag]
        table = table_of(date)
        date_column = f'{table}."{date.column}"'
        time_column = f'{table_of(time)}."{time.column}"'
        bounds = between(date_column, *matching.combined_days(combined))
        regular, irregular = f"{table}.irregular = 0", f"{table}.irregular = 1"
        among = f"(({regular} AND " + bounds + f") OR {irregular})"
        exact = reference(
            partial(matching.matches_combined, combined),
            Candidates(
                (date_column, time_column),
                from_clause({table, table_of(time)}),
                among.text,
                among.parameters,
            ),
        )
        if self._only is not None and table == "study_statement":
            return exact if self._only else bounds + " AND " + exact
        return among + " AND " + exact
