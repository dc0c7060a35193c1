"""Index as callers of a project of de-identification see it.

Its UIDs are pseudonyms, and so are the values of its answers; a search compares what it is asked
for with them, never with originals: an answer to a question that names the patient would say who
it is.  The index itself narrows by what stays as it is, and by UIDs; the rest is compared here.

Within a study its order is that of the index, by numbers that are told; else it is a keyed one
(`keyed_order`), for which all that matches is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.deidentification.answers import AnswerRules, is_instance_uid
from isocenter.services.archive.deidentification.keyed_order import (
    PATIENT_KEYS,
    MatchPage,
    place_of,
)
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.index.attributes import BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.matching import matches, matches_combined
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    FoundPage,
    Page,
    Query,
    SingleValue,
    ValueList,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import SearchedIndex
from isocenter.services.errors import StorageError

log = logging.getLogger("isocenter.deidentification")

T = TypeVar("T")

_STUDY: Final = 0x0020000D
#: Matches of the index that are made answers of together.
_TOGETHER: Final = 100
#: Of one search, that are compared here.
MOST_COMPARED: Final = 20_000
#: Of one search, that are put in order here; and those that are held for that.
MOST_ORDERED: Final = 200_000
_HELD: Final = 10_000


class TooManyToCompareError(StorageError):
    """More matches would have to be compared, or put in order, than one search may."""

    def __init__(self, most: int = MOST_COMPARED) -> None:
        super().__init__(
            f"more than {most:,} matches would have to be de-identified to be compared",
            out_of_resources=True,
            comment="too many to compare; narrow the query",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymousInstance(StoredInstance):
    """An object under the UIDs of a project; how long it is shows when it is made.

    Attributes:
        original: the object of the archive.
    """

    original: StoredInstance


def original_of(stored: StoredInstance) -> StoredInstance:
    """The object of the archive that *stored* stands for: itself, in most cases."""
    return stored.original if isinstance(stored, PseudonymousInstance) else stored


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the index is asked, and what is compared here."""

    query: Query
    criteria: tuple[Criterion, ...] = ()
    combined: tuple[CombinedRange, ...] = ()

    @property
    def compares(self) -> bool:
        return bool(self.criteria or self.combined)

    def is_met_by(self, told: Mapping[int, str]) -> bool:
        return all(matches(one, told.get(one.tag, "")) for one in self.criteria) and all(
            matches_combined(one, told.get(one.date_tag, ""), told.get(one.time_tag, ""))
            for one in self.combined
        )


