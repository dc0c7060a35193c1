"""Resources of DICOMweb: what a path names, and the instances below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.services.archive.index.attributes import UNIQUE_KEY, Level
from isocenter.services.archive.index.query import Criterion, Query, SingleValue
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.reading import SearchedIndex
from isocenter.services.net.http.messages import HttpError, Request

#: Names of places in routes.
PLACES: Final[Mapping[str, Level]] = {
    "study": Level.STUDY,
    "series": Level.SERIES,
    "instance": Level.IMAGE,
}


def parents_of(request: Request) -> dict[Level, str]:
    """The UIDs in the path of a request, also such as break the rules for UIDs: the archive may
    have been told to keep those."""
    return {PLACES[name]: uid for name, uid in request.arguments.items() if name in PLACES}


def query_of(request: Request) -> Query:
    """What finds the study, series or instance that the path of a request names."""
    parents = parents_of(request)
    criteria = tuple(
        Criterion(UNIQUE_KEY[parent], SingleValue(uid)) for parent, uid in parents.items()
    )
    return Query(level=max(parents, key=lambda one: one.depth), criteria=criteria)


async def instances_of(index: SearchedIndex, request: Request) -> list[StoredInstance]:
    """The instances that the path of a request names, in order of series and instance number.

    Raises:
        HttpError: there is none (404): the archive has them not, or not within each other.
    """
    query = query_of(request)
    found: list[StoredInstance] = []
    async with index.instances(query) as blocks:
        async for block in blocks:
            found += block
    if not found:
        raise HttpError(404, "NOT_FOUND", f"the archive has no such {_NAMES[query.level]}")
    request.told["instances"] = found
    return found


_NAMES: Final = {Level.STUDY: "study", Level.SERIES: "series", Level.IMAGE: "instance"}
