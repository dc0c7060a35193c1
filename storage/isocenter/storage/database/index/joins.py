"""Joins of the index's tables, and the values of attributes in them."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.archive.index.attributes import BY_TAG, Attribute, Level
from isocenter.services.archive.index.query import CombinedRange, Criterion
from isocenter.storage.database.dialect import joined
from isocenter.storage.database.index.columns import ENTITY_TAGS, STORED_IN, TABLE

#: Attributes of the study that its parts tell: where, and as which attribute.
COMPUTED_FROM: Final = {
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
STATEMENTS: Final = frozenset(STORED_IN.values()) - {"instance"}
_NO_HINTS: Final[Mapping[str, str]] = {}


def from_clause(tables: set[str], hints: Mapping[str, str] = _NO_HINTS) -> str:
    """FROM: all *tables*, and what it takes to join them."""
    tables = set(tables)
    if "patient_statement" in tables and tables - {"patient", "patient_statement"}:
        tables.add("study_statement")
    if "instance" in tables and tables & {"study", "study_statement"}:
        tables.add("series")
    found = ""
    for table, links in _JOINS.items():
        if table not in tables:
            continue
        named = f"{table} {hints[table]}" if table in hints else table
        if not found:
            found = named
            continue
        other = next(other for other in links if other in tables)
        found += f" JOIN {named} ON {table}.{links[other]} = {other}.{links[other]}"
    return found


def answer(attribute: Attribute) -> str:
    """SQL for the value of *attribute* in an answer."""
    computed = COMPUTED_FROM.get(attribute.tag)
    if computed is not None:
        table, told_by = computed
        values = (
            f"SELECT DISTINCT {told_by.column} FROM {table} "
            f"WHERE {table}.study_pk = study.study_pk "
            f"AND {told_by.column} <> '' ORDER BY {told_by.column}"
        )
        return f"coalesce((SELECT {joined(told_by.column)} FROM ({values}) AS told), '')"
    count = _COUNTS_OF_PATIENT.get(attribute.tag)
    column = count or f'{table_of(attribute)}."{attribute.column}"'
    return f"CAST({column} AS TEXT)" if attribute.computed else column


def tables_of(criteria: Sequence[Criterion], combined: Sequence[CombinedRange]) -> set[str]:
    """The tables in which what is asked for is looked up."""
    tags = {criterion.tag for criterion in criteria}
    for both in combined:
        tags |= {both.date_tag, both.time_tag}
    return {table_of(BY_TAG[tag]) for tag in tags}


def groups_of(level: Level) -> tuple[frozenset[str], ...]:
    """Tables of which one statement has to say all that is asked of them."""
    if level is Level.PATIENT:
        return (frozenset({"patient_statement"}),)
    return frozenset({"patient_statement", "study_statement"}), frozenset({"series_statement"})
