"""An archive on disk that can be corrected, with a trash, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.corrections.planning import CorrectionPlan
from isocenter.services.archive.corrections.service import CorrectionHappened, Corrections
from isocenter.services.archive.corrections.values import PatientKey, Scope
from isocenter.services.archive.deletion.service import Trash
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.verification import verify
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.stores import Stores, StoresOptions, open_sqlite_stores
from services.archive_support import STUDY, data_set, keys_of, opened, store
from storage.power_model import ModelFiles

ADMIN = Requester(name="root@here")
OTHER_STUDY, OTHER_SERIES = "1.2.9", "1.2.9.1"
NAME, ID = 0x00100010, 0x00100020
WHOLE_STUDY = Scope(study_instance_uid=STUDY)
P1, P2 = PatientKey("P1"), PatientKey("P2")


class Place:
    """An archive, what corrects it, and what was told of it."""

    def __init__(
        self, archive: Archive, stores: Stores, corrections: Corrections, trash: Trash
    ) -> None:
        self.archive = archive
        self.stores = stores
        self.corrections = corrections
        self.trash = trash
        self.told: list[CorrectionHappened] = []

    async def do(self, plan: CorrectionPlan) -> int:
        """Have it done; the number of the correction."""
        number = await self.corrections.order(plan, ADMIN, "a test")
        await self.corrections.work()
        return number

    async def rename(self, name: str = "Right^Name", scope: Scope = WHOLE_STUDY) -> int:
        """Correct a name."""
        return await self.do(await self.corrections.planner.correct(scope, {NAME: name}))

    async def undo(self, number: int) -> None:
        await self.corrections.undo(number, ADMIN, "it was right")
        await self.corrections.work()

    async def said(self, tag: int = NAME) -> dict[str, str]:
        """What the index says of each instance."""
        uids = [each async for each in self._uids()]
        records = await self.archive.index.records(uids)
        return {uid: record.attributes.get(tag, "") for uid, record in records.items()}

    async def _uids(self) -> AsyncIterator[str]:
        async with self.archive.index.instances() as blocks:
            async for block in blocks:
                for each in block:
                    yield each.sop_instance_uid

    async def content(self, uid: str) -> Dataset:
        """The object as it leaves."""
        stored = (await self.archive.index.get([uid]))[uid]
        async with await self.archive.open(stored) as reader:
            return dcmread(BytesIO(await reader.read(0, reader.size)))

    async def check(self) -> None:
        """Index and files agree, both ways, and nothing is left to be done."""
        report = await verify(self.archive)
        assert report.is_good, report
        assert not report.orphans.count, report.orphans
        assert not await self.corrections.book.studies(1)
        assert not await self.corrections.book.leaving()

    async def keys(self) -> set[str]:
        return await keys_of(self.archive)


@asynccontextmanager
async def place(
    folder: Path, *, files: ModelFiles | None = None, **options: Any
) -> AsyncIterator[Place]:
    object_store = await open_file_store(folder, files=files)
    tokens = count(1)

    def token() -> str:
        # other ones in another process
        return f"{len(list(folder.rglob('*'))):04x}{next(tokens):04x}"

    async with (
        open_sqlite_stores(
            folder / "index.db",
            StoresOptions(completion=CompletionRules(), now=lambda: 1_000.0),
        ) as stores,
        opened(
            object_store, stores.index, kept=stores.corrections, token=token, **options
        ) as archive,
    ):
        told: list[CorrectionHappened] = []

        async def record(happened: CorrectionHappened) -> None:
            told.append(happened)

        corrections = Corrections(
            archive, stores.corrections, record=record, now=lambda: 1_000.0, token=token
        )
        trash = Trash(archive, stores.trash, TrashFolder(object_store), keep_days=7, token=token)
        here = Place(archive, stores, corrections, trash)
        here.told = told
        yield here


async def fill(archive: Archive) -> None:
    """Three instances of one study of P1, one of another study of P2."""
    for number in (1, 2, 3):
        await store(archive, number)
    await store(
        archive,
        9,
        data_set(
            9, study=OTHER_STUDY, series=OTHER_SERIES, patient_id="P2", patient_name="Other^Otto"
        ),
    )
