"""The index in a database: adapter of the port `Index`.

A find first gathers the row numbers of all its matches, eight bytes each, and then fetches
the values block by block.  So between two blocks it holds no connection, no cursor
and no snapshot: a peer that takes its answers slowly delays nobody, and the
write-ahead log can be checkpointed meanwhile.  What is removed between two
blocks is left out of the later ones.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Final, Generic, TypeVar

from isocenter.services.archive.index.attributes import BY_TAG
from isocenter.services.archive.index.query import (
    Criterion,
    FoundPage,
    NameComparison,
    Page,
    Query,
    compared_by,
)
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.ports import AddResult, Index, InstanceRecord, StoredInstance
from isocenter.storage.database.database import Connection, Database, Question
from isocenter.storage.database.dialect import json_list
from isocenter.storage.database.index.answers import Answers
from isocenter.storage.database.index.count_check import check_counts
from isocenter.storage.database.index.lookup import (
    SELECT_STORED_INSTANCES,
    get_records,
    get_whole_records,
    stored_instance,
)
from isocenter.storage.database.index.pages import find_page
from isocenter.storage.database.index.query import (
    ALL_INSTANCE_KEYS,
    compile_instance_keys,
    compile_keys,
)
from isocenter.storage.database.index.records import (
    RECORD_TABLES,
    AddHook,
    Addition,
    Arrivals,
    RemoveHook,
    lock_names_of,
    probe_records,
    remove_records,
)
from isocenter.storage.database.index.totals import read_statistics_of_any_schema

T = TypeVar("T")

#: By SOP Instance UID, what becomes of arriving objects that the index is not to take up.
KeepOut = Callable[[Connection, Sequence[InstanceRecord]], Mapping[str, AddResult]]
#: Asks what it needs for that, and gives what tells.
AskKeepOut = Callable[[Connection, Sequence[InstanceRecord]], Callable[[], Mapping[str, AddResult]]]

#: Rows of one hop: enough that the hop (0.2 ms) does not count, few enough that the
#: first answer leaves at once and a cancelled find has not fetched much in vain.
BLOCK_ROWS: Final = 250

#: A first block that is found within this leaves before the other matches are counted: then
#: the question is asked twice, which is cheap where the beginning was.
EARLY_SECONDS: Final = 0.02


class DatabaseIndex:
    """See `isocenter.services.archive.ports.Index`.

    Cancelling `add` or `remove` while it waits for its turn does nothing; once its transaction
    has begun it is brought to its end, which takes milliseconds.  Cancelling a question
    interrupts it.

    Args:
        on_add: what else is written in the transaction of each `add`.
        keep_out: says, in the same, what becomes of those that are not to be found.
        arrivals: what is to be said of objects that come; None: what they say.
        on_remove: the same of each `remove`, given the keys of its objects.
        fold_accents: person names are compared without accents where nothing else is asked.
        block_rows: matches that are read at once.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_add: Sequence[AddHook] = (),
        keep_out: AskKeepOut | None = None,
        arrivals: Arrivals | None = None,
        on_remove: RemoveHook | None = None,
        fold_accents: bool = False,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        self._database = database
        self._block_rows = block_rows
        self._literal = NameComparison.FOLDED if fold_accents else NameComparison.LITERAL
        self._on_add = tuple(on_add)
        self._on_remove = on_remove
        self._add = partial(_add_some, keep_out, arrivals)

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        """See `Index.add`; one hop, one transaction."""
        return await self._database.write_beside(
            self._add, records, replace, self._on_add, one_patient, unless_same
        )

    async def add_after(
        self,
        publish: Callable[[], Sequence[InstanceRecord]],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        """See `AddsAfter.add_after`; one hop, one transaction."""
        added = await self._database.write_after(
            lambda: publish() or None,
            self._add,
            replace,
            self._on_add,
            one_patient,
            unless_same,
        )
        return added or ()

    async def remove(self, sop_instance_uids: Sequence[str]) -> None:
        """See `Index.remove`; one hop, one transaction."""
        await self._database.write(remove_records, sop_instance_uids, self._on_remove)

    async def get(self, sop_instance_uids: Sequence[str]) -> Mapping[str, StoredInstance]:
        """See `Index.get`."""
        return await self._database.read(get_records, sop_instance_uids)

    async def records(self, sop_instance_uids: Sequence[str]) -> Mapping[str, InstanceRecord]:
        """See `Index.records`."""
        return await self._database.read(get_whole_records, sop_instance_uids)

    @asynccontextmanager
    async def find(self, query: Query) -> AsyncIterator[AsyncIterator[Sequence[Mapping[int, str]]]]:
        """See `Index.find`."""
        query = self._as_asked(query)
        yield _BlockFetcher(
            self._database, compile_keys(query), Answers(query).fetch, self._block_rows
        )

    async def find_page(self, query: Query, page: Page) -> FoundPage:
        """See `Index.find_page`; takes one hop."""
        return await self._database.read(_fetch_page, self._as_asked(query), page)

    @asynccontextmanager
    async def instances(
        self, query: Query | None = None
    ) -> AsyncIterator[AsyncIterator[Sequence[StoredInstance]]]:
        """See `Index.instances`."""
        keys = ALL_INSTANCE_KEYS
        if query is not None:
            keys = compile_instance_keys(self._as_asked(query))
        yield _BlockFetcher(self._database, keys, _fetch_instances, self._block_rows)

    def _as_asked(self, query: Query) -> Query:
        if self._literal is NameComparison.LITERAL:
            return query
        criteria = tuple(
            Criterion(each.tag, compared)
            for each in query.criteria
            if (compared := compared_by(BY_TAG[each.tag].vr, each.match, self._literal))
        )
        return replace(query, criteria=criteria)

    async def statistics(self) -> IndexStatistics:
        """See `Index.statistics`; takes the same time for any size."""
        return await self._database.read(read_statistics_of_any_schema)

    async def probe(self) -> None:
        """See `Index.probe`."""
        await self._database.write(probe_records)

    async def sync(self) -> None:
        """See `Index.sync`."""
        await self._database.sync()

    async def check(self) -> list[str]:
        """See `Index.check`: the files of the database, then the counts in it.

        Minutes for millions of instances.
        """
        return [*await self._database.check(), *await self._database.read(check_counts)]

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[Index]:
        """See `Index.rebuilding`; other tables of the database are left alone."""
        async with self._database.spare() as spare:
            yield DatabaseIndex(spare)
            await self._database.take_over(spare, RECORD_TABLES)

    async def aclose(self) -> None:
        """See `Database.aclose`."""
        await self._database.aclose()


def _add_some(
    keep_out: AskKeepOut | None,
    arrivals: Arrivals | None,
    connection: Connection,
    records: Sequence[InstanceRecord],
    replace: bool,
    on_add: Sequence[AddHook],
    one_patient: bool,
    unless_same: bool,
) -> list[AddResult]:
    """Add those that are not kept out, as *arrivals* has them.

    What is asked of all is asked before anything is waited for: most of them are wanted, and each
    answer that is waited for is a message there and back.
    """
    connection.lock(lock_names_of(records))
    asked = None if keep_out is None else keep_out(connection, records)
    addition = Addition(connection, records, arrivals)
    kept_out = {} if asked is None else asked()
    if kept_out:
        wanted = [each for each in records if each.sop_instance_uid not in kept_out]
        addition = Addition(connection, wanted, arrivals)
    done = addition.add(connection, replace, on_add, one_patient, unless_same)
    if not kept_out:
        return done
    added = iter(done)
    return [kept_out.get(each.sop_instance_uid) or next(added) for each in records]


class _BlockFetcher(Generic[T]):
    """Gathers the row numbers of all matches, then fetches block by block."""

    def __init__(
        self,
        database: Database,
        keys: Question,
        fetch: Callable[[Connection, str], Sequence[T]],
        block_rows: int,
    ) -> None:
        self._database = database
        self._block_rows = block_rows
        self._question = keys
        self._fetch = fetch
        #: Rows of the first block, when that left before all others were known.
        self._first: frozenset[int] = frozenset()
        self._keys: array[int] | None = None
        self._position = 0

    def __aiter__(self) -> _BlockFetcher[T]:
        return self

    async def __anext__(self) -> Sequence[T]:
        while self._keys is None or self._position < len(self._keys):
            block = await self._database.read(self._next)
            if block:
                return block
        raise StopAsyncIteration

    def _next(self, connection: Connection) -> Sequence[T]:
        """Runs on the connection's thread; the first time it does both steps in one hop, unless
        there are many matches and the first were found quickly: then these leave at once."""
        if self._keys is None:
            began = time.monotonic()
            found = map(itemgetter(0), connection.ask(self._question))
            keys = array("q", islice(found, self._block_rows))
            is_early = len(keys) == self._block_rows and time.monotonic() - began < EARLY_SECONDS
            if is_early and not self._first:
                self._first = frozenset(keys)
                return self._rows(connection, keys)
            first = self._first
            keys.extend(found)
            self._keys = array("q", (k for k in keys if k not in first)) if first else keys
        keys = self._keys[self._position : self._position + self._block_rows]
        self._position += len(keys)
        return self._rows(connection, keys)

    def _rows(self, connection: Connection, keys: array[int]) -> Sequence[T]:
        return self._fetch(connection, json_list(keys)) if keys else ()


def _fetch_page(connection: Connection, query: Query, page: Page) -> FoundPage:
    places = find_page(connection, query, page)
    keys = [int(place[-1]) for place in places]
    matches = Answers(query).fetch(connection, json_list(keys)) if keys else ()
    return FoundPage(matches=matches, places=places)


def _fetch_instances(connection: Connection, keys: str) -> Sequence[StoredInstance]:
    rows = connection.execute(SELECT_STORED_INSTANCES, (keys,)).fetchall()
    return [stored_instance(row) for row in rows]