class DeidentifiedIndex:
    """A `SearchedIndex` of pseudonyms over one of originals."""

    def __init__(self, index: SearchedIndex, service: Deidentification, project: Project) -> None:
        self._index = index
        self._service = service
        self._project = project
        self._rules = AnswerRules(project.profile)

    # -- Searches ------------------------------------------------------------------------

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        """See `Index.find`."""

        async def blocks() -> AsyncGenerator[Sequence[Mapping[int, str]], None]:
            async with aclosing(self._found(query)) as found:
                async for block in found:
                    yield [_restricted(told, query) for _, told in block]

        async with aclosing(blocks()) as each:
            yield each

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        """See `Index.find_page`."""
        plan = await self._plan(query)
        if plan is None:
            return FoundPage(matches=(), places=())
        if not _is_within_study(query):
            return await self._ordered_page(query, plan, page)
        matched: list[Mapping[int, str]] = []
        places = []
        skipped = compared = 0
        offset, asked = 0, page
        if plan.compares:
            offset, asked = page.offset, Page(limit=_TOGETHER, after=page.after)
        while len(matched) < page.limit:
            found = await self._index.find_page(plan.query, asked)
            told = await self._told(found.matches)
            for one, place in zip(told, found.places, strict=True):
                if one is None or not plan.is_met_by(one):
                    continue
                if skipped < offset:
                    skipped += 1
                elif len(matched) < page.limit:
                    matched.append(_restricted(one, query))
                    places.append(place)
            compared += len(found.matches)
            if len(found.matches) < asked.limit or asked.before is not None:
                break
            if plan.compares and compared >= MOST_COMPARED:
                raise TooManyToCompareError
            # A page that is short is the last one, so what cannot be told is made up for.
            asked = Page(limit=asked.limit, after=found.places[-1])
        return FoundPage(matches=matched, places=places)

    async def _ordered_page(self, query: Query, plan: _Plan, page: Page) -> FoundPage:
        matched: list[Mapping[int, str]] = []
        places: list[Place] = []
        left, after = page.offset, page.after
        while len(matched) < page.limit:
            # Whatever offset somebody asks for, so many are held at a time.
            wanted = min(left + page.limit - len(matched), _HELD)
            nearest = await self._nearest(plan, wanted, after=after, before=page.before)
            found = list(zip(nearest.places, nearest.items, strict=True))
            skipped = min(left, len(found))
            left -= skipped
            for some in _chunks(found[skipped:]):
                told = await self._told([match for _, match in some])
                for (place, _), one in zip(some, told, strict=True):
                    if one is not None:
                        matched.append(_restricted(one, query))
                        places.append(place)
            if len(found) < wanted or page.before is not None:
                break
            # A page that is short is the last one, so what cannot be told is made up for.
            after = found[-1][0]
        return FoundPage(matches=matched, places=places)

    async def _nearest(
        self,
        plan: _Plan,
        limit: int,
        *,
        after: Place | None = None,
        before: Place | None = None,
    ) -> MatchPage[Mapping[int, str]]:
        """Matches as the index has them, in the keyed order."""
        nearest: MatchPage[Mapping[int, str]] = MatchPage(limit, after=after, before=before)
        keyed_hash = self._service.keyed_hash(self._project)
        level, looked_at = plan.query.level, 0
        async with aclosing(self._matching(plan)) as blocks:
            async for block in blocks:
                for match in block:
                    nearest.add(place_of(level, match, keyed_hash), match)
                looked_at += len(block)
                if looked_at > MOST_ORDERED:
                    raise TooManyToCompareError(MOST_ORDERED)
        return nearest

    async def _matching(self, plan: _Plan) -> AsyncGenerator[Sequence[Mapping[int, str]], None]:
        """Matches as the index has and finds them."""
        compared = 0
        async with self._index.find(plan.query) as blocks:
            async for block in blocks:
                if not plan.compares:
                    yield block
                    continue
                for some in _chunks(block):
                    told = await self._told(some)
                    yield [
                        match
                        for match, one in zip(some, told, strict=True)
                        if one is not None and plan.is_met_by(one)
                    ]
                    compared += len(some)
                    if compared > MOST_COMPARED:
                        raise TooManyToCompareError

    async def _found(
        self, query: Query
    ) -> AsyncGenerator[list[tuple[Mapping[int, str], dict[int, str]]], None]:
        """Matches as the index has them, each with what is told of it."""
        plan = await self._plan(query)
        if plan is None:
            return
        async with aclosing(self._in_order(query, plan)) as blocks:
            async for block in blocks:
                for some in _chunks(block):
                    told = await self._told(some)
                    found = [
                        (match, one)
                        for match, one in zip(some, told, strict=True)
                        if one is not None
                    ]
                    if found:
                        yield found

    async def _in_order(
        self, query: Query, plan: _Plan
    ) -> AsyncGenerator[Sequence[Mapping[int, str]], None]:
        if _is_within_study(query):
            async with aclosing(self._matching(plan)) as blocks:
                async for block in blocks:
                    yield block
            return
        after: Place | None = None
        while True:
            # What was compared is few enough to be held; it is compared once only.
            held = MOST_COMPARED if plan.compares else _HELD
            nearest = await self._nearest(plan, held, after=after)
            yield nearest.items
            if len(nearest.items) < held:
                return
            after = nearest.places[-1]

    async def _told(self, block: Sequence[Mapping[int, str]]) -> list[dict[int, str] | None]:
        """What callers are told of each; None: nothing can be."""
        uids = {
            text for match in block for tag, text in match.items() if text and is_instance_uid(tag)
        }
        deidentifier = await self._service.deidentifier(self._project, uids)
        told: list[dict[int, str] | None] = []
        faults: set[str] = set()
        for match in block:
            try:
                told.append(self._rules.applied(match, deidentifier))
            except Exception as error:
                # One match with values that nobody thought of hides no other.  No text, which may
                # show them.
                told.append(None)
                faults.add(type(error).__name__)
        if faults:
            names = ", ".join(sorted(faults))
            log.warning("%d matches are not told: %s", told.count(None), names)
        await self._service.note(self._project, deidentifier)
        return told

    # -- Questions -----------------------------------------------------------------------

    async def _plan(self, query: Query) -> _Plan | None:
        """None: nothing can match."""
        pushed: list[Criterion] = []
        compared: list[Criterion] = []
        for criterion in query.criteria:
            tag = criterion.tag
            if is_instance_uid(tag):
                translated = await self._translated(criterion)
                if translated is None:
                    return None
                pushed.append(translated)
            elif self._rules.stays(tag):
                pushed.append(criterion)
            elif BY_TAG[tag].level.depth > query.level.depth:
                return None  # what is told of a level below is not looked at
            else:
                compared.append(criterion)
        combined: list[CombinedRange] = []
        for one in query.combined:
            is_pushed = self._rules.stays(one.date_tag) and self._rules.stays(one.time_tag)
            if not is_pushed:
                if BY_TAG[one.date_tag].level.depth > query.level.depth:
                    return None
                combined.append(one)
        asked = replace(
            query,
            criteria=tuple(pushed),
            combined=tuple(one for one in query.combined if one not in combined),
            return_tags=tuple(
                dict.fromkeys((*self._rules.tags_of(query.level), *query.return_tags))
            ),
        )
        return _Plan(asked, tuple(compared), tuple(combined))

    async def _translated(self, criterion: Criterion) -> Criterion | None:
        match criterion.match:
            case SingleValue(value):
                wanted: tuple[str, ...] = (value,)
            case ValueList(values):
                wanted = values
            case EmptyValue():
                return criterion
            case _:
                return None  # no UID is searched for by a part of it
        found = await self._service.originals(self._project, wanted)
        return Criterion(criterion.tag, ValueList(tuple(found.values()))) if found else None

    # -- Objects -------------------------------------------------------------------------

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """See `Index.get`."""
        originals = await self._service.originals(self._project, sop_instance_uids)
        found = await self._index.get(list(originals.values()))
        pseudonymous = await self._instances(list(found.values()))
        return {one.sop_instance_uid: one for one in pseudonymous}

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        """See `Index.instances`."""

        async def blocks() -> AsyncGenerator[Sequence[StoredInstance], None]:
            async with aclosing(self._asked(query or Query(level=Level.STUDY))) as queries:
                async for each in queries:
                    async with self._index.instances(each) as found:
                        async for block in found:
                            yield await self._instances(block)

        async with aclosing(blocks()) as each_block:
            yield each_block

    async def _asked(self, query: Query) -> AsyncGenerator[Query, None]:
        """What the index is asked for the objects below all matches of *query*."""
        plan = await self._plan(query)
        if plan is None:
            return
        if not plan.compares and _is_within_study(query):
            yield plan.query
            return
        async with aclosing(self._found(query)) as found:
            async for block in found:
                for match, _ in block:
                    yield Query(level=query.level, criteria=_naming(query.level, match))

    async def _instances(self, block: Sequence[StoredInstance]) -> list[StoredInstance]:
        uids = {
            uid
            for one in block
            for uid in (one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
        }
        made = await self._service.uids_of(uids, self._project)
        return [self._pseudonymous(one, made) for one in block]

    def _pseudonymous(self, stored: StoredInstance, made: Mapping[str, str]) -> StoredInstance:
        values: dict[str, Any] = {one.name: getattr(stored, one.name) for one in fields(_STORED)}
        values |= {
            "sop_instance_uid": made[stored.sop_instance_uid],
            "study_instance_uid": made[stored.study_instance_uid],
            "series_instance_uid": made[stored.series_instance_uid],
            "transfer_syntax_uid": self._service.syntax_of(
                stored.transfer_syntax_uid, self._project
            ),
            "size": 0,
            "data_set_offset": 0,
            "digest": self._service.digest_of(stored.digest, self._project),
            "received_digest": "",
        }
        return PseudonymousInstance(**values, original=stored)


_STORED: Final = StoredInstance


def _is_within_study(query: Query) -> bool:
    """Whether all that can match is of one study."""
    return any(
        criterion.tag == _STUDY
        and (
            isinstance(criterion.match, SingleValue)
            or (isinstance(criterion.match, ValueList) and len(criterion.match.values) == 1)
        )
        for criterion in query.criteria
    )


def _chunks(found: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(found), _TOGETHER):
        yield found[start : start + _TOGETHER]


def _naming(level: Level, match: Mapping[int, str]) -> tuple[Criterion, ...]:
    """What finds one match of the index again."""
    if level is Level.PATIENT:
        tags: tuple[int, ...] = PATIENT_KEYS
    else:
        levels = (Level.STUDY, Level.SERIES, Level.IMAGE)
        tags = tuple(UNIQUE_KEY[one] for one in levels if one.depth <= level.depth)
    return tuple(
        Criterion(tag, SingleValue(match[tag]) if match.get(tag) else EmptyValue()) for tag in tags
    )


def _restricted(told: Mapping[int, str], query: Query) -> dict[int, str]:
    """Of what is told, what was asked for, and the unique keys."""
    keys = (UNIQUE_KEY[one] for one in Level if one.depth <= query.level.depth)
    return {tag: told[tag] for tag in (*query.return_tags, *keys) if tag in told}
