"""Objects on their way into a bucket, in memory or in a file.

The key of an object is known when all of it has come, since it is made of what the object says.
So an object is written to the bucket as a whole, from memory or from a file that a crash leaves
no trace of; a request that fails can be repeated.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import IO, Final

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.errors import StorageError, text_of
from isocenter.storage.objects.cloud.encryption import HEADER_BYTES, ObjectCipher

#: Objects up to this size wait in memory, and are one request.
SMALL_OBJECT: Final = 8 << 20
#: Of a larger one, what is written to the file in one go.
_PIECE: Final = 1 << 20
#: What is shorter is made longer before another piece is begun.
_JOINED: Final = 64 << 10


class Stage(Enum):
    """How far an object has come."""

    WRITING = "writing"
    #: It is in the bucket, under the key that it was uploaded for.
    UPLOADED = "uploaded"
    PUBLISHED = "published"
    GONE = "gone"


class StagedUpload:
    """See `isocenter.services.archive.ports.StagedObject`.

    Args:
        folder: where the file of a larger object is made.
        upload: brings it into the bucket, and says in `stage` and `key` what came of it.
        withdraw: takes it out again, or what was noted for it.
        cipher: encrypts it; what is held, and what lies in the file, is encrypted then.
    """

    __slots__ = (
        "_cipher", "_folder", "_head", "_is_sealed", "_upload", "_withdraw", "_writers", "file",
        "is_taken", "key", "noted", "parts", "size", "stage", "unwritten",
    )  # fmt: skip

    def __init__(
        self,
        folder: str,
        writers: trio.CapacityLimiter,
        upload: Callable[[StagedUpload, str], Awaitable[None]],
        withdraw: Callable[[StagedUpload], Awaitable[None]],
        cipher: ObjectCipher | None = None,
    ) -> None:
        self._folder = folder
        self._writers = writers
        self._upload = upload
        self._withdraw = withdraw
        self._cipher = cipher
        self._is_sealed = False
        #: Stands before all else, once it is known.
        self._head = b""
        #: What is in memory; of a larger object what is not in the file yet.
        self.parts: list[bytearray] = []
        self.unwritten = 0
        self.file: IO[bytes] | None = None
        #: Of what is to be in the bucket.
        self.size = 0 if cipher is None else HEADER_BYTES
        self.stage = Stage.WRITING
        self.key = ""
        #: The key that is noted for it, and under which it is not yet; empty: none is.
        self.noted = ""
        #: Another object has the key.
        self.is_taken = False

    async def write(self, buffers: Sequence[Buffer]) -> None:
        self.check_open()
        for buffer in buffers:
            if self._cipher is None:
                self._take(buffer)
                continue
            for segment in self._cipher.feed(buffer):
                self._take(segment)
        if self.unwritten > (SMALL_OBJECT if self.file is None else _PIECE):
            await self._to_file()

    def _take(self, data: Buffer) -> None:
        # Joined, so that a sender of very small pieces does not cost many times what it sends.
        if self.parts and len(self.parts[-1]) < _JOINED:
            self.parts[-1] += data
        else:
            self.parts.append(bytearray(data))
        self.unwritten += len(data)
        self.size += len(data)

    async def spill(self) -> bool:
        self.check_open()
        await self._to_file()
        return True

    async def finish(self, key: str = "") -> None:
        self.check_open()
        await self._upload(self, key)

    async def discard(self) -> None:
        is_uploaded = self.stage is Stage.UPLOADED
        self.stage = Stage.GONE
        self.release()
        if is_uploaded or self.noted:
            with trio.CancelScope(shield=True):
                await self._withdraw(self)

    def check_open(self) -> None:
        """Raises:
        StorageError: it is not here any more.
        """
        if self.stage in (Stage.PUBLISHED, Stage.GONE):
            raise StorageError("the staged object was discarded or published already")

    def release(self) -> None:
        """Hold nothing of it any more."""
        self.parts = []
        self.unwritten = 0
        if self.file is not None:
            self.file.close()
            self.file = None

    @property
    def whole(self) -> list[Buffer]:
        """All of it, where it is in memory."""
        return [self._head, *self.parts]

    async def seal(self, name: str) -> None:
        """All is written: make it what it is to be in the bucket, under that name."""
        if self._cipher is not None:
            if not self._is_sealed:
                self._is_sealed = True
                self._take(self._cipher.finish())
            self._head = self._cipher.header(name)
        if self.file is not None:
            await self._to_file()

    async def _to_file(self) -> None:
        parts, self.parts, self.unwritten = self.parts, [], 0
        try:
            self.file = await trio.to_thread.run_sync(
                _write,
                self.file,
                parts,
                None if self._cipher is None else self._head,
                self._folder,
                limiter=self._writers,
            )
        except OSError as error:
            raise StorageError(
                f"a large object cannot be put aside in {self._folder} until it is uploaded: "
                f"{text_of(error)}; make room there",
                out_of_resources=True,
            ) from error


def _write(
    file: IO[bytes] | None, parts: Sequence[Buffer], head: bytes | None, folder: str
) -> IO[bytes]:
    """Append *parts*; *head*: of an encrypted object, empty as long as it is not known."""
    if file is None:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (it is the object's)
        if head is not None:
            parts = [bytes(HEADER_BYTES), *parts]
    if head:
        os.pwrite(file.fileno(), head, 0)
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[file.write(view) or 0 :]
    return file
