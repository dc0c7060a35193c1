"""Mutated files through the whole path: each is decoded or refused, and costs nobody else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom.encaps import encapsulate

from isocenter.engine.dataset import DataSetError
from isocenter.services.dicom.pixels.encoding import encode_frame
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.frames import open_image
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transfer_syntaxes import BY_KEYWORD
from support.images import dataset_of, describe, file_of, pixels

from .test_frames import object_of

KEYWORDS = ("rle", "jpeg-baseline", "jpeg-lossless", "jpeg-ls", "jpeg2000", "htj2k", "jpegxl")
#: Of each syntax; all together they take some seconds.
COUNT = 60


def mutated(content: bytes, start: int, seed: int) -> Iterator[bytes]:
    """The file with a few bytes changed, cut or doubled behind *start*."""
    chance = random.Random(seed)
    for _ in range(COUNT):
        data = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(start, len(data))
            match chance.randrange(5):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    del data[at : at + chance.randrange(1, 40)]
                case 3:
                    data[at:at] = data[at : at + chance.randrange(1, 40)]
                case _:
                    data[at : at + 4] = chance.randbytes(4)
            if len(data) <= start:
                break
        yield bytes(data)


@pytest.mark.parametrize("keyword", KEYWORDS)
async def test_mutated_files(keyword: str) -> None:
    image = describe(24, 32, bits=8 if keyword == "jpeg-baseline" else 12)
    samples = pixels(image).tobytes()
    uid = BY_KEYWORD[keyword].uid
    frame, _ = encode_frame(samples, image, uid)
    dataset = dataset_of(image, [pixels(image)])
    dataset.file_meta.TransferSyntaxUID = BY_KEYWORD["jpeg-ls"].uid
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    whole = replace(object_of(file_of(dataset)), transfer_syntax_uid=uid)
    async with await whole.open() as reader:
        content = await reader.read(0, reader.size)
    decoded = 0
    faults: list[str] = []
    limits = PoolLimits(workers=1, frame_bytes=16 << 20, seconds=10)
    async with CodecPool(limits) as pool:
        for data in mutated(content, whole.data_set_offset, sum(keyword.encode())):
            item = replace(
                object_of(content[: whole.data_set_offset] + data[whole.data_set_offset :]),
                transfer_syntax_uid=uid,
            )
            try:
                async with open_image(item) as opened:
                    for number in range(min(len(opened), 3)):
                        found = await opened.decode(pool, number)
                        assert len(found.samples) == found.image.decoded_length
                decoded += 1
            except (PixelError, DataSetError) as fault:
                faults.append(str(fault))
        # And the next is decoded as ever.
        async with open_image(whole) as opened:
            assert len((await opened.decode(pool, 0)).samples) == len(samples)
    assert decoded + len(faults) == COUNT
    assert faults
    assert all(text.isprintable() and "WANDA" not in text for text in faults)
