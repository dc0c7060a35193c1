"""Catalogue of studies, series and instances, as pages list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import Criterion, Page, ValueList
from isocenter.services.archive.ports import Index
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.dicomweb.search.request import parse_search

#: Of a study or series no more is shown on one page.
MOST_ROWS = 2_000
_OF_PATIENT: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "NumberOfPatientRelatedStudies",
)  # fmt: skip


class Row:
    """A match, its values by keyword; empty: it has none."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[int, str]) -> None:
        self._values = values

    def __getitem__(self, keyword: str) -> str:
        return self._values.get(BY_KEYWORD[keyword].tag, "")

    def number(self, keyword: str) -> int:
        """A count; 0: it has none."""
        text = self[keyword].strip()
        return int(text) if text.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A part of a list, and where in it each row stands."""

    rows: Sequence[Row]
    places: Sequence[Place]


class Catalogue:
    """Asks the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def studies(self, parameters: Sequence[tuple[str, str]], page: Page) -> Listed:
        """Studies, the newest first.

        Args:
            parameters: as of a search (PS3.18 8.3.4).

        Raises:
            HttpError: a value of them is broken (400).
        """
        return await self._find(Level.STUDY, {}, parameters, page)

    async def patients(self, parameters: Sequence[tuple[str, str]], page: Page) -> Listed:
        """Patients, by ID and issuer.

        Raises:
            HttpError: a value of them is broken (400).
        """
        # DICOMweb does not know this level, and says of no attribute that it is always there.
        fields = ("includefield", ",".join(_OF_PATIENT))
        return await self._find(Level.PATIENT, {}, [*parameters, fields], page)

    async def studies_named(self, uids: Sequence[str]) -> Mapping[str, Row]:
        """Those of the studies that are here, by their UIDs, whatever these look like: the archive
        has some that a search takes for none."""
        if not uids:
            return {}
        named = Criterion(BY_KEYWORD["StudyInstanceUID"].tag, ValueList(tuple(uids)))
        query = parse_search(Level.STUDY, {}, []).query
        found = await self._index.find_page(
            replace(query, criteria=(*query.criteria, named)), Page(limit=len(uids))
        )
        rows = map(Row, found.matches)
        return {row["StudyInstanceUID"]: row for row in rows}

    async def study(self, uid: str, *, is_whole: bool = False) -> Row:
        """One study.

        Args:
            is_whole: with all that the index keeps of it.

        Raises:
            HttpError: it is not there (404).
        """
        fields = [("includefield", "all")] if is_whole else []
        found = await self._find(Level.STUDY, {Level.STUDY: uid}, fields, Page(limit=1))
        if not found.rows:
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        return found.rows[0]

    async def series(self, study: str) -> Sequence[Row]:
        """All series of a study, in order of their numbers."""
        fields = [("includefield", "BodyPartExamined,ProtocolName,StationName,InstitutionName")]
        page = Page(limit=MOST_ROWS)
        return (await self._find(Level.SERIES, {Level.STUDY: study}, fields, page)).rows

    async def one_series(self, study: str, uid: str) -> Row:
        """One series.

        Raises:
            HttpError: it is not there (404).
        """
        parents = {Level.STUDY: study, Level.SERIES: uid}
        found = await self._find(Level.SERIES, parents, [], Page(limit=1))
        if not found.rows:
            raise HttpError(404, "NOT_FOUND", "the archive has no such series")
        return found.rows[0]

    async def instances(self, study: str, series: str) -> Sequence[Row]:
        """The instances of a series, in order of their numbers."""
        parents = {Level.STUDY: study, Level.SERIES: series}
        return (await self._find(Level.IMAGE, parents, [], Page(limit=MOST_ROWS))).rows

    async def _find(
        self,
        level: Level,
        parents: Mapping[Level, str],
        parameters: Sequence[tuple[str, str]],
        page: Page,
    ) -> Listed:
        search = parse_search(level, parents, parameters)
        found = await self._index.find_page(search.query, page)
        return Listed(rows=[Row(one) for one in found.matches], places=found.places)
