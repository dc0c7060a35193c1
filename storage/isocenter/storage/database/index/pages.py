"""Pages of matches, at the cost of a page and not of all.

There are two ways to the first matches in order
(`isocenter.services.archive.ports.Index.find_page`).  All matches can be gathered by what is asked
for, and sorted; that takes long when there are many.  Or rows can be looked at in the order, until
enough of them match; that takes long when few do.  Which is shorter nobody knows before.  With
√(entities · wanted) matches, evenly spread, both look at as many rows.  So the first rows of the
order are looked at as a sample, which often has the whole page; where it has few matches, all are
gathered, and where they turn out to be many after all, the rest of the order is looked at.

A page begins behind a place, or ends ahead of one; then nothing that is elsewhere in the order is
looked at.  An entity of which objects say different things has several places, and stands at the
first of them that matches: where only a part of the order is looked at, those are told apart by a
question of their own.
"""

# ruff: noqa: S608  (names of tables and columns come from constants, values are bound)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import isqrt
from typing import Final

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.places import Place
from isocenter.services.archive.index.query import Page, Query
from isocenter.storage.database.database import Connection
from isocenter.storage.database.dialect import NUMBERS, json_list
from isocenter.storage.database.index.order import (
    STATEMENT_WITH_PLACE,
    Stretch,
    is_latest_first,
)
from isocenter.storage.database.index.query import (
    compile_edge,
    compile_places,
    compile_places_in_order,
    compile_places_of,
    is_found_in_order,
    is_of_few,
)
from isocenter.storage.database.index.totals import read_statistics

#: Places that are looked at in order before anything else, about.
SAMPLE: Final = 1_000
#: To find a match by what is asked for, and its place, takes as long as so many rows in order.
GATHERING_COST: Final = 8
#: Matches that are gathered in any case, and never more than.
LEAST_GATHERED: Final = 500
MOST_GATHERED: Final = 20_000
#: Entities of which is asked at once whether they stand where they were found.
_AT_ONCE: Final = 100


def find_page(
    connection: Connection, query: Query, page: Page, sample: int = SAMPLE
) -> list[Place]:
    """The places of *page*, in order; the last value of each is a row number."""
    found = _found(connection, query, page, sample)
    return found if page.before is None else found[::-1]


def _found(connection: Connection, query: Query, page: Page, sample: int) -> list[Place]:
    """The same, as they are come by."""
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
    if not is_of_few(query):
        of_order = entities if query.level is Level.PATIENT else totals.studies
        number = max(1, sample * of_order // max(entities, 1))
        stretch = Stretch.of(query.level, page)
        edge = connection.ask(compile_edge(query, number, stretch)).fetchone()
        places = _in_order(connection, query, Stretch.of(query.level, page, edge and edge[0]))
        found = list(islice(places, wanted))
        if edge is None or len(found) == wanted:
            return found[page.offset :]
        if len(found) * of_order > many * number:
            most = 0
    all_places = gathered(connection, query, page, most) if most else None
    return page_in_order(connection, query, page) if all_places is None else all_places


def gathered(connection: Connection, query: Query, page: Page, most: int) -> list[Place] | None:
    """The same by what is asked for; None: there are more than *most* matches."""
    stretch = Stretch.of(query.level, page)
    rows = list(islice(connection.ask(compile_places(query, stretch)), most + 1))
    if len(rows) > most:
        return None
    rows.sort(reverse=stretch.is_descending)
    return _page_of(_standing(connection, query, rows, stretch), page)


def page_in_order(connection: Connection, query: Query, page: Page) -> list[Place]:
    """The same by looking at rows in order."""
    return _page_of(_in_order(connection, query, Stretch.of(query.level, page)), page)


def _in_order(connection: Connection, query: Query, stretch: Stretch) -> Iterator[Place]:
    rows = connection.ask(compile_places_in_order(query, stretch))
    return _standing(connection, query, rows, stretch)


def _page_of(places: Iterator[Place], page: Page) -> list[Place]:
    return list(islice(places, page.offset, page.offset + page.limit))


def _standing(
    connection: Connection, query: Query, rows: Iterable[Place], stretch: Stretch
) -> Iterator[Place]:
    """Where entities stand: of places in order, the first of each."""
    seen = set()
    for row in _first_places(connection, query, rows) if stretch.is_part else rows:
        key = row[-1]
        if key not in seen:
            seen.add(key)
            yield tuple(row)


def _first_places(connection: Connection, query: Query, rows: Iterable[Place]) -> Iterator[Place]:
    """Those of *rows* that no other place of the same entity comes before."""
    statement = STATEMENT_WITH_PLACE.get(query.level)
    if statement is None:
        yield from rows
        return
    choose = max if is_latest_first(query.level) else min
    rows = iter(rows)
    while some := list(islice(rows, _AT_ONCE)):
        first: dict[str | int, Place] = {}
        if doubtful := _with_several(connection, statement, [int(row[-1]) for row in some]):
            for place in connection.ask(compile_places_of(query, doubtful)):
                key = place[-1]
                first[key] = choose(first.get(key, place), place)
        for row in some:
            if first.get(row[-1], row) == row:
                yield row


def _with_several(connection: Connection, statement: str, keys: Sequence[int]) -> list[int]:
    """Those of the entities of which several things are said."""
    key = f"{statement.removesuffix('_statement')}_pk"
    rows = connection.execute(
        f"SELECT {key} FROM {statement} WHERE {key} IN {NUMBERS} "
        f"GROUP BY {key} HAVING count(*) > 1",
        (json_list(keys),),
    )
    return [row[0] for row in rows]
