"""Bulk data of one store request, in a temporary file."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import unquote, urljoin

import trio

from isocenter.engine.buffers import Buffer
from isocenter.services.dicom.creation.payloads import BulkPart
from isocenter.services.dicom.long_values import FileRange
from isocenter.services.net.http.messages import HttpError

#: Bytes that are written at once.
_TOGETHER: Final = 1 << 20
_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_RETRY_SECONDS: Final = 60


class BulkSpool:
    """Parts by where they say they are.  A context manager: left, nothing of them is there.

    The file is without a name, in the folder of temporary files (``TMPDIR``).  It is cut back
    whenever nobody waits for anything in it, so that a request with an object in each part takes
    no more of the disk than one of them.

    Args:
        base: what relative locations are relative to; only to compare them.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._file: IO[bytes] | None = None
        self._length = 0
        self._pending = bytearray()
        self._parts: dict[str, list[BulkPart]] = {}
        self._begun: tuple[str, str, str] | None = None
        self._start = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def key(self, location: str) -> str:
        """What *location*, of a part or in metadata, is compared by."""
        text = location.strip().removeprefix("<").removesuffix(">").strip()
        return unquote(urljoin(self._base, text))

    def begin(self, key: str, media_type: str, transfer_syntax_uid: str) -> None:
        """A part begins."""
        self._begun = key, media_type, transfer_syntax_uid
        self._start = self._length

    async def write(self, data: Buffer) -> None:
        """Some of it.

        Raises:
            HttpError: there is no room for it (503).
        """
        self._pending += data
        self._length += len(data)
        if len(self._pending) >= _TOGETHER:
            await self._flush()

    async def end(self) -> str:
        """It is here as a whole; its key.

        Raises:
            HttpError: there is no room for it (503).
        """
        assert self._begun is not None
        key, media_type, syntax = self._begun
        await self._flush()
        file = self._opened()
        value = FileRange(file.fileno(), self._start, self._length - self._start)
        part = BulkPart(media_type=media_type, transfer_syntax_uid=syntax, value=value)
        self._parts.setdefault(key, []).append(part)
        return key

    def get(self, key: str) -> list[BulkPart]:
        """The parts that are there, in their order."""
        return self._parts.get(key, [])

    def __contains__(self, key: str) -> bool:
        return key in self._parts

    def forget(self, keys: Iterable[str]) -> None:
        """Nobody needs these any more."""
        for key in keys:
            self._parts.pop(key, None)
        if not self._parts and self._length and self._file is not None:
            self._file.truncate(0)
            self._file.seek(0)
            self._length = 0

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._parts)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 – closed by __exit__
        return self._file

    async def _flush(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, bytearray()
        try:
            await trio.to_thread.run_sync(_write_all, self._opened(), pending)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise HttpError(
                    503,
                    "NO_ROOM",
                    "there is no room for the bulk data of the request now",
                    [("retry-after", str(_RETRY_SECONDS))],
                ) from error
            raise


def _write_all(file: IO[bytes], data: bytearray) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
