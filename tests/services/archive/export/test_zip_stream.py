"""ZIP files that are made piece by piece."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

import pytest

from isocenter.services.archive.export.zip_stream import ZipStream

MADE = (2026, 11, 30, 1, 2, 4)


def filled(files: dict[str, list[bytes]], size: int = 0) -> bytes:
    stream = ZipStream(MADE)
    found: list[bytes] = []
    for name, pieces in files.items():
        stream.begin(PurePosixPath(name), size or sum(map(len, pieces)))
        for piece in pieces:
            stream.write(piece)
            found += map(bytes, stream.take())
        stream.end()
    stream.close()
    return b"".join([*found, *map(bytes, stream.take())])


@pytest.mark.parametrize("size", [0, 5 << 30])
def test_what_was_written_is_read_again(size: int) -> None:
    files = {"DICOM/ST000001": [b"a" * 1000, memoryview(b"b" * 7)], "EMPTY": [], "C": [b""]}
    content = filled(files, size)  # type: ignore[arg-type]
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == list(files)
        assert opened.read("DICOM/ST000001") == b"a" * 1000 + b"b" * 7
        assert opened.getinfo("EMPTY").date_time == MADE
    # A file that may become longer than 32 bits can say has a header with room for it.
    assert (b"\x01\x00\x10\x00" in content[:60]) is bool(size)


def test_nothing_is_kept_that_was_taken() -> None:
    stream = ZipStream()
    stream.begin(PurePosixPath("A"), 4)
    stream.write(b"1234")
    assert sum(map(len, stream.take())) > 4
    assert stream.take() == []
    stream.abandon()
    assert stream.take() == []
