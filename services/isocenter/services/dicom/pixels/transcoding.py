"""Transcoding of an object's pixels, frame by frame (PS3.5 A.4).

`transcode` gives an object that can be sent: its data set is made while it is read, frame by
frame.  Every element that the pixels do not concern stays byte for byte where the encoding of the
header stays.  What changes beside Pixel Data (PS3.3 C.7.6.3, C.7.6.1.1.5, PS3.5 8.2):

* Photometric Interpretation and Planar Configuration say what the frames are now.
* An encoding that loses something makes another object: a new SOP Instance UID, the same for each
  time that it is made; Image Type, Derivation Description and Source Image Sequence say of what;
  (0028,2110), (0028,2112) and (0028,2114) how.
* What was decoded from JPEG says that it was compressed with losses, where nobody said so yet.
* Extended offset tables, group lengths of changed groups, and digital signatures, which do not fit
  other bytes, are left out; so are an icon and private sequences whose pixels stay compressed where
  the others do not.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import BinaryIO, Final, Literal

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    encoding_of,
)
from isocenter.engine.dataset.vr import PIXEL_DATA
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.frames import FileReader, Image, open_image
from isocenter.services.dicom.pixels.image import (
    ImageDescription,
)
from isocenter.services.dicom.pixels.nested_pixels import edits_of_nested
from isocenter.services.dicom.pixels.pixel_edits import (
    DIGITAL_SIGNATURES,
    GROUP_LENGTHS,
    LOCATED,
    LOSSY,
    MAC_PARAMETERS,
    OFFSET_TABLES,
    WANTED,
    edited_element,
    edits_of_derived,
    edits_of_image,
)
from isocenter.services.dicom.pixels.pool import CodecPool, DecodedFrame
from isocenter.services.dicom.pixels.transcoded_data_set import Plan, encoded, has_vrs, segments_of
from isocenter.services.dicom.pixels.transfer_syntaxes import (
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_LOSSLESS_RPCL,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_XL,
    JPEG_XL_LOSSLESS,
    JPEG_XL_RECOMPRESSION,
    PIXEL_SYNTAXES,
    decodable,
    encodable,
)

log = logging.getLogger("isocenter.transcoding")

#: The longest value of native Pixel Data (PS3.5 7.1.1), even.
_MAX_NATIVE_LENGTH: Final = 0xFFFFFFFE

#: Source and target between which frames stay as they are: the second syntax allows all that the
#: first does.
_SAME_FRAMES: Final = frozenset(
    (
        (JPEG_LOSSLESS_SV1, JPEG_LOSSLESS),
        (JPEG_2000_LOSSLESS, JPEG_2000),
        (HTJ2K_LOSSLESS, HTJ2K),
        (HTJ2K_LOSSLESS_RPCL, HTJ2K_LOSSLESS),
        (HTJ2K_LOSSLESS_RPCL, HTJ2K),
        (JPEG_XL_LOSSLESS, JPEG_XL),
        (JPEG_XL_RECOMPRESSION, JPEG_XL),
    )
)
#: Between which a codestream of JPEG is packed, and comes back bit by bit.
_RECOMPRESSED: Final = frozenset(
    ((JPEG_BASELINE, JPEG_XL_RECOMPRESSION), (JPEG_XL_RECOMPRESSION, JPEG_BASELINE))
)
#: Their processes always lose something.
_ALWAYS_LOSSY: Final = (JPEG_BASELINE, JPEG_EXTENDED)

SignaturePolicy = Literal["remove", "refuse"]
#: What becomes of the samples of a frame.
FrameEdit = Callable[[DecodedFrame], DecodedFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodingOptions:
    """How objects are transcoded.

    Attributes:
        lossy: whether an encoding may lose something.
        encoding: how much.
        signatures: what becomes of digital signatures: they are left out, or such an object is
            not transcoded.
    """

    lossy: bool = False
    encoding: EncodingOptions = EncodingOptions()
    signatures: SignaturePolicy = "remove"


def is_lossless(source: str, target: str) -> bool:
    """Whether nothing of the pixels is lost on the way from one transfer syntax to another."""
    return (source, target) in _SAME_FRAMES | _RECOMPRESSED or not PIXEL_SYNTAXES[target].is_lossy


def check_possible(
    source: str, target: str, options: TranscodingOptions, *, is_edited: bool = False
) -> None:
    """Raise `PixelError` where no object of one syntax can become one of the other.

    Args:
        is_edited: whether every frame is decoded, to be edited.
    """
    if (source, target) in _SAME_FRAMES and not is_edited:
        return
    if (source, target) not in _RECOMPRESSED or is_edited:
        decodable(source)
    encodable(target)
    if not options.lossy and not is_lossless(source, target):
        raise CodecUnavailableError(
            f"{PIXEL_SYNTAXES[target].name} loses something of the pixels, and that is not allowed",
            target,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodedObject:
    """An object in another transfer syntax than it is kept in; it is made while it is read.

    Attributes:
        edit: what becomes of each decoded frame before it is encoded; None: nothing.  It runs in a
            thread.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    name: str
    source: DicomObject
    pool: CodecPool
    options: TranscodingOptions
    edit: FrameEdit | None = None

    async def check(self) -> None:
        """Look whether it can be made, as far as headers show.

        Raises:
            PixelError, DataSetError, StorageError, KeyError, OSError: it cannot.
        """
        async with _opened(self.source) as image:
            await _plan(self, image)

    async def estimate(self) -> int:
        """Bytes that the data set will have, or more: as if its pixels were not compressed.

        Raises:
            PixelError, DataSetError, StorageError, KeyError, OSError: it cannot be read.
        """
        async with _opened(self.source) as image:
            element = image.found.pixel_data
            assert element is not None
            others = image.size - (element.end - element.start)
            return others + len(image) * image.description.decoded_length

    async def parts(self, target: str | None = None) -> AsyncGenerator[tuple[Buffer, bool], None]:
        """The data set in pieces of even length, each with whether it is the last.

        Raises:
            PixelError, DataSetError, StorageError, KeyError, OSError: it cannot be made.
        """
        assert target in (None, self.transfer_syntax_uid)
        async with _opened(self.source) as image:
            plan = await _plan(self, image)
            held: list[Buffer] = []
            length = 0
            pieces = encoded(
                image,
                plan,
                _frames(self, image, plan),
                target=encoding_of(self.transfer_syntax_uid),
                part_length=self.source.part_length,
            )
            async for piece in pieces:
                held.append(piece)
                length += len(piece)
                if length >= self.source.part_length:
                    whole = b"".join(held)
                    even = (len(whole) - 1) & ~1
                    yield memoryview(whole)[:even], False
                    held = [whole[even:]]
                    length = len(whole) - even
            yield b"".join(held), True


