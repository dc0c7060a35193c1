"""Counts of the index, carried through a transaction, written at its end."""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from time import time
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.database import Connection, Values
from isocenter.storage.database.index.series_metadata import (
    CHANGED,
    change_series,
    changed_values,
)
from isocenter.storage.database.index.totals import totals_change


@dataclass(frozen=True, slots=True)
class Place:
    """The rows that an instance belongs to."""

    series_pk: int
    study_pk: int
    patient_pk: int
    series_statement_pk: int
    study_statement_pk: int


@dataclass(slots=True)
class _Saying:
    """How many objects more make a statement, and when those that came said it."""

    number: int = 0
    first: int | None = None
    last: int | None = None

    def said(self, when: int) -> None:
        self.number += 1
        if self.first is None or when < self.first:
            self.first = when
        if self.last is None or when > self.last:
            self.last = when

    def values(self, pk: int) -> Values:
        """Of `_update_statement`."""
        return self.number, self.first, self.first, self.last, self.last, pk


def _sayings(found: Mapping[int, _Saying]) -> list[Values]:
    return [saying.values(pk) for pk, saying in found.items()]


def _update_statement(table: str) -> str:
    """To which ``RETURNING`` may be added."""
    return (
        f"UPDATE {table} SET num_instances = num_instances + ?, "
        "first_said = CASE WHEN first_said > ? THEN ? ELSE first_said END, "
        "last_said = CASE WHEN last_said < ? THEN ? ELSE last_said END "
        f"WHERE {table}_pk = ?"
    )


_UPDATE_STUDY_STATEMENT: Final = _update_statement("study_statement")
_UPDATE_SERIES_STATEMENT: Final = _update_statement("series_statement")
_UPDATE_SERIES: Final = "UPDATE series SET num_instances = num_instances + ? WHERE series_pk = ?"
_UPDATE_STUDY: Final = (
    "UPDATE study SET num_series = num_series + ?, num_instances = num_instances + ? "
    "WHERE study_pk = ?"
)
_ADD_SOP_CLASS: Final = (
    "INSERT INTO study_sop_class (study_pk, sop_class_uid, num_instances) "
    "VALUES (?, ?, ?) ON CONFLICT (study_pk, sop_class_uid) DO UPDATE SET "
    "num_instances = study_sop_class.num_instances + excluded.num_instances"
)


@dataclass(slots=True)
class _Parts:
    """How many parts of a study came, less those that went."""

    series: int = 0
    instances: int = 0


