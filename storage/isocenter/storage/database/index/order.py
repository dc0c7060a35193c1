"""Order of pages: columns that places are made of, and their range."""

from __future__ import annotations

from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import Page
from isocenter.storage.database.dialect import index_hint, unique_index
from isocenter.storage.database.index.fragment import Sql, bound

#: Of a row of a page: what the order is made of, then the row number
#: (`isocenter.services.archive.ports.Index.find_page`).
PLACE: Final = {
    Level.PATIENT: ("patient.patient_id", "patient.issuer_of_patient_id", "patient.patient_pk"),
    Level.STUDY: (
        "study_statement.study_date",
        "study_statement.study_time",
        "study_statement.study_pk",
    ),
    # Whole numbers as they stand are in the order of their length, then in that of texts.
    Level.SERIES: (
        "study.study_instance_uid",
        "length(series_statement.series_number)",
        "series_statement.series_number",
        "series.series_instance_uid",
        "series.series_pk",
    ),
    Level.IMAGE: (
        "study.study_instance_uid",
        "series.series_instance_uid",
        "instance.instance_order",
        "instance.sop_instance_uid",
        "instance.instance_pk",
    ),
}
#: The index by which rows come in the order of pages, of which table.
BY_PLACE: Final = {
    Level.PATIENT: ("patient", "patient_by_id"),
    Level.STUDY: ("study_statement", "study_statement_in_order"),
    Level.SERIES: ("study", unique_index("study")),
    Level.IMAGE: ("study", unique_index("study")),
}
#: Statements of which each has a place, of the entities of a level; the first in order counts.
STATEMENT_WITH_PLACE: Final = {Level.STUDY: "study_statement", Level.SERIES: "series_statement"}


def is_latest_first(level: Level) -> bool:
    """Whether pages begin with the highest place."""
    return level is Level.STUDY


class Stretch:
    """A part of the order, and which way it is gone through.

    Args:
        after: behind this place.
        before: ahead of this place, backwards from there.
        edge: no further than there: a date of studies, or a Patient ID, of which all are within;
            a Study Instance UID of series and instances, of which none is.
    """

    __slots__ = ("_level", "_limits", "edge", "is_descending")

    def __init__(
        self,
        level: Level,
        after: Place | None = None,
        before: Place | None = None,
        edge: str | None = None,
    ) -> None:
        self._level = level
        self.edge = edge
        latest_first = is_latest_first(level)
        #: Whether the highest place comes first.
        self.is_descending = latest_first is (before is None)
        #: Which side of which place: higher or lower.
        self._limits = [
            (">" if is_higher else "<", place)
            for place, is_higher in ((after, not latest_first), (before, latest_first))
            if place is not None
        ]

    @classmethod
    def of(cls, level: Level, page: Page, edge: str | None = None) -> Stretch:
        """That in which a page of matches of a level is."""
        return cls(level, page.after, page.before, edge)

    @property
    def is_part(self) -> bool:
        """Whether there are places ahead of it."""
        return bool(self._limits)

    @property
    def direction(self) -> str:
        """After each column of an ORDER BY."""
        return " DESC" if self.is_descending else ""

    def terms(self) -> list[Sql]:
        """What places of it satisfy."""
        columns = PLACE[self._level]
        marks = ", ".join("?" for _ in columns)
        found = []
        for side, place in self._limits:
            if self._level in (Level.SERIES, Level.IMAGE):
                # A term by itself, for the index of studies.
                found.append(bound(f"{columns[0]} {side}= ?", place[0]))
            found.append(bound(f"({', '.join(columns)}) {side} ({marks})", *place))
        if self.edge is not None:
            beyond = ">" if self.is_descending else "<"
            within = f"{beyond}=" if self._level in (Level.PATIENT, Level.STUDY) else beyond
            found.append(bound(f"{PLACE[self._level][0]} {within} ?", self.edge))
        return found

    def keys_in_order(self) -> Sql:
        """The first values of places in their order: Patient IDs, or, of series and instances, the
        Study Instance UIDs that there are."""
        table, index = BY_PLACE[self._level]
        column = PLACE[self._level][0]
        found = Sql(f"SELECT {column} FROM {table} {index_hint(index)}")  # noqa: S608  (constants)
        for number, (side, place) in enumerate(self._limits):
            found += " AND " if number else " WHERE "
            found += bound(f"{column} {side}= ?", place[0])
        return found + f" ORDER BY {column}{self.direction}"
