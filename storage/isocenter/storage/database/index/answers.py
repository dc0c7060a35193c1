"""Answers to a query, also where objects say different things.

Nearly every patient, study and series has one statement: then an answer is one row.  Where
there are more, all of them are read and `isocenter.services.archive.index.shown_values` takes its
choice.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.services.archive.index.attributes import BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.query import CombinedRange, Criterion, Query
from isocenter.services.archive.index.shown_values import Said, Statements
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import IN_ORDER, LOOKED_UP
from isocenter.storage.database.index.columns import TABLE
from isocenter.storage.database.index.joins import answer

_LEVELS: Final = tuple(Level)


def _any_statement(statement: str, parent: str, key: str) -> str:
    """JOIN: a statement of the row that is at hand, and only one."""
    return (
        f"JOIN {statement} ON {statement}.{statement}_pk = (SELECT max(other.{statement}_pk) "
        f"FROM {statement} AS other WHERE other.{key} = {parent}.{key})"
    )


_PATIENT_OF_STUDY: Final = (
    "JOIN patient_statement "
    "ON patient_statement.patient_statement_pk = study_statement.patient_statement_pk"
)
_STUDY_OF_SERIES: Final = "JOIN study ON study.study_pk = series.study_pk"
_STUDY_UP: Final = f"{_any_statement('study_statement', 'study', 'study_pk')} {_PATIENT_OF_STUDY}"
#: From the rows of a level to one statement of each level above; of an instance, its own.
_JOINS: Final = {
    Level.PATIENT: _any_statement("patient_statement", "patient", "patient_pk"),
    Level.STUDY: _STUDY_UP,
    Level.SERIES: (
        f"{_STUDY_OF_SERIES} {_any_statement('series_statement', 'series', 'series_pk')} "
        f"{_STUDY_UP}"
    ),
    Level.IMAGE: (
        f"JOIN series ON series.series_pk = instance.series_pk {_STUDY_OF_SERIES} "
        "JOIN series_statement "
        "ON series_statement.series_statement_pk = instance.series_statement_pk "
        "JOIN study_statement "
        f"ON study_statement.study_statement_pk = instance.study_statement_pk {_PATIENT_OF_STUDY}"
    ),
}


def _others(statement: str, parent: str, key: str) -> str:
    """SQL: are there statements beside the one that is joined?"""
    return (
        f"EXISTS (SELECT 1 FROM {statement} AS other WHERE other.{key} = {parent}.{key} "
        f"AND other.{statement}_pk <> {statement}.{statement}_pk)"
    )


#: Entities whose statements are kept from one block of answers to the next.
_KEPT: Final = 8


class _Group:
    """What one statement says: of a patient; of patient and study; of a series."""

    def __init__(
        self,
        query: Query,
        tags: Sequence[int],
        levels: frozenset[Level],
        statement: str,
        source: str,
        parent: str,
        order: str,
    ) -> None:
        def is_here(tag: int) -> bool:
            # What is counted of a study or series does not depend on who says what.
            attribute = BY_TAG[tag]
            return attribute.level in levels and (
                not attribute.computed or attribute.level is Level.PATIENT
            )

        self._tags: Sequence[int] = [tag for tag in tags if is_here(tag)]
        self._criteria: Sequence[Criterion] = [c for c in query.criteria if is_here(c.tag)]
        self._combined: Sequence[CombinedRange] = [
            c for c in query.combined if is_here(c.date_tag) and is_here(c.time_tag)
        ]
        asked = [c.tag for c in self._criteria]
        for both in self._combined:
            asked += [both.date_tag, both.time_tag]
        wanted = tuple(dict.fromkeys([*self._tags, *asked]))
        self._said_tags = tuple(tag for tag in wanted if not BY_TAG[tag].computed)
        self._counted_tags = tuple(tag for tag in wanted if BY_TAG[tag].computed)
        key = f"{parent}_pk"
        #: In the rows of answers: whose statements these are, which is joined, are there others.
        self.columns = (
            f"{parent}.{key}",
            f"{statement}.{statement}_pk",
            _others(statement, parent, key),
        )
        whose = "patient_statement.patient_pk" if Level.PATIENT in levels else "0"
        values = [answer(BY_TAG[tag]) for tag in self._said_tags]
        self._select = (
            f"SELECT {', '.join([f'{statement}.{statement}_pk', whose, *values])} FROM {source} "
            f"WHERE {statement}.{key} = ? ORDER BY {order}, 1"
        )
        counts = ", ".join(answer(BY_TAG[tag]) for tag in self._counted_tags)
        self._select_counts = f"SELECT {counts} FROM patient_statement WHERE patient_pk = ? LIMIT 1"
        self._known: dict[int, Statements] = {}

    def choose(self, connection: Connection, parent_pk: int, own: int | None) -> dict[int, str]:
        """The values of the tags; *own*: the statement that counts if it satisfies."""
        statements = self._known.get(parent_pk)
        if statements is None or (own is not None and own not in statements):
            said = self._read(connection, parent_pk)
            if not said:
                return {}
            statements = Statements(said, self._tags, self._criteria, self._combined)
            if len(self._known) >= _KEPT:
                del self._known[next(iter(self._known))]
            self._known[parent_pk] = statements
        return statements.shown(own)

    def _read(self, connection: Connection, parent_pk: int) -> list[Said]:
        counts: dict[int, dict[int, str]] = {}
        said = []
        for number, whose, *values in connection.execute(self._select, (parent_pk,)).fetchall():
            if whose not in counts:
                counts[whose] = self._counts(connection, whose)
            texts = dict(zip(self._said_tags, values, strict=True)) | counts[whose]
            said.append(Said(number, whose, texts))
        return said

    def _counts(self, connection: Connection, patient_pk: int) -> dict[int, str]:
        if not self._counted_tags:
            return {}
        row = connection.execute(self._select_counts, (patient_pk,)).fetchone()
        return dict(zip(self._counted_tags, row, strict=True))


class Answers:
    """How the answers to *query* are fetched: tags, and a SELECT with a column for each.

    Attributes:
        select: its one parameter is a JSON list of row numbers; rows come in that order.
    """

    def __init__(self, query: Query) -> None:
        level = query.level
        wanted = [UNIQUE_KEY[each] for each in _LEVELS[: level.depth + 1]]
        wanted += [tag for tag in query.return_tags if BY_TAG[tag].level.depth <= level.depth]
        self._query = query
        self.tags: Final = tuple(dict.fromkeys(wanted))
        base = TABLE[level]
        columns = [answer(BY_TAG[tag]) for tag in self.tags]
        self._groups: Final = self._make_groups()
        columns += [column for group in self._groups for column in group.columns]
        self.select: Final = (
            f"SELECT {', '.join(columns)} FROM {IN_ORDER} "
            f"{LOOKED_UP} {base} ON {base}.{base}_pk = wanted.value {_JOINS[level]} "
            "ORDER BY wanted.key"
        )

    def _make_groups(self) -> list[_Group]:
        level = self._query.level
        said = "first_said" if self._query.shows_first else "last_said DESC"
        if level is Level.PATIENT:
            when = "min(first_said)" if self._query.shows_first else "-max(last_said)"
            order = (
                f"(SELECT {when} FROM study_statement WHERE study_statement.patient_statement_pk "
                "= patient_statement.patient_statement_pk)"
            )
            return [
                _Group(
                    self._query,
                    self.tags,
                    frozenset({Level.PATIENT}),
                    "patient_statement",
                    "patient_statement",
                    "patient",
                    order,
                )
            ]
        groups = [
            _Group(
                self._query,
                self.tags,
                frozenset({Level.PATIENT, Level.STUDY}),
                "study_statement",
                f"study_statement JOIN study ON study.study_pk = study_statement.study_pk "
                f"{_PATIENT_OF_STUDY}",
                "study",
                f"study_statement.{said}",
            )
        ]
        if level is not Level.STUDY:
            groups.append(
                _Group(
                    self._query,
                    self.tags,
                    frozenset({Level.SERIES}),
                    "series_statement",
                    "series_statement JOIN series ON series.series_pk = series_statement.series_pk",
                    "series",
                    f"series_statement.{said}",
                )
            )
        return groups

    def fetch(self, connection: Connection, keys: str) -> Sequence[Mapping[int, str]]:
        """The answers of the rows that *keys* names."""
        is_image = self._query.level is Level.IMAGE
        width = len(self.tags)
        answers = []
        for row in connection.execute(self.select, (keys,)).fetchall():
            found = dict(zip(self.tags, row, strict=False))
            position = width
            for group in self._groups:
                parent_pk, own, has_others = row[position : position + 3]
                position += 3
                if has_others:
                    found |= group.choose(connection, parent_pk, own if is_image else None)
            answers.append(found)
        return answers
