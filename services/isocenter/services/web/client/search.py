"""QIDO-RS as its user (PS3.18 10.6): all pages as one list of matches."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final
from urllib.parse import quote

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_safe_uid
from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.dicom.attribute_path import KeyName, parse_attribute_path
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.net.http.client import HttpClient
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.web.client.models import DICOM_JSON, Model, models_of, value_of
from isocenter.services.web.client.resources import WebResource

log = logging.getLogger("isocenter.client")

#: Matches that are asked for at once.
PAGE: Final = 1_000
#: The same of a server that does not give as many; also the smallest bound that servers have
#: without telling: an answer of fewer is complete.
_SMALL_PAGE: Final = 100
#: Statuses by which servers refuse a limit.
_LIMIT_REFUSED: Final = frozenset({400, 413, 422})
#: What has a meaning in a query, or none in an address; all else stands as it is, since some
#: servers do not decode it.
_UNQUOTED: Final = "*?,:/@!$'();-._~"
_NAMES: Final = {Level.STUDY: "studies", Level.SERIES: "series", Level.IMAGE: "instances"}
_QUERY_RETRIEVE_LEVEL: Final = 0x00080052
#: VRs whose values no comma stands in, which is how DICOMweb writes lists.
_LISTED_BY_COMMAS: Final = frozenset({"UI", "CS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """A search, ready to be asked.

    Attributes:
        path: of the resource that is searched, below the service.
        parameters: of the query, without limit and offset.
    """

    level: Level
    path: str
    parameters: tuple[tuple[str, str], ...]


def search_query(
    level: Level,
    keys: Iterable[tuple[KeyName, str]] = (),
    *,
    within: WebResource | None = None,
    all_fields: bool = False,
    fuzzy: bool = False,
) -> SearchQuery:
    """A search.

    Args:
        keys: what attributes match, by keyword, tag or path (``Sequence[0].Keyword``); an empty
            value: it is to be shown.
        within: only what is in it.
        all_fields: all attributes are to be shown that the server has for it.
        fuzzy: names that sound alike are wanted, too.

    Raises:
        KeySyntaxError: a key is none.
        ValueError: there is no such level in DICOMweb.
    """
    if level is Level.PATIENT:
        raise ValueError("DICOMweb has studies, series and instances, and no patients")
    parents: dict[Level, str] = {}
    if within is not None:
        parents = {Level.STUDY: within.study, Level.SERIES: within.series}
        parents = {above: uid for above, uid in parents.items() if uid}
    parameters: list[tuple[str, str]] = []
    shown: list[str] = []
    for name, value in keys:
        path, tag = parse_attribute_path(name)
        if not path and tag == _QUERY_RETRIEVE_LEVEL:
            continue
        above = None if path else _PARENTS.get(tag)
        if above is not None and above not in parents and is_safe_uid(value):
            parents[above] = value
            continue
        field = ".".join(f"{each:08X}" for each in (*(step for step, _ in path), tag))
        if value == "":
            shown.append(field)
        else:
            listed = dictionary_vr(tag) in _LISTED_BY_COMMAS
            parameters.append((field, value.replace("\\", ",") if listed else value))
    # What is above the level goes into the path, as far as it goes there.
    names = f"/{_NAMES[level]}"
    study, series = parents.get(Level.STUDY, ""), parents.get(Level.SERIES, "")
    if study and level is not Level.STUDY:
        inner = series if level is Level.IMAGE else ""
        names = WebResource(study, inner).path + names
        series, study = "" if inner else series, ""
    for above, uid in ((Level.STUDY, study), (Level.SERIES, series)):
        if uid:
            parameters.append((f"{UNIQUE_KEY[above]:08X}", uid))
    fields = ["all"] if all_fields else dict.fromkeys(shown)
    parameters += [("includefield", field) for field in fields]
    if fuzzy:
        parameters.append(("fuzzymatching", "true"))
    return SearchQuery(level=level, path=names, parameters=tuple(parameters))


_PARENTS: Final = {UNIQUE_KEY[level]: level for level in (Level.STUDY, Level.SERIES)}


class SearchResults:
    """The matches of a search, by ``async for``: data sets in DICOM JSON.

    Pages are asked for as they are needed.  A match that two pages have, as those of servers
    without a total order do, is given once.  Each step raises what `HttpClient.request` does.

    Args:
        limit: so many matches at most; None: all that there are.
        page: matches that are asked for at once.

    Attributes:
        warnings: what the server says of its answers, as that names were not matched fuzzily.
    """

    def __init__(
        self,
        http: HttpClient,
        query: SearchQuery,
        *,
        limit: int | None = None,
        offset: int = 0,
        page: int = PAGE,
    ) -> None:
        self.warnings: list[str] = []
        self._http = http
        self._query = query
        self._left = limit
        self._offset = offset
        #: Matches that are asked for at once; None: as many as the server likes.
        self._page: int | None = page
        self._found: deque[Model] = deque()
        self._is_over = limit == 0
        self._unique = f"{UNIQUE_KEY[query.level]:08X}"
        #: Hashes of the UIDs that were given.
        self._seen: set[int] = set()

    def __aiter__(self) -> AsyncIterator[Model]:
        return self

    async def __anext__(self) -> Model:
        """The next match."""
        while not self._found and not self._is_over:
            await self._next_page()
        if not self._found:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
            self._is_over = self._is_over or self._left <= 0
        return self._found.popleft()

    async def _next_page(self) -> None:
        limit = self._page
        if limit is not None and self._left is not None:
            limit = min(limit, self._left)
        try:
            found, has_more = await self._ask(limit)
        except HttpStatusError as error:
            if error.status not in _LIMIT_REFUSED or limit is None:
                raise
            log.info("limit=%d was refused (%d); pages are smaller now", limit, error.status)
            self._page = _SMALL_PAGE if limit > _SMALL_PAGE else None
            return
        fresh = [model for model in found if self._is_new(model)]
        self._offset += len(found)
        if self._left is not None:
            fresh = fresh[: self._left]
        self._found.extend(fresh)
        # More than was asked for: the server knows no pages.  Nothing new: no offsets.
        knows_no_pages = limit is not None and len(found) > limit
        self._is_over = knows_no_pages or not fresh or not has_more

    async def _ask(self, limit: int | None) -> tuple[list[Model], bool]:
        """Matches, and whether there may be more."""
        parameters = list(self._query.parameters)
        if limit is not None:
            parameters.append(("limit", str(limit)))
        if self._offset:
            parameters.append(("offset", str(self._offset)))
        text = "&".join(f"{name}={quote(value, safe=_UNQUOTED)}" for name, value in parameters)
        url = self._http.url(self._query.path + (f"?{text}" if text else ""))
        headers = (("accept", DICOM_JSON), ("accept-encoding", "gzip"))
        async with self._http.request("GET", url, headers=headers) as response:
            warnings = response.headers("warning")
            found = await models_of(response)
        self.warnings += [each for each in warnings if each not in self.warnings]
        tells_of_more = any("result" in each.lower() for each in warnings)
        is_full = limit is None or len(found) >= min(limit, _SMALL_PAGE)
        return found, bool(found) and (is_full or tells_of_more)

    def _is_new(self, model: Model) -> bool:
        uid = value_of(model, self._unique)
        if not uid:
            return True
        key = hash(uid)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True
