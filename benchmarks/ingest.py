"""Objects stored per second: archive, file store and SQLite index, without a network.

    python benchmarks/ingest.py [--seconds 3] [--dir DIR]

Each line says how durable, how large, and how many store at once; a writer sends its next
object when the last one was acknowledged.  Below it stand the median and the 99th
percentile of what one object took, and how many objects a transaction held.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / room) for room in ("engine", "services", "storage")]

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set  # noqa: E402
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN  # noqa: E402
from isocenter.services.archive.archive import Archive  # noqa: E402
from isocenter.services.archive.ports import AddResult, Index, InstanceRecord  # noqa: E402
from isocenter.storage.database.index.index import DatabaseIndex  # noqa: E402
from isocenter.storage.database.sqlite.database import open_sqlite_database  # noqa: E402
from isocenter.storage.objects.files.store import Durability, open_file_store  # noqa: E402

CT = "1.2.840.10008.5.1.4.1.1.2"
SIZES = {"12 KB": 12_000, "512 KB": 512 << 10}
WRITERS = (1, 8)
DURABILITIES: tuple[Durability, ...] = ("full", "relaxed")
#: What a driver hands over at once.
PIECE = 128 << 10
#: Instances of one series, series of one study: a CT examination.
PER_SERIES = 200


def data_set(number: int, pixels: bytes) -> bytes:
    """A CT image, as many elements as count for the index, and its pixels."""
    series = number // PER_SERIES
    texts = [
        (0x00080005, "CS", "ISO_IR 100"),
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, "UI", CT),
        (0x00080018, "UI", f"1.2.826.0.1.3680043.9.1.{series}.{number}"),
        (0x00080020, "DA", "20240229"),
        (0x00080030, "TM", "101112"),
        (0x00080050, "SH", f"A{series // 4}"),
        (0x00080060, "CS", "CT"),
        (0x00080070, "LO", "Isocenter"),
        (0x00081030, "LO", "CHEST"),
        (0x0008103E, "LO", "AXIAL 1 MM"),
        (0x00100010, "PN", f"Test^Patient {series // 4}"),
        (0x00100020, "LO", f"P{series // 4}"),
        (0x00100030, "DA", "19700101"),
        (0x00100040, "CS", "O"),
        (0x0020000D, "UI", f"1.2.826.0.1.3680043.9.2.{series // 4}"),
        (0x0020000E, "UI", f"1.2.826.0.1.3680043.9.3.{series}"),
        (0x00200011, "IS", str(series)),
        (0x00200013, "IS", str(number)),
    ]
    elements = [(tag, vr, text.encode()) for tag, vr, text in texts]
    elements += [(0x00280010, "US", b"\0\2"), (0x00280011, "US", b"\0\2")]
    return write_data_set([*elements, (0x7FE00010, "OW", pixels)], EXPLICIT_LITTLE)


class Counting:
    """An index that counts its transactions."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.transactions = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
    ) -> Sequence[AddResult]:
        self.transactions += 1
        return await self._index.add(records, replace=replace, one_patient=one_patient)


async def store_for(
    seconds: float, archive: Archive, writers: int, pixels: bytes, times: list[float]
) -> float:
    """Store with so many writers for about so long; the seconds that it took."""
    number = 0
    began = time.perf_counter()

    async def write() -> None:
        nonlocal number
        while time.perf_counter() - began < seconds:
            number += 1
            mine = number
            data = memoryview(data_set(mine, pixels))
            start = time.perf_counter()
            async with await archive.receive(
                sop_class_uid=CT,
                sop_instance_uid=f"1.2.826.0.1.3680043.9.1.{mine // PER_SERIES}.{mine}",
                transfer_syntax_uid=EXPLICIT_VR_LITTLE_ENDIAN,
                source_ae_title="BENCH",
            ) as ingest:
                for offset in range(0, len(data), PIECE):
                    await ingest.write([data[offset : offset + PIECE]])
                await ingest.commit()
            times.append(time.perf_counter() - start)

    async with trio.open_nursery() as nursery:
        for _ in range(writers):
            nursery.start_soon(write)
    return time.perf_counter() - began


async def measure(
    folder: Path, durability: Durability, name: str, writers: int, seconds: float
) -> None:
    pixels = os.urandom(SIZES[name])
    times: list[float] = []
    store = await open_file_store(folder, durability=durability)
    async with open_sqlite_database(folder / "index.db", durability=durability) as database:
        counting = Counting(DatabaseIndex(database))
        async with Archive(store, counting) as archive:  # type: ignore[arg-type]
            took = await store_for(seconds, archive, writers, pixels, times)
    await store.aclose()
    times.sort()
    count = len(times)
    print(
        f"{durability:8} {name:>7} {writers} writer{'s' * (writers > 1):1} "
        f"{count / took:8.0f}/s {count * SIZES[name] / took / 2**20:7.0f} MiB/s   "
        f"median {times[count // 2] * 1e3:6.2f} ms, 99 % {times[count * 99 // 100] * 1e3:7.2f} ms, "
        f"{count / counting.transactions:.1f} per transaction",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per line")
    parser.add_argument("--dir", type=Path, help="on the disk to measure (default: the temporary)")
    options = parser.parse_args()
    for durability in DURABILITIES:
        for name in SIZES:
            for writers in WRITERS:
                with tempfile.TemporaryDirectory(dir=options.dir) as folder:
                    trio.run(measure, Path(folder), durability, name, writers, options.seconds)


if __name__ == "__main__":
    main()
