"""Change of the master key of encrypted objects, while a server is at work.

Only the header of an object changes: its own key is encrypted anew, and what is encrypted with that
stays.  So whoever reads it meanwhile reads on.  A store changes no part of an object, so it is
written as a whole, in the place of itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import field
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.objects.cloud.bucket import Bucket
from isocenter.storage.objects.cloud.encryption import HEADER_BYTES, MasterKeys, name_in
from isocenter.storage.objects.cloud.errors import BucketError
from isocenter.storage.objects.cloud.films import FILMS_BELOW, job_of
from isocenter.storage.objects.cloud.store import KEYS_BELOW, key_of
from isocenter.storage.objects.cloud.trash import OBJECTS_IN_TRASH

_PIECE: Final = 8 << 20
_AT_ONCE: Final = 8


@dataclass(slots=True)
class Rewrapped:
    """What became of the objects of a bucket.

    Attributes:
        done: have the first master key now.
        already: had it.
        plain: are not encrypted.
        faults: paths, and why they stay as they are.
    """

    done: int = 0
    already: int = 0
    plain: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)


class Rewrapper:
    """Gives all encrypted objects the first master key.

    Args:
        notes: where keys are noted: an object that is removed meanwhile must not come back.
        are_indexed: whether the index has objects under keys.
        folder: on a local disk, for what passes.
        keeps_films: whether there is a print job, or is about to be: its films are objects here as
            well.
    """

    def __init__(
        self,
        bucket: Bucket,
        master_keys: MasterKeys,
        notes: StagedKeys,
        are_indexed: Callable[[Sequence[str]], Awaitable[Sequence[bool]]],
        folder: str,
        keeps_films: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._bucket = bucket
        self._keys = master_keys
        self._notes = notes
        self._are_indexed = are_indexed
        self._folder = folder
        self._keeps_films = keeps_films
        self.report = Rewrapped()
        self._away: BucketError | None = None

    async def run(self, progress: Callable[[int], None] = lambda objects: None) -> Rewrapped:
        """All objects, and those in the trash, whose lock the caller has.

        Raises:
            StorageError: the store or the database is away; what is left can be done later.
        """
        seen = 0
        for prefix in (KEYS_BELOW, OBJECTS_IN_TRASH, FILMS_BELOW):
            async with aclosing(self._bucket.paths(prefix)) as blocks:
                async for block in blocks:
                    for start in range(0, len(block), _AT_ONCE):
                        async with trio.open_nursery() as nursery:
                            for path in block[start : start + _AT_ONCE]:
                                nursery.start_soon(self._one, path)
                        seen += len(block[start : start + _AT_ONCE])
                        progress(seen)
                        if self._away is not None:
                            raise self._away
        return self.report

    async def _one(self, path: str) -> None:
        try:
            size, header = await self._bucket.get(path, 0, HEADER_BYTES)
            head = self._keys.rewrapped(header, name_in(path))
            if head is None:
                self.report.plain += 1
            elif not head:
                self.report.already += 1
            elif await self._write(path, head, size):
                self.report.done += 1
        except KeyError:
            pass  # removed meanwhile
        except StorageError as error:
            if isinstance(error, BucketError) and error.is_away:
                self._away = error
            self.report.faults.append((path, str(error)))

    async def _write(self, path: str, head: bytes, size: int) -> bool:
        """Whether it was written; not: it is on its way in or out."""
        key = key_of(path)
        if key is not None and not (await self._notes.begin([key]))[0]:
            return False
        try:
            file = await trio.to_thread.run_sync(_begin, head, self._folder)
        except OSError as error:
            raise StorageError(f"cannot write in {self._folder}: {text_of(error)}") from error
        with file:
            async with aclosing(self._pieces(path, size)) as pieces:
                async for piece in pieces:
                    await trio.to_thread.run_sync(file.write, piece)
            await self._bucket.replace(path, file, size=size)
        job_uid = job_of(path)
        if job_uid and not await self._keeps_films(job_uid):
            # The job was forgotten meanwhile, and its films may have been removed before this.
            await self._bucket.delete(path)
            return False
        # Removed meanwhile: then the note stays, and it is swept.
        if key is not None and (await self._are_indexed([key]))[0]:
            await self._notes.end([key])
        return True

    async def _pieces(self, path: str, size: int) -> AsyncGenerator[Buffer, None]:
        for start in range(HEADER_BYTES, size, _PIECE):
            yield (await self._bucket.get(path, start, min(_PIECE, size - start)))[1]


def _begin(head: bytes, folder: str) -> IO[bytes]:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (the caller closes it)
    file.write(head)
    return file
