"""Metadata of series and instances in the database: adapter of their port."""

# ruff: noqa: S608  (what is put together are constants, values are bound)

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from time import time
from typing import Any, Final

from isocenter.services.archive.metadata.gzip_parts import GzipPart
from isocenter.services.archive.metadata.ports import (
    FORMAT,
    InstanceMetadata,
    KnownInstance,
    KnownSeries,
    SeriesContent,
    SeriesWork,
)
from isocenter.services.archive.ports import StoredInstance
from isocenter.storage.database.database import Connection, Database
from isocenter.storage.database.index.lookup import (
    FROM_INSTANCES,
    STORED_INSTANCE_COLUMNS,
    STORED_INSTANCE_WIDTH,
    stored_instance,
)
from isocenter.storage.database.index.series_metadata import (
    DIGEST_LENGTH,
    WITH_METADATA,
    exchange_instance,
    series_of_study_due,
)
from isocenter.storage.database.rows import rows_as
from isocenter.storage.database.text import replace_surrogates

INSTANCE: Final = (
    f"SELECT {STORED_INSTANCE_COLUMNS}, made.layout {FROM_INSTANCES} {WITH_METADATA} "
    "WHERE instance.sop_instance_uid = ?"
)
_OF_RESOURCE: Final = (
    "study.study_instance_uid = :study AND (:series = '' OR series.series_instance_uid = :series)"
)
SERIES: Final = f"""
    SELECT {STORED_INSTANCE_COLUMNS}, made.layout, made.fragment, series.series_pk
    {FROM_INSTANCES} {WITH_METADATA}
    WHERE {_OF_RESOURCE} AND (:instance = '' OR instance.sop_instance_uid = :instance)
    ORDER BY series.series_instance_uid, instance.instance_order, instance.sop_instance_uid
"""
_SELECT_DICTIONARY: Final = (
    "SELECT dictionary FROM series_metadata WHERE series_pk = ? AND format = ?"
)
CONTENTS: Final = f"""
    SELECT base, tag, content, content_crc, content_length
    FROM series JOIN study ON study.study_pk = series.study_pk
    LEFT JOIN series_metadata ON series_metadata.series_pk = series.series_pk
        AND format = :format AND content IS NOT NULL
    WHERE {_OF_RESOURCE} ORDER BY series.series_instance_uid
"""
DUE: Final = """
    SELECT series_metadata.series_pk AS number, version, study_instance_uid, series_instance_uid
    FROM series_metadata JOIN series ON series.series_pk = series_metadata.series_pk
    JOIN study ON study.study_pk = series.study_pk
    WHERE due_at <= :now ORDER BY due_at DESC LIMIT :limit
"""
_DICTIONARY: Final = """
    SELECT dictionary, format FROM series_metadata
    WHERE series_pk = :number AND version = :version
"""
#: What was made by another version cannot be unpacked.
_DROP: Final = """
    DELETE FROM instance_metadata
    WHERE instance_pk IN (SELECT instance_pk FROM instance WHERE series_pk = :number)
"""
_KEEP_DICTIONARY: Final = """
    UPDATE series_metadata SET dictionary = :dictionary, format = :format
    WHERE series_pk = :number
"""
_KEEP: Final = f"""
    INSERT INTO instance_metadata (instance_pk, digest, layout, fragment)
    SELECT instance_pk, substr(digest, 1, {DIGEST_LENGTH}), :layout, :fragment
    FROM instance WHERE sop_instance_uid = :uid AND digest = :digest
    ON CONFLICT (instance_pk) DO UPDATE SET
        digest = excluded.digest, layout = excluded.layout, fragment = excluded.fragment
"""
_FINISH: Final = """
    UPDATE series_metadata SET due_at = NULL, format = :format, base = :base, tag = :tag,
        content = :content, content_crc = :crc, content_length = :length
    WHERE series_pk = :number AND version = :version
"""
_POSTPONE: Final = (
    "UPDATE series_metadata SET due_at = :at WHERE series_pk = :number AND version = :version"
)
_RENEW: Final = """
    UPDATE series_metadata SET due_at = :now, content = NULL, version = version + 1
    WHERE due_at IS NULL AND (format <> :format OR (content IS NOT NULL AND base <> :base))
"""


