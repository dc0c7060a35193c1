"""Catalogue of studies, series and instances, as pages list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isocenter.services.archive.index.attributes import BY_KEYWORD, Level
from isocenter.services.archive.index.query import Page
from isocenter.services.archive.ports import Index
from isocenter.services.archive.selection import matches_of
from isocenter.services.net.http.messages import HttpError
from isocenter.services.web.dicomweb.search.request import parse_search

#: Of a study or series no more is shown on one page.
MOST_ROWS = 2_000


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


class Catalogue:
    """Asks the index."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def studies(
        self, parameters: Sequence[tuple[str, str]], *, limit: int, offset: int = 0
    ) -> list[Row]:
        """Studies, the newest first.

        Args:
            parameters: as of a search (PS3.18 8.3.4).

        Raises:
            HttpError: a value of them is broken (400).
        """
        return await self._find(Level.STUDY, {}, parameters, limit, offset)

    async def patients(
        self, parameters: Sequence[tuple[str, str]], *, limit: int, offset: int = 0
    ) -> list[Row]:
        """Patients, by ID and issuer.

        Raises:
            HttpError: a value of them is broken (400).
        """
        fields = ("includefield", "IssuerOfPatientID,NumberOfPatientRelatedStudies")
        return await self._find(Level.PATIENT, {}, [*parameters, fields], limit, offset)

    async def study(self, uid: str, *, is_whole: bool = False) -> Row:
        """One study.

        Args:
            is_whole: with all that the index keeps of it.

        Raises:
            HttpError: it is not there (404).
        """
        fields = [("includefield", "all")] if is_whole else []
        found = await self._find(Level.STUDY, {Level.STUDY: uid}, fields, 1)
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such study")
        return found[0]

    async def series(self, study: str) -> list[Row]:
        """All series of a study, in order of their numbers."""
        fields = [("includefield", "BodyPartExamined,ProtocolName,StationName,InstitutionName")]
        return await self._find(Level.SERIES, {Level.STUDY: study}, fields, MOST_ROWS)

    async def one_series(self, study: str, uid: str) -> Row:
        """One series.

        Raises:
            HttpError: it is not there (404).
        """
        parents = {Level.STUDY: study, Level.SERIES: uid}
        found = await self._find(Level.SERIES, parents, [], 1)
        if not found:
            raise HttpError(404, "NOT_FOUND", "the archive has no such series")
        return found[0]

    async def instances(self, study: str, series: str) -> list[Row]:
        """The instances of a series, in order of their numbers."""
        parents = {Level.STUDY: study, Level.SERIES: series}
        return await self._find(Level.IMAGE, parents, [], MOST_ROWS)

    async def _find(
        self,
        level: Level,
        parents: Mapping[Level, str],
        parameters: Sequence[tuple[str, str]],
        limit: int,
        offset: int = 0,
    ) -> list[Row]:
        search = parse_search(level, parents, parameters)
        page = Page(limit=limit, offset=offset)
        return [Row(one) for one in await matches_of(self._index, search.query, page)]
