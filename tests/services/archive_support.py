"""Small objects, and stores and indexes that fail on demand, for tests of the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from itertools import count
from typing import Any

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import EXPLICIT_LITTLE, Encoding, write_data_set
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ingest import Ingest
from isocenter.services.archive.ports import (
    AddResult,
    InstanceRecord,
    StagedObject,
    StoredInstance,
)
from isocenter.services.archive.store_answers import StoreResult
from isocenter.services.errors import StorageError
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.3", "1.2.3.4"


#: What a peer may say where a UID belongs, and what never is taken.
BAD_UIDS = [
    "", "../1", "1.2/3", "/1.2", "/", ".", "..", "1.2\0", "1.2\n", "1" * 65, "1\\2", "1*2", "1?2",
    " 1.2", "1.2 ", "1.2.é", "\x7f", "1.2\x1b", "=:" * 32,
]  # fmt: skip
#: What breaks PS3.5 9.1 and can be a name (`storage.uids`).
ODD_UIDS = [
    "1..2", "1.2.", ".1.2", "...", "1.2.a", "1.2.A", "a.1", "-1", "1-2", "1.2 3", "urn:oid:1.2",
    "{A1B2C3D4-E5F6-4a7b-8C9D-0E1F2A3B4C5D}", "1.2_3", "_2e", "__", "1.2~3", "1.2~0123abcd",
    "1.2.dcm", "con", "A" * 64, "aB" * 32, "1" * 63 + ".", "%2e%2e", "1,2;3=4+5", "'\"<>|",
]  # fmt: skip


def uid(number: int) -> str:
    return f"1.2.3.4.{number}"


def data_set(
    number: int = 1,
    *,
    sop_class: str = CT,
    study: str = STUDY,
    series: str = SERIES,
    instance: str = "",
    study_date: str = "20240229",
    study_time: str = "",
    pixels: bytes = b"\1\2\3\4",
    patient_id: str = "P1",
    patient_name: str = "Bäcker^Anna",
    encoding: Encoding = EXPLICIT_LITTLE,
) -> bytes:
    elements: list[tuple[int, str, bytes]] = [
        (0x00080005, "CS", b"ISO_IR 192"),
        (0x00080016, "UI", sop_class.encode()),
        (0x00080018, "UI", (instance or uid(number)).encode()),
        (0x00080020, "DA", study_date.encode()),
        (0x00080030, "TM", study_time.encode()),
        (0x00080060, "CS", b"CT"),
        (0x00100010, "PN", patient_name.encode()),
        (0x00100020, "LO", patient_id.encode()),
        (0x0020000D, "UI", study.encode()),
        (0x0020000E, "UI", series.encode()),
        (0x7FE00010, "OW", pixels),
    ]
    return write_data_set([element for element in elements if element[2]], encoding)


async def receive(archive: Archive, number: int = 1, **options: Any) -> Ingest:
    return await archive.receive(
        **{
            "sop_class_uid": CT,
            "sop_instance_uid": uid(number),
            "transfer_syntax_uid": EXPLICIT_VR_LITTLE_ENDIAN,
            "source_ae_title": "SENDER",
            **options,
        }
    )


async def store(
    archive: Archive, number: int = 1, data: Buffer | None = None, **options: Any
) -> StoreResult:
    async with await receive(archive, number, **options) as ingest:
        await ingest.write([data_set(number) if data is None else data])
        return await ingest.commit()


async def data_set_of(archive: Archive, stored: StoredInstance) -> bytes:
    async with await archive.open(stored) as reader:
        assert reader.size == stored.size
        return await reader.read(stored.data_set_offset, reader.size)


async def keys_of(archive: Archive) -> set[str]:
    found: set[str] = set()
    async with archive.store.keys() as blocks:
        async for block in blocks:
            found.update(block)
    return found


@asynccontextmanager
async def opened(object_store: Any, index: Any = None, **options: Any) -> AsyncIterator[Archive]:
    """An archive whose today and whose tokens are known."""
    serial = count(1)
    options.setdefault("today", lambda: date(2026, 11, 20))
    options.setdefault("token", lambda: f"{next(serial):08x}")
    archive = Archive(object_store, MemoryIndex() if index is None else index, **options)
    try:
        async with archive:
            yield archive
    finally:
        has_crashed = getattr(getattr(object_store, "files", None), "crashed", False)
        if not has_crashed:  # or nobody is there who could
            with trio.CancelScope(shield=True):
                await object_store.aclose()


class FailingIndex(MemoryIndex):
    """Fails while `error` is set; counts transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.get_error: StorageError | None = None
        self.transactions: list[int] = []

    async def add(
        self,
        records: Sequence[InstanceRecord],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        self.transactions.append(len(records))
        if self.error is not None:
            raise self.error
        return await super().add(
            records,
            replace=replace,
            one_patient=one_patient,
            unless_same=unless_same,
        )

    @asynccontextmanager
    async def rebuilding(self) -> AsyncIterator[MemoryIndex]:
        if self.error is not None:
            raise self.error
        async with super().rebuilding() as new:
            yield new

    async def get(self, sop_instance_uids: Sequence[str]) -> Any:
        if self.get_error is not None:
            raise self.get_error
        return await super().get(sop_instance_uids)


class OneHopIndex(FailingIndex):
    """The same, with a thread that publishes before it adds, as that of a database does."""

    async def add_after(
        self,
        publish: Callable[[], Sequence[InstanceRecord]],
        *,
        replace: bool = False,
        one_patient: bool = False,
        unless_same: bool = False,
    ) -> Sequence[AddResult]:
        records = await trio.to_thread.run_sync(publish)
        if not records:
            return ()
        return await self.add(
            records, replace=replace, one_patient=one_patient, unless_same=unless_same
        )


class BlockingMemoryStore(MemoryStore):
    """Objects in memory that are published in the thread of an index."""

    def publishing(
        self, staged: Sequence[tuple[StagedObject, str]]
    ) -> Callable[[], Sequence[StorageError | FileExistsError | None]]:
        return lambda: [self._publish(one, key) for one, key in staged]

    async def prepare_always(self) -> None:
        await trio.sleep_forever()