@dataclass(slots=True)
class Differences:
    """What a transaction changes in counts; written by `write`."""

    #: How many patients, studies and series came.
    patients: int = 0
    studies: int = 0
    series: int = 0
    _of_series: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _of_studies: dict[int, _Parts] = field(default_factory=lambda: defaultdict(_Parts))
    _sop_classes: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    _series_statements: dict[int, _Saying] = field(default_factory=lambda: defaultdict(_Saying))
    _study_statements: dict[int, _Saying] = field(default_factory=lambda: defaultdict(_Saying))
    _size: int = 0
    _has_removed: bool = False

    def new_series(self, study_pk: int) -> None:
        """A series more."""
        self.series += 1
        self._of_studies[study_pk].series += 1

    def added(self, place: Place, sop_class_uid: str, size: int, said: int) -> None:
        """One instance more, which says what it says at *said*."""
        self._count(1, place, sop_class_uid, size)
        self._series_statements[place.series_statement_pk].said(said)
        self._study_statements[place.study_statement_pk].said(said)

    def removed(self, place: Place, sop_class_uid: str, size: int) -> None:
        """One instance less."""
        self._has_removed = True
        self._count(-1, place, sop_class_uid, size)
        self._series_statements[place.series_statement_pk].number -= 1
        self._study_statements[place.study_statement_pk].number -= 1

    def _count(self, sign: int, place: Place, sop_class_uid: str, size: int) -> None:
        self._of_series[place.series_pk] += sign
        self._of_studies[place.study_pk].instances += sign
        self._sop_classes[place.study_pk, sop_class_uid] += sign
        self._size += sign * size

    def write(
        self,
        connection: Connection,
        last_said: int | None = None,
        before: Sequence[tuple[str, Iterable[Values]]] = (),
    ) -> None:
        """Write counts, remove what is empty.

        Args:
            last_said: when the last record was added; None: none was.
            before: statements that come before all of it (`Connection.execute_all`).
        """
        if not self._has_removed:
            instances = sum(self._of_series.values())
            totals = (
                self.patients, self.studies, self.series, instances, self._size, last_said
            )  # fmt: skip
            connection.execute_all([*before, *self._additions(), totals_change(connection, totals)])
            return
        connection.execute_all(before)
        self._write_sop_classes(connection)
        for pk, saying in self._series_statements.items():
            _write_statement(connection, "series_statement", _UPDATE_SERIES_STATEMENT, pk, saying)
        instances = self._write_series(connection)
        emptied = [
            patient_statement_pk
            for pk, saying in self._study_statements.items()
            if (
                patient_statement_pk := _write_statement(
                    connection, "study_statement", _UPDATE_STUDY_STATEMENT, pk, saying
                )
            )
        ]
        self._write_studies(connection)
        for patient_statement_pk in emptied:
            self._drop_patient(connection, patient_statement_pk)
        totals = (self.patients, self.studies, self.series, instances, self._size, last_said)
        connection.execute_all([totals_change(connection, totals)])

    def _additions(self) -> Sequence[tuple[str, Iterable[Values]]]:
        """What writes counts of which none can become zero."""
        now = time()
        return (
            (_ADD_SOP_CLASS, [(*key, number) for key, number in self._sop_classes.items()]),
            (_UPDATE_SERIES_STATEMENT, _sayings(self._series_statements)),
            (_UPDATE_SERIES, [(number, pk) for pk, number in self._of_series.items()]),
            (CHANGED, [changed_values(pk, now) for pk in self._of_series]),
            (_UPDATE_STUDY_STATEMENT, _sayings(self._study_statements)),
            (
                _UPDATE_STUDY,
                [(parts.series, parts.instances, pk) for pk, parts in self._of_studies.items()],
            ),
        )

    def _write_sop_classes(self, connection: Connection) -> None:
        execute = connection.execute
        for (study_pk, uid), number in self._sop_classes.items():
            if number > 0:
                execute(_ADD_SOP_CLASS, (study_pk, uid, number))
            elif number < 0:
                (left,) = execute(
                    "UPDATE study_sop_class SET num_instances = num_instances + ? "
                    "WHERE study_pk = ? AND sop_class_uid = ? RETURNING num_instances",
                    (number, study_pk, uid),
                ).fetchone()
                if not left:
                    execute(
                        "DELETE FROM study_sop_class WHERE study_pk = ? AND sop_class_uid = ?",
                        (study_pk, uid),
                    )

    def _write_series(self, connection: Connection) -> int:
        """How many instances came, less those that went."""
        instances = 0
        now = time()
        for series_pk, number in self._of_series.items():
            left, study_pk = connection.execute(
                f"{_UPDATE_SERIES} RETURNING num_instances, study_pk", (number, series_pk)
            ).fetchone()
            instances += number
            if not left:
                connection.execute("DELETE FROM series WHERE series_pk = ?", (series_pk,))
                self._of_studies[study_pk].series -= 1
                self.series -= 1
            else:
                change_series(connection, series_pk, now)
        return instances

    def _write_studies(self, connection: Connection) -> None:
        for study_pk, parts in self._of_studies.items():
            (left,) = connection.execute(
                f"{_UPDATE_STUDY} RETURNING num_instances",
                (parts.series, parts.instances, study_pk),
            ).fetchone()
            if not left:
                connection.execute("DELETE FROM study WHERE study_pk = ?", (study_pk,))
                self.studies -= 1

    def _drop_patient(self, connection: Connection, patient_statement_pk: int) -> None:
        """Unless some study says it still."""
        row = connection.execute(
            "DELETE FROM patient_statement WHERE patient_statement_pk = ? AND NOT EXISTS "
            "(SELECT 1 FROM study_statement "
            "WHERE study_statement.patient_statement_pk = patient_statement.patient_statement_pk) "
            "RETURNING patient_pk",
            (patient_statement_pk,),
        ).fetchone()
        if row is not None:
            self.patients -= connection.execute(
                "DELETE FROM patient WHERE patient_pk = ? AND NOT EXISTS (SELECT 1 FROM "
                "patient_statement WHERE patient_statement.patient_pk = patient.patient_pk)",
                row,
            ).rowcount


def _write_statement(
    connection: Connection, table: str, update: str, pk: int, saying: _Saying
) -> int | None:
    """The patient statement that a study's statement which has gone referred to."""
    (left,) = connection.execute(f"{update} RETURNING num_instances", saying.values(pk)).fetchone()
    if left:
        return None
    is_of_study = table == "study_statement"
    row = connection.execute(
        f"DELETE FROM {table} WHERE {table}_pk = ? RETURNING "
        + ("patient_statement_pk" if is_of_study else "0"),
        (pk,),
    ).fetchone()
    return int(row[0]) if is_of_study else None
