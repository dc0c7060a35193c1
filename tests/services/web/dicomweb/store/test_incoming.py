"""Objects of a request: what they are is known in time, however their bytes are cut."""

from __future__ import annotations

from functools import partial

import pytest

from isocenter.services.dicom.file_recognition import FIRST_BYTES
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, data_set, data_set_of, opened, uid
from support.odd_files import Ids, OddFile, odd_files

CALLER = Caller(association="http-1", address="127.0.0.1:1")


def files(pixels: int) -> dict[str, OddFile]:
    data_set_in = partial(data_set, 1, pixels=bytes(pixels))
    return odd_files(Ids(CT, uid(1)), lambda encoding: data_set_in(encoding=encoding))


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (1, 2000),
        (700, 2000),
        (FIRST_BYTES - 1, 2000),
        (FIRST_BYTES, 2000),
        (FIRST_BYTES + 1, 2000),
        (99_999, 700 << 10),
    ],
)
async def test_objects_are_kept_however_their_bytes_are_cut(size: int, pixels: int) -> None:
    for name, file in files(pixels).items():
        async with opened(MemoryStore()) as archive:
            async with Incoming(archive, Notices(), CALLER, "") as incoming:
                for content in (file.content, b"no object at all" * 99):
                    incoming.begin()
                    for start in range(0, len(content), size):
                        await incoming.write(content[start : start + size])
                    await incoming.end()
            assert [one.status for one in incoming.outcomes] == [0, 0xC000], name
            stored = (await archive.index.get([uid(1)]))[uid(1)]
            assert stored.transfer_syntax_uid == file.transfer_syntax_uid
            assert await data_set_of(archive, stored) == file.data_set, name