async def transcode(
    item: DicomObject,
    to: str,
    pool: CodecPool,
    options: TranscodingOptions | None = None,
    *,
    edit: FrameEdit | None = None,
) -> TranscodedObject:
    """*item* in the transfer syntax *to*, in which nothing is made yet but what headers show.

    Raises:
        PixelError: it has no place there, nothing here encodes it, or it may not be.
        DataSetError, StorageError, KeyError, OSError: it cannot be read.
    """
    options = options or TranscodingOptions()
    source = item.transfer_syntax_uid
    check_possible(source, to, options, is_edited=edit is not None)
    uid = item.sop_instance_uid
    if not is_lossless(source, to):
        uid = _derived_uid(uid, to, options.encoding)
    made = TranscodedObject(
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=uid,
        transfer_syntax_uid=to,
        name=item.name,
        source=item,
        pool=pool,
        options=options,
        edit=edit,
    )
    await made.check()
    return made


def _derived_uid(uid: str, target: str, encoding: EncodingOptions) -> str:
    """The UID of what is made of an object so; each time the same (PS3.5 B.2)."""
    digest = hashlib.sha256(f"{uid}/{target}/{encoding}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}"


@asynccontextmanager
async def _opened(item: DicomObject) -> AsyncIterator[Image]:
    """Its image, in a data set of explicit VR little endian."""
    if encoding_of(item.transfer_syntax_uid) == EXPLICIT_LITTLE:
        async with open_image(item, wanted=WANTED, located=LOCATED, search_sequences=True) as image:
            yield image
        return
    with tempfile.TemporaryFile(buffering=0) as file:
        await _write(file, item)
        explicit = _ExplicitObject(file)
        async with open_image(
            explicit, wanted=WANTED, located=LOCATED, search_sequences=True
        ) as image:
            yield image


async def _write(file: BinaryIO, item: DicomObject) -> None:
    async for part, _ in item.parts(EXPLICIT_VR_LITTLE_ENDIAN):
        await trio.to_thread.run_sync(file.write, part)


class _ExplicitObject:
    """A data set of explicit VR little endian in a file."""

    transfer_syntax_uid = EXPLICIT_VR_LITTLE_ENDIAN
    data_set_offset = 0

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    async def open(self) -> FileReader:
        return FileReader(self._file, self._file.seek(0, 2))


async def _plan(made: TranscodedObject, image: Image) -> Plan:
    source, target = made.source.transfer_syntax_uid, made.transfer_syntax_uid
    found = image.found
    assert found.pixel_data is not None
    announced = image.description.number_of_frames or 1
    if len(image) != announced:
        raise ImageError(f"the data set announces {announced} frames, and has {len(image)}")
    is_encapsulated = PIXEL_SYNTAXES[target].is_encapsulated
    if found.pixel_data.tag != PIXEL_DATA and is_encapsulated:
        raise ImageError("floating point pixels have no place in a compressed transfer syntax")
    if is_encapsulated and not has_vrs(image):
        raise ImageError("the data set is written in implicit VR, against its transfer syntax")
    first, description = await _frame(made, image, 0)
    edits = edits_of_image(image, description)
    edits |= dict.fromkeys((*OFFSET_TABLES, *GROUP_LENGTHS), b"")
    if DIGITAL_SIGNATURES in found.spans:
        if made.options.signatures == "refuse":
            raise ImageError("it has digital signatures, which do not fit other pixel data")
        log.info("instance %s: its digital signatures were left out", made.source.sop_instance_uid)
        edits |= dict.fromkeys((MAC_PARAMETERS, DIGITAL_SIGNATURES), b"")
    is_native = not PIXEL_SYNTAXES[source].is_encapsulated
    keeps_syntax = is_native or source == target or (source, target) in _SAME_FRAMES
    if not is_encapsulated or not keeps_syntax:
        edits |= await edits_of_nested(image, made.source, made.pool)
    if not is_lossless(source, target):
        edits |= await edits_of_derived(
            image,
            made.source,
            target=target,
            sop_instance_uid=made.sop_instance_uid,
            length=len(first),
        )
    elif source in _ALWAYS_LOSSY and not found.values.get(LOSSY, b"").startswith(b"01"):
        edits[LOSSY] = edited_element(LOSSY, "CS", b"01")
    native = None
    if not is_encapsulated:
        native = (description.frame_bits * announced + 7) // 8
        if native + (native & 1) > _MAX_NATIVE_LENGTH:
            raise ImageError(f"{native} bytes are too long for native Pixel Data (PS3.5 7.1.1)")
    return Plan(
        segments=segments_of(image, edits),
        native=native,
        vr="OW" if native is not None and description.bits_allocated > 8 else "OB",
        first=first,
        description=description,
    )


async def _frame(
    made: TranscodedObject, image: Image, number: int
) -> tuple[bytes, ImageDescription]:
    """One frame as the target has it, and its description."""
    source, target = made.source.transfer_syntax_uid, made.transfer_syntax_uid
    if made.edit is None and (source, target) in _SAME_FRAMES:
        return await image.read(number), image.description
    if made.edit is None and (source, target) in _RECOMPRESSED:
        data = await image.read(number)
        return await made.pool.recompress(data, image.description, target), image.description
    decoded = await image.decode(made.pool, number)
    if made.edit is not None:
        decoded = await trio.to_thread.run_sync(made.edit, decoded)
    if not PIXEL_SYNTAXES[target].is_encapsulated:
        return decoded.samples, decoded.image
    return await made.pool.encode(decoded, target, made.options.encoding)


async def _frames(made: TranscodedObject, image: Image, plan: Plan) -> AsyncGenerator[bytes, None]:
    yield plan.first
    for number in range(1, len(image)):
        frame, description = await _frame(made, image, number)
        if description != plan.description:
            raise ImageError(f"frame {number + 1} is of another kind than the first")
        yield frame
