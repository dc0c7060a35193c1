"""Inspection of a PostgreSQL database, which changes nothing in it."""

from __future__ import annotations

import psycopg

from isocenter.services.archive.index_figures import IndexInspection
from isocenter.storage.database.index.totals import totals_of
from isocenter.storage.database.postgresql.errors import WrongDatabaseError, storage_error
from isocenter.storage.database.postgresql.opening import Place, connect
from isocenter.storage.database.postgresql.schema import check_server, schema_version
from isocenter.storage.database.sqlite.schema import LATEST_VERSION


def inspect(url: str) -> IndexInspection:
    """What the database at *url* looks like."""
    place = Place(url)
    try:
        with connect(place) as connection:
            check_server(connection)
            version = schema_version(connection)
            row = None
            if version:
                row = connection.execute(
                    f"SELECT sum(instances)::bigint FROM {totals_of(version)}"  # noqa: S608
                ).fetchone()
        return IndexInspection(
            schema_version=version,
            latest_version=LATEST_VERSION,
            instances=0 if row is None else row[0],
            was_checked=True,
        )
    except (psycopg.Error, WrongDatabaseError) as error:
        return IndexInspection(fault=str(storage_error(error, place.name)))