class DatabaseMetadata:
    """See `isocenter.services.archive.metadata.ports.MetadataBook`.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, database: Database, *, now: Callable[[], float] = time) -> None:
        self._database = database
        self._now = now

    def exchanged(
        self, connection: Connection, before: StoredInstance, after: StoredInstance
    ) -> None:
        """An object is kept in another form (`compression.ExchangeHook`)."""
        exchange_instance(connection, after.sop_instance_uid, self._now())

    def study_complete(self, connection: Connection, study_instance_uid: str, now: float) -> None:
        """Its metadata are due (`events.open_studies.CompleteHook`)."""
        series_of_study_due(connection, study_instance_uid, now)

    async def instance(self, sop_instance_uid: str) -> KnownInstance | None:
        """See `MetadataBook.instance`."""
        return await self._database.read(_instance, replace_surrogates(sop_instance_uid))

    async def series(
        self, study_instance_uid: str, series_instance_uid: str = "", sop_instance_uid: str = ""
    ) -> Sequence[KnownSeries]:
        """See `MetadataBook.series`."""
        values = {
            "study": replace_surrogates(study_instance_uid),
            "series": replace_surrogates(series_instance_uid),
            "instance": replace_surrogates(sop_instance_uid),
        }
        return await self._database.read(_series, values)

    async def contents(
        self, study_instance_uid: str, series_instance_uid: str = ""
    ) -> Sequence[SeriesContent | None]:
        """See `MetadataBook.contents`."""
        return await self._database.read(_contents, study_instance_uid, series_instance_uid)

    async def due(self, limit: int) -> Sequence[SeriesWork]:
        """See `MetadataBook.due`."""
        return await self._database.read(_due, self._now(), limit)

    async def keep(
        self,
        work: SeriesWork,
        made: Mapping[StoredInstance, InstanceMetadata],
        dictionary: bytes,
    ) -> bool:
        """See `MetadataBook.keep`."""
        return await self._database.write_beside(_keep, work, made, dictionary)

    async def finish(self, work: SeriesWork, content: SeriesContent | None) -> bool:
        """See `MetadataBook.finish`."""
        part = None if content is None else content.part
        values = {
            "number": work.number,
            "version": work.version,
            "format": FORMAT,
            "base": "" if content is None else content.base,
            "tag": "" if content is None else content.tag,
            "content": None if part is None else part.data,
            "crc": 0 if part is None else part.crc,
            "length": 0 if part is None else part.length,
        }
        # In one statement, which finds out whether objects came meanwhile.
        return await self._database.write_beside(_execute, _FINISH, values) > 0

    async def postpone(self, work: SeriesWork, seconds: float) -> None:
        """See `MetadataBook.postpone`."""
        values = {"number": work.number, "version": work.version, "at": self._now() + seconds}
        await self._database.write(_execute, _POSTPONE, values)

    async def renew(self, base: str) -> int:
        """See `MetadataBook.renew`."""
        values = {"now": self._now(), "base": base, "format": FORMAT}
        return await self._database.write(_execute, _RENEW, values)

    async def order(self) -> int:
        """See `MetadataBook.order`."""
        return await self._database.write(
            _execute,
            "UPDATE series_metadata SET due_at = :now WHERE content IS NULL",
            {"now": self._now()},
        )


def _execute(connection: Connection, statement: str, values: Mapping[str, Any]) -> int:
    return connection.execute(statement, values).rowcount


def _instance(connection: Connection, sop_instance_uid: str) -> KnownInstance | None:
    row = connection.execute(INSTANCE, (sop_instance_uid,)).fetchone()
    if row is None:
        return None
    layout = row[STORED_INSTANCE_WIDTH]
    metadata = None if layout is None else InstanceMetadata(fragment=None, layout=layout)
    return KnownInstance(stored=stored_instance(row), metadata=metadata)


def _series(connection: Connection, values: Mapping[str, str]) -> list[KnownSeries]:
    rows = connection.execute(SERIES, values).fetchall()
    found = []
    for series_pk, of_series in groupby(rows, lambda row: row[-1]):
        row = connection.execute(_SELECT_DICTIONARY, (series_pk, FORMAT)).fetchone()
        dictionary = None if row is None else row[0]
        instances = [
            KnownInstance(
                stored=stored_instance(row),
                metadata=None
                if dictionary is None or row[STORED_INSTANCE_WIDTH] is None
                else InstanceMetadata(
                    layout=row[STORED_INSTANCE_WIDTH], fragment=row[STORED_INSTANCE_WIDTH + 1]
                ),
            )
            for row in of_series
        ]
        found.append(KnownSeries(instances=instances, dictionary=dictionary or b""))
    return found


def _contents(connection: Connection, study: str, series: str) -> list[SeriesContent | None]:
    values = {
        "study": replace_surrogates(study),
        "series": replace_surrogates(series),
        "format": FORMAT,
    }
    return [
        None
        if content is None
        else SeriesContent(base=base, tag=tag, part=GzipPart(data=content, crc=crc, length=length))
        for base, tag, content, crc, length in connection.execute(CONTENTS, values)
    ]


def _due(connection: Connection, now: float, limit: int) -> list[SeriesWork]:
    return rows_as(SeriesWork, connection.execute(DUE, {"now": now, "limit": limit}))


def _keep(
    connection: Connection,
    work: SeriesWork,
    made: Mapping[StoredInstance, InstanceMetadata],
    dictionary: bytes,
) -> bool:
    # Objects may come meanwhile: what they change is the version, which `finish` looks at.
    connection.lock([f"metadata {work.number}"])
    values = {"number": work.number, "version": work.version}
    row = connection.execute(_DICTIONARY, values).fetchone()
    if row is None:
        return False
    if row[0] is None or row[1] != FORMAT:
        connection.execute(_DROP, {"number": work.number})
        kept = {"number": work.number, "dictionary": dictionary, "format": FORMAT}
        connection.execute(_KEEP_DICTIONARY, kept)
    elif row[0] != dictionary:
        return False  # somebody else is at it
    connection.executemany(
        _KEEP,
        [
            {
                "uid": stored.sop_instance_uid,
                "digest": stored.digest,
                "layout": metadata.layout,
                "fragment": metadata.fragment,
            }
            for stored, metadata in made.items()
        ],
    )
    return True
