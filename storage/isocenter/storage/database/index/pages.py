"""Pages of matches, at the cost of a page and not of all.

There are two ways to the first matches in order (`isocenter.services.archive.ports.Index.find`).
All matches can be gathered by what is asked for, and sorted; that takes long when there are many.
Or rows can be looked at in the order, until enough of them match; that takes long when few do.
Which is shorter nobody knows before.  With √(entities · wanted) matches, evenly spread, both look
at as many rows.  So the first rows of the order are looked at as a sample, which often has the
whole page; where it has few matches, all are gathered, and where they turn out to be many after
all, the rest of the order is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import isqrt
from typing import Any, Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Page, Query
from isocenter.storage.database.database import Connection
from isocenter.storage.database.index.lookup import read_statistics
from isocenter.storage.database.index.query import (
    compile_edge,
    compile_places,
    compile_places_in_order,
    is_found_in_order,
    is_latest_first,
    is_of_few,
)

#: Places that are looked at in order before anything else, about.
SAMPLE: Final = 1_000
#: To find a match by what is asked for, and its place, takes as long as so many rows in order.
GATHERING_COST: Final = 8
#: Matches that are gathered in any case, and never more than.
LEAST_GATHERED: Final = 500
MOST_GATHERED: Final = 20_000


def find_page(connection: Connection, query: Query, page: Page, sample: int = SAMPLE) -> list[int]:
    """The row numbers of *page*, in order."""
    if is_found_in_order(query):
        return page_in_order(connection, query, page)
    wanted = page.offset + page.limit
    totals = read_statistics(connection)
    entities = {
        Level.PATIENT: totals.patients,
        Level.STUDY: totals.studies,
        Level.SERIES: totals.series,
        Level.IMAGE: totals.instances,
    }[query.level]
    many = isqrt(entities * wanted // GATHERING_COST)
    most = min(max(4 * many, LEAST_GATHERED), MOST_GATHERED)
    if query.level is not Level.PATIENT and not is_of_few(query):
        studies = max(1, sample * totals.studies // max(entities, 1))
        edge = connection.ask(compile_edge(query, studies)).fetchone()
        keys = list(islice(_keys(connection, query, edge and edge[0]), wanted))
        if edge is None or len(keys) == wanted:
            return keys[page.offset :]
        if len(keys) * totals.studies > many * studies:
            most = 0
    all_keys = gathered(connection, query, page, most) if most else None
    return page_in_order(connection, query, page) if all_keys is None else all_keys


def gathered(connection: Connection, query: Query, page: Page, most: int) -> list[int] | None:
    """The same by what is asked for; None: there are more than *most* matches."""
    found = connection.ask(compile_places(query))
    rows = list(islice(found, most + 1))
    if len(rows) > most:
        return None
    rows.sort(reverse=is_latest_first(query.level))
    return _page_of(_once(rows), page)


def page_in_order(connection: Connection, query: Query, page: Page) -> list[int]:
    """The same by looking at rows in order."""
    return _page_of(_keys(connection, query), page)


def _keys(connection: Connection, query: Query, edge: str | None = None) -> Iterator[int]:
    return _once(connection.ask(compile_places_in_order(query, edge)))


def _page_of(keys: Iterator[int], page: Page) -> list[int]:
    return list(islice(keys, page.offset, page.offset + page.limit))


def _once(rows: Iterable[Any]) -> Iterator[int]:
    """The row number of each place where it comes first: an entity may match by several
    statements."""
    seen = set()
    for row in rows:
        key = row[-1]
        if key not in seen:
            seen.add(key)
            yield key
