"""Copies of tables: all rows as of one moment, compared once they are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.backup.manifest import BackupError
from isocenter.services.backup.relocation.ports import ArchiveTables, CopyRecord, TableReader

Advance = Callable[[int, int], None]

#: Rows that each table is to have, noted before they are written.
_INTENDED = "rows intended"
#: The same, once they are there.
_WRITTEN = "rows written"


@dataclass(frozen=True, slots=True)
class TableReport:
    """What was copied: so many tables and rows."""

    tables: int
    rows: int


async def copy_tables(
    source: ArchiveTables,
    target: ArchiveTables,
    record: CopyRecord | None,
    progress: Advance = lambda done, total: None,
) -> TableReport:
    """Have the tables of *target* hold the rows of *source*, in the place of what they held.

    Args:
        record: by which `check_tables` knows them again; None: nobody will ask.

    Raises:
        BackupError: the rows that came out differ from those that went in.
        StorageError: a database fails; the target holds what it held.
    """
    async with source.moment() as moment:
        counts = await moment.counts()
        numbers = await moment.last_numbers()
        total, done = 2 * sum(counts.values()), 0
        _keep(record, _INTENDED, counts)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, total)

        async with target.replacing(numbers) as writer:
            digests = {
                name: await _digest(moment, name, advance, writer.put) for name in source.names
            }
    async with target.moment() as moment:
        found = {name: await _digest(moment, name, advance) for name in target.names}
    differing = [name for name in source.names if digests[name] != found.get(name)]
    if differing:
        raise BackupError(
            f"the rows of {', '.join(differing)} are not the same in both databases; nothing was "
            "finished. Please report this, with the versions of both databases"
        )
    _keep(record, _WRITTEN, counts)
    return TableReport(len(counts), sum(counts.values()))


async def check_tables(target: ArchiveTables, record: CopyRecord) -> None:
    """Whether the tables hold what an earlier pass put there, or nothing yet.

    Raises:
        BackupError: somebody else has written there.
    """
    async with target.moment() as moment:
        counts = await moment.counts()
    known = [
        await target.first_rows(),
        _kept(record, _INTENDED),
        _kept(record, _WRITTEN),
    ]
    if counts not in known:
        used = [name for name, rows in counts.items() if rows != known[0].get(name)]
        raise BackupError(
            f"the database of the target is not empty, or was written to since the last pass (rows "
            f"in {', '.join(used[:5])}{', …' if len(used) > 5 else ''}); nothing was changed. Name "
            "an empty database; and have no server use it before this is finished"
        )


async def _digest(
    moment: TableReader,
    table: str,
    advance: Callable[[int], None],
    put: Callable[[str, Sequence[Any]], Any] | None = None,
) -> str:
    digest = hashlib.blake2b()
    async with moment.rows(table) as blocks:
        async for block in blocks:
            await trio.to_thread.run_sync(_count, digest, block)
            if put is not None:
                await put(table, block)
            advance(len(block))
    return digest.hexdigest()


def _count(digest: Any, block: Sequence[Any]) -> None:
    for row in block:
        digest.update(repr(tuple(row)).encode())


def _keep(record: CopyRecord | None, name: str, counts: Mapping[str, int]) -> None:
    if record is not None:
        record.keep(name, orjson.dumps(dict(counts)).decode())


def _kept(record: CopyRecord, name: str) -> Mapping[str, int]:
    found: dict[str, int] = orjson.loads(record.value(name) or "{}")
    return found
