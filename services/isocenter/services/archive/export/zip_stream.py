"""ZIP file made piece by piece, which lies nowhere as a whole."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath
from time import localtime
from typing import IO, Final

from isocenter.engine.buffers import Buffer
from isocenter.services.archive.export.targets import FILE_MODE, LONGEST_SHORT


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken; cannot go back, so sizes and CRCs follow their
    bytes (a data descriptor, APPNOTE.TXT 4.3.9)."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[Buffer] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:  # type: ignore[override]  # those of Python take more than bytes
        if len(data):
            self.pieces.append(data)
        return len(data)


class ZipStream:
    """Takes files, and gives the bytes of a ZIP file; of any size (ZIP64), nothing compressed:
    images hardly are any smaller for it.

    Args:
        made: when, as the files in it say: year, month, day, hour, minute, second.
    """

    def __init__(self, made: tuple[int, int, int, int, int, int] | None = None) -> None:
        self._sink: Final = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED, allowZip64=True)
        now = localtime()
        self._made = made or (now[0], now[1], now[2], now[3], now[4], now[5])
        self._entry: IO[bytes] | None = None

    def begin(self, name: PurePosixPath, size: int) -> None:
        """Begin a file.

        Args:
            size: how long it becomes, or about so.
        """
        entry = zipfile.ZipInfo(str(name), self._made)
        entry.external_attr = FILE_MODE
        self._entry = self._zip.open(entry, "w", force_zip64=size > LONGEST_SHORT)

    def write(self, piece: Buffer) -> None:
        """More of the file that was begun; *piece* stays as it is until it was taken."""
        assert self._entry is not None
        self._entry.write(piece)

    def end(self) -> None:
        """The file is whole."""
        assert self._entry is not None
        self._entry.close()
        self._entry = None

    def close(self) -> None:
        """All files are there: only the directory of the ZIP file is left to be taken."""
        self._zip.close()

    def abandon(self) -> None:
        """Nobody wants the rest."""
        if self._entry is not None:
            self._entry.close()
        self._zip.close()
        self._sink.pieces.clear()

    def take(self) -> list[Buffer]:
        """What is ready to leave."""
        pieces, self._sink.pieces = self._sink.pieces, []
        return pieces
