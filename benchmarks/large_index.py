"""What questions cost in an index of ten million instances on PostgreSQL.

Run it from the repository::

    python benchmarks/large_index.py [--instances N]

Starts a PostgreSQL of its own, adds the first hundred thousand instances as an archive does,
copies their rows as other patients until there are N, and prints how long a question waits for
its first block of answers.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg
import trio
from psycopg import sql

_REPOSITORY: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_REPOSITORY / room) for room in ("engine", "services", "storage", "tests")]

from index import FILL_BATCH, RETURN_TAGS, records  # noqa: E402

from isocenter.services.archive.index.attributes import Level  # noqa: E402
from isocenter.services.archive.index.query import (  # noqa: E402
    Criterion,
    Query,
    Range,
    SingleValue,
    WildCard,
)
from isocenter.storage.database.index.index import DatabaseIndex  # noqa: E402
from isocenter.storage.database.postgresql.database import open_postgresql_database  # noqa: E402
from isocenter.storage.database.postgresql.opening import Place  # noqa: E402
from support.postgresql import Server, running_server  # noqa: E402

FIRST: Final = 100_000
TIMES: Final = 9
_FILLING: Final = (
    "fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=1GB",
    "max_wal_size=8GB", "maintenance_work_mem=512MB",
)  # fmt: skip
#: As many give it on a machine of this size; the rest is PostgreSQL's own.
_SERVING: Final = ("shared_buffers=2GB", "random_page_cost=1.1")
#: Tables of the index, and how the columns of a copy differ: by a number, or by a name's ending.
_TABLES: Final = {
    "patient": ("patient_pk", "identity", "patient_id"),
    "patient_statement": ("patient_statement_pk", "patient_pk", "fingerprint", "patient_id",
                          "patient_name", "patient_name_key"),
    "patient_name_word": ("patient_statement_pk", "word"),
    "study": ("study_pk", "study_instance_uid"),
    "study_sop_class": ("study_pk",),
    "study_statement": ("study_statement_pk", "study_pk", "patient_statement_pk", "fingerprint",
                        "accession_number", "first_said", "last_said"),
    "series": ("series_pk", "study_pk", "series_instance_uid"),
    "series_statement": ("series_statement_pk", "series_pk", "study_pk", "fingerprint",
                         "first_said", "last_said"),
    "instance": ("instance_pk", "series_pk", "sop_instance_uid", "object_key", "instance_order",
                 "study_statement_pk", "series_statement_pk"),
}  # fmt: skip
_NUMBERS: Final = frozenset(("first_said", "last_said", "instance_order"))
UID_ROOT: Final = "1.2.826.0.1.3680043.8.498"


def _one(level: Level, tag: int, value: str) -> Query:
    return Query(level=level, criteria=(Criterion(tag, SingleValue(value)),))


#: Braces stand for the number of a copy.
QUESTIONS: Final[Sequence[tuple[str, Query]]] = (
    ("PATIENT, everybody", Query(level=Level.PATIENT)),
    ("PATIENT, by ID", _one(Level.PATIENT, 0x00100020, "ID0000007.{}")),
    (
        "PATIENT, name by prefix",
        Query(level=Level.PATIENT, criteria=(Criterion(0x00100010, WildCard("family12^*")),)),
    ),
    (
        "PATIENT, name by its middle",
        Query(level=Level.PATIENT, criteria=(Criterion(0x00100010, WildCard("*y12^given1*")),)),
    ),
    ("STUDY, everything", Query(level=Level.STUDY)),
    ("STUDY, by patient ID", _one(Level.STUDY, 0x00100020, "ID0000007.{}")),
    ("STUDY, by accession number", _one(Level.STUDY, 0x00080050, "ACC0000007.{}")),
    (
        "STUDY, one day",
        Query(level=Level.STUDY, criteria=(Criterion(0x00080020, Range("20110707", "20110707")),)),
    ),
    (
        "STUDY, one year and modality",
        Query(
            level=Level.STUDY,
            criteria=(
                Criterion(0x00080020, Range("20140101", "20141231")),
                Criterion(0x00080061, SingleValue("CT")),
            ),
        ),
    ),
    ("STUDY, modality", _one(Level.STUDY, 0x00080061, "CT")),
    ("STUDY, modality nobody has", _one(Level.STUDY, 0x00080061, "XA")),
    ("SERIES, everything", Query(level=Level.SERIES)),
    ("SERIES, of a study", _one(Level.SERIES, 0x0020000D, f"{UID_ROOT}.7.1.{{}}")),
    ("IMAGE, everything", Query(level=Level.IMAGE)),
    ("IMAGE, of a series", _one(Level.IMAGE, 0x0020000E, f"{UID_ROOT}.7.2.{{}}")),
    (
        "IMAGE, one",
        _one(Level.IMAGE, 0x00080018, f"{UID_ROOT}.4711.3.{{}}"),
    ),
)


async def add_first(place: Place) -> None:
    """As an archive adds them: one batch after the other."""
    async with open_postgresql_database(place) as database:
        index = DatabaseIndex(database)
        for start in range(0, FIRST, FILL_BATCH):
            await index.add(list(records(start, FILL_BATCH)))


def copy(connection: psycopg.Connection[Any], first: int, last: int) -> None:
    """The rows of the first once more, as those of other patients, for each number given."""
    for table, differing in _TABLES.items():
        cursor = connection.execute(
            sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table))
        )
        names = [each.name for each in cursor.description or ()]
        values = []
        for name in names:
            if name not in differing:
                values.append(sql.Identifier("t", name))
            elif name.endswith("_pk") or name in _NUMBERS:
                # No table has more rows than there are instances.
                values.append(sql.SQL("{} + copy * {}").format(sql.Identifier("t", name), FIRST))
            else:
                values.append(sql.SQL("{} || '.' || copy").format(sql.Identifier("t", name)))
        connection.execute(
            sql.SQL(
                "INSERT INTO {0} ({1}) SELECT {2} FROM {0} AS t, generate_series({3}, {4}) AS copy "
                "WHERE {5} <= {6}"
            ).format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(values),
                first,
                last,
                sql.Identifier("t", differing[0]),
                FIRST,
            )
        )
    connection.commit()


def _of_copy(criterion: Criterion, number: int) -> Criterion:
    match = criterion.match
    if isinstance(match, SingleValue):
        return Criterion(criterion.tag, SingleValue(match.value.format(number)))
    return criterion


async def measure(place: Place, instances: int) -> None:
    async with open_postgresql_database(place) as database:
        index = DatabaseIndex(database)
        print(f"{instances} instances; milliseconds: the first time, then the median of {TIMES}")
        for name, query in QUESTIONS:
            criteria = tuple(_of_copy(each, instances // FIRST // 2) for each in query.criteria)
            wanted = Query(level=query.level, criteria=criteria, return_tags=RETURN_TAGS)
            taken = []
            for _ in range(TIMES + 1):
                begin = time.perf_counter()
                number = 0
                async with index.find(wanted) as blocks:
                    async for block in blocks:
                        number = len(block)
                        break
                taken.append(time.perf_counter() - begin)
            first, later = taken[0] * 1e3, median(taken[1:]) * 1e3
            print(f"{name:30} {first:8.1f} {later:8.1f}   {number} answers", flush=True)
        batch = list(records(instances + FIRST, FILL_BATCH))
        begin = time.perf_counter()
        await index.add(batch)
        taken = time.perf_counter() - begin
        print(f"{FILL_BATCH} more in one batch: {taken / FILL_BATCH * 1e6:.0f} µs each")


def fill(server: Server, name: str, place: Place, instances: int) -> None:
    begin = time.perf_counter()
    trio.run(add_first, place)
    print(f"the first {FIRST} in {time.perf_counter() - begin:.0f} s", flush=True)
    begin = time.perf_counter()
    with psycopg.connect(server.conninfo(name)) as connection:
        connection.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(place.schema)))
        for first in range(1, instances // FIRST, 10):
            copy(connection, first, min(first + 10, instances // FIRST) - 1)
    with psycopg.connect(server.conninfo(name), autocommit=True) as connection:
        for table, (key, *_) in _TABLES.items():
            connection.execute(
                sql.SQL(
                    "SELECT setval(pg_get_serial_sequence({0}, {1}), max({2})) FROM {3} "
                    "HAVING pg_get_serial_sequence({0}, {1}) IS NOT NULL"
                ).format(
                    sql.Literal(f"{place.schema}.{table}"),
                    sql.Literal(key),
                    sql.Identifier(key),
                    sql.Identifier(place.schema, table),
                )
            )
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
        (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or ()
    print(f"filled in {time.perf_counter() - begin:.0f} s: {size / 1e9:.1f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=10_000_000)
    instances = parser.parse_args().instances
    with running_server(*_FILLING) as server:
        server.make_template()
        name = server.new_database()
        place = Place(server.conninfo(name))
        fill(server, name, place, instances)
        server.stop("fast")
        server.start(*_SERVING)
        trio.run(functools.partial(measure, place, instances))


if __name__ == "__main__":
    main()
