"""What leaves the archive is what came in, also when it leaves in several parts.

A part was read into the memory of the one before, which had not been sent yet.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.client import open_association
from isocenter.services.objects import PART_BYTES, DicomObject
from isocenter.services.peer import Peer
from isocenter.services.store import Storage
from isocenter.storage.filesystem import open_file_store
from services.archive_support import CT, data_set, data_set_of, opened, store, uid
from support.serving import port_of, serving

ENCODINGS = {
    EXPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_LITTLE,
    IMPLICIT_VR_LITTLE_ENDIAN: IMPLICIT_LITTLE,
}


@pytest.mark.parametrize("syntax", ENCODINGS)
@pytest.mark.parametrize("size", [PART_BYTES // 2, 2 * PART_BYTES, 4 * PART_BYTES + 2])
async def test_an_object_of_several_parts_arrives_as_it_is(
    size: int, syntax: str, tmp_path: Path
) -> None:
    pixels = Random(size).randbytes(size)
    ours, theirs = [await open_file_store(tmp_path / name) for name in ("ours", "theirs")]
    async with (
        opened(ours) as archive,
        opened(theirs) as destination,
        serving(Storage(destination, transfer_syntaxes=[syntax])) as server,
        open_association(Peer("X", "127.0.0.1", port_of(server)), [(CT, [syntax])]) as association,
    ):
        stored = (await store(archive, data=data_set(pixels=pixels))).instance
        response = await association.store(DicomObject.from_stored(stored, archive.open))
        assert response.status == 0x0000
        arrived = (await destination.get([uid(1)]))[uid(1)]
        # Converted where the destination takes the other syntax only.
        expected = data_set(pixels=pixels, encoding=ENCODINGS[syntax])
        assert await data_set_of(destination, arrived) == expected
