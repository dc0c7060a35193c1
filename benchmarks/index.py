"""What the SQLite index costs.

Run it from the repository::

    PYTHONPATH=engine:services:storage python benchmarks/index.py [--dir DIR] [--instances N]

Prints microseconds per record of `add` for batches of 1, 10 and 100 beside what SQLite's own
commit of one row costs on the same disk, and the time to the first block of some questions.
"""

from __future__ import annotations

import argparse
import functools
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import trio

from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Query, Range, SingleValue, WildCard
from isocenter.services.archive.ports import InstanceRecord
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database

SERIES_OF_STUDY = 4
INSTANCES_OF_SERIES = 25
STUDIES_OF_PATIENT = 2
FILL_BATCH = 500


def records(start: int, number: int) -> Iterator[InstanceRecord]:
    """Instances of CT and MR studies as a modality sends them, one series after the other."""
    for count in range(start, start + number):
        series, position = divmod(count, INSTANCES_OF_SERIES)
        study = series // SERIES_OF_STUDY
        patient = study // STUDIES_OF_PATIENT
        yield InstanceRecord(
            sop_instance_uid=f"1.2.826.0.1.3680043.8.498.{count}.3",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            study_instance_uid=f"1.2.826.0.1.3680043.8.498.{study}.1",
            series_instance_uid=f"1.2.826.0.1.3680043.8.498.{series}.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            object_key=f"ab/1.2.826.0.1.3680043.8.498.{study}.1/1.2.826.0.1.3680043.8.498.{count}.3",
            size=525_000,
            data_set_offset=350,
            digest=f"{count:064x}",
            attributes={
                0x00100010: f"Family{patient % 5000}^Given{patient}",
                0x00100020: f"ID{patient:07}",
                0x00100030: f"19{patient % 90 + 10}0{patient % 9 + 1}15",
                0x00100040: "F",
                0x00080020: f"20{study % 20 + 5:02}{study % 12 + 1:02}{study % 28 + 1:02}",
                0x00080030: "101530.25",
                0x00080050: f"ACC{study:07}",
                0x00081030: "CT ABDOMEN",
                0x00080060: "CT" if study % 2 else "MR",
                0x00200011: str(series % SERIES_OF_STUDY + 1),
                0x0008103E: "axial 5 mm",
                0x00080070: "ACME",
                0x00200013: str(position + 1),
                0x00080008: "ORIGINAL\\PRIMARY\\AXIAL",
                0x00080023: "20240101",
                0x00080033: "101611.5",
                0x00280010: "512",
                0x00280011: "512",
                0x00280100: "16",
            },
        )


def bare_commit(folder: Path, times: int) -> float:
    """Median seconds of one row's INSERT and its COMMIT, with WAL and synchronous=FULL."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (a TEXT)")
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (?)", ("x" * 500,))
        taken.append(time.perf_counter() - begin)
    connection.close()
    return median(taken)


async def measure_add(index: DatabaseIndex, start: int, batch: int, times: int) -> int:
    """Print the median of *times* batches; returns the next free number."""
    taken = []
    for _ in range(times):
        some = list(records(start, batch))
        start += batch
        begin = time.perf_counter()
        await index.add(some)
        taken.append(time.perf_counter() - begin)
    one = median(taken)
    print(f"add, batch of {batch:4}: {one * 1e3:8.2f} ms  {one / batch * 1e6:8.0f} us per record")
    return start


QUESTIONS: Sequence[tuple[str, Query]] = (
    ("everything", Query(level=Level.STUDY)),
    (
        "patient ID",
        Query(level=Level.STUDY, criteria=(Criterion(0x00100020, SingleValue("ID0000007")),)),
    ),
    (
        "name prefix",
        Query(level=Level.PATIENT, criteria=(Criterion(0x00100010, WildCard("family12^*")),)),
    ),
    (
        "date range",
        Query(level=Level.STUDY, criteria=(Criterion(0x00080020, Range("20140101", "20141231")),)),
    ),
    (
        "date range and modality",
        Query(
            level=Level.STUDY,
            criteria=(
                Criterion(0x00080020, Range("20140101", "20141231")),
                Criterion(0x00080061, SingleValue("CT")),
            ),
        ),
    ),
    ("modality", Query(level=Level.STUDY, criteria=(Criterion(0x00080061, SingleValue("CT")),))),
    ("all instances", Query(level=Level.IMAGE)),
)
RETURN_TAGS = (0x00100010, 0x00080020, 0x00080030, 0x00080050, 0x00080061, 0x00201206, 0x00201208)


async def measure_find(index: DatabaseIndex, name: str, query: Query) -> None:
    wanted = Query(level=query.level, criteria=query.criteria, return_tags=RETURN_TAGS)
    first = []
    number = 0
    for _ in range(5):
        number = 0
        begin = time.perf_counter()
        async with index.find(wanted) as blocks:
            async for block in blocks:
                if not number:
                    first.append(time.perf_counter() - begin)
                number += len(block)
    whole = time.perf_counter() - begin
    print(
        f"find, {name:24}: first block {median(first) * 1e3:7.2f} ms, "
        f"all {number:6} in {whole * 1e3:8.2f} ms"
    )


async def main(folder: Path, instances: int) -> None:
    commit = bare_commit(folder, 200)
    print(f"SQLite alone, one row and its commit: {commit * 1e3:.2f} ms")
    async with open_sqlite_database(folder / "index.db") as database:
        index = DatabaseIndex(database)
        start = 0
        for batch, times in ((1, 200), (10, 100), (100, 50)):
            start = await measure_add(index, start, batch, times)
        begin = time.perf_counter()
        while start < instances:
            await index.add(list(records(start, FILL_BATCH)))
            start += FILL_BATCH
        print(f"filled to {start} instances in {time.perf_counter() - begin:.1f} s")
        start = await measure_add(index, start, 1, 200)
        await measure_add(index, start, 100, 50)
        for name, query in QUESTIONS:
            await measure_find(index, name, query)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dir", type=Path, help="where the database goes; default: a temporary folder"
    )
    parser.add_argument("--instances", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as temporary:
        trio.run(functools.partial(main, Path(temporary), options.instances))
