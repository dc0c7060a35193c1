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
import struct
import tempfile
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO, Final, Literal

import trio

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Reencoder,
    Survey,
    encoding_of,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.pixel_data import (
    EXTENDED_OFFSET_TABLE,
    EXTENDED_OFFSET_TABLE_LENGTHS,
)
from isocenter.engine.dataset.vr import PIXEL_DATA, SEQUENCE_DELIMITATION
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import Limits
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.data_dictionary import dictionary_vr_choice
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.encoding import EncodingOptions
from isocenter.services.dicom.pixels.errors import CodecUnavailableError, ImageError
from isocenter.services.dicom.pixels.frames import FileReader, Image, open_image
from isocenter.services.dicom.pixels.image import (
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    ImageDescription,
)
from isocenter.services.dicom.pixels.pool import CodecPool
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
    Codec,
    decodable,
    encodable,
)

log = logging.getLogger("isocenter.transcoding")

_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_DERIVATION_DESCRIPTION: Final = 0x00082111
_SOURCE_IMAGE_SEQUENCE: Final = 0x00082112
_LOSSY: Final = 0x00282110
_LOSSY_RATIO: Final = 0x00282112
_LOSSY_METHOD: Final = 0x00282114
_ICON_IMAGE_SEQUENCE: Final = 0x00880200
_DIGITAL_SIGNATURES: Final = 0xFFFAFFFA
_GROUP_LENGTHS: Final = (0x00080000, 0x00280000, 0x7FE00000, 0xFFFA0000)
_TABLES: Final = (EXTENDED_OFFSET_TABLE, EXTENDED_OFFSET_TABLE_LENGTHS)
_WANTED: Final = frozenset(
    (
        _IMAGE_TYPE, _SOP_CLASS_UID, _SOP_INSTANCE_UID, _DERIVATION_DESCRIPTION,
        _LOSSY, _LOSSY_RATIO, _LOSSY_METHOD,
    )
)  # fmt: skip
_LOCATED: Final = _WANTED | frozenset(
    (
        PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, _SOURCE_IMAGE_SEQUENCE,
        _ICON_IMAGE_SEQUENCE, _DIGITAL_SIGNATURES, *_GROUP_LENGTHS, *_TABLES,
    )
)  # fmt: skip
#: A sequence that is looked into is held: icons have some 64 × 64 pixels.
_SEQUENCE_LIMITS: Final = Limits(identifier=4 << 20)
_MAX_ST: Final = 1024
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
#: Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1).
_METHODS: Final[Mapping[Codec, bytes]] = {
    Codec.JPEG: b"ISO_10918_1",
    Codec.JPEG_LS: b"ISO_14495_1",
    Codec.JPEG_2000: b"ISO_15444_1",
    Codec.HTJ2K: b"ISO_15444_15",
    Codec.JPEG_XL: b"ISO_18181_1",
}
#: Their processes always lose something.
_ALWAYS_LOSSY: Final = (JPEG_BASELINE, JPEG_EXTENDED)

#: Bytes of 0 and 1 to digits.
_DIGITS: Final = bytes(48 + (byte != 0) for byte in range(256))

SignaturePolicy = Literal["remove", "refuse"]


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


def check_possible(source: str, target: str, options: TranscodingOptions) -> None:
    """Raise `PixelError` where no object of one syntax can become one of the other."""
    if (source, target) in _SAME_FRAMES:
        return
    if (source, target) not in _RECOMPRESSED:
        decodable(source)
    encodable(target)
    if not options.lossy and not is_lossless(source, target):
        raise CodecUnavailableError(
            f"{PIXEL_SYNTAXES[target].name} loses something of the pixels, and that is not allowed",
            target,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodedObject:
    """An object in another transfer syntax than it is kept in; it is made while it is read."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    name: str
    source: DicomObject
    pool: CodecPool
    options: TranscodingOptions

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
            async for piece in _encoded(self, image, plan):
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
) -> TranscodedObject:
    """*item* in the transfer syntax *to*, in which nothing is made yet but what headers show.

    Raises:
        PixelError: it has no place there, nothing here encodes it, or it may not be.
        DataSetError, StorageError, KeyError, OSError: it cannot be read.
    """
    options = options or TranscodingOptions()
    source = item.transfer_syntax_uid
    check_possible(source, to, options)
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
        async with open_image(
            item, wanted=_WANTED, located=_LOCATED, search_sequences=True
        ) as image:
            yield image
        return
    with tempfile.TemporaryFile(buffering=0) as file:
        await _write(file, item)
        explicit = _ExplicitObject(file)
        async with open_image(
            explicit, wanted=_WANTED, located=_LOCATED, search_sequences=True
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


@dataclass(frozen=True, slots=True)
class _Copy:
    """Bytes of the source."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The place of Pixel Data."""


_Segment = _Copy | _Pixels | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How the data set is put together.

    Attributes:
        native: what Pixel Data holds natively, in bytes; None: fragments.
        vr: of Pixel Data.
        first: the first frame, as it will stand there.
        description: of all frames then.
    """

    segments: Sequence[_Segment]
    native: int | None
    vr: str
    first: bytes
    description: ImageDescription


async def _plan(made: TranscodedObject, image: Image) -> _Plan:
    source, target = made.source.transfer_syntax_uid, made.transfer_syntax_uid
    found = image.found
    assert found.pixel_data is not None
    announced = image.description.number_of_frames or 1
    if len(image) != announced:
        raise ImageError(f"the data set announces {announced} frames, and has {len(image)}")
    is_encapsulated = PIXEL_SYNTAXES[target].is_encapsulated
    if found.pixel_data.tag != PIXEL_DATA and is_encapsulated:
        raise ImageError("floating point pixels have no place in a compressed transfer syntax")
    if is_encapsulated and not _has_vrs(image):
        raise ImageError("the data set is written in implicit VR, against its transfer syntax")
    first, description = await _frame(made, image, 0)
    edits = _edits_of_image(image, description)
    edits |= dict.fromkeys((*_TABLES, *_GROUP_LENGTHS), b"")
    if _DIGITAL_SIGNATURES in found.spans:
        if made.options.signatures == "refuse":
            raise ImageError("it has digital signatures, which do not fit other pixel data")
        log.info("instance %s: its digital signatures were left out", made.source.sop_instance_uid)
        edits[_DIGITAL_SIGNATURES] = b""
    if not is_encapsulated:
        edits |= _edits_of_compressed(made, image)
    if not is_lossless(source, target):
        edits |= await _edits_of_derived(made, image, len(first))
    elif source in _ALWAYS_LOSSY and not found.values.get(_LOSSY, b"").startswith(b"01"):
        edits[_LOSSY] = _element(_LOSSY, "CS", b"01")
    native = None
    if not is_encapsulated:
        native = (description.frame_bits * announced + 7) // 8
        if native + (native & 1) > _MAX_NATIVE_LENGTH:
            raise ImageError(f"{native} bytes are too long for native Pixel Data (PS3.5 7.1.1)")
    return _Plan(
        segments=_segments(image, edits),
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
    if (source, target) in _SAME_FRAMES:
        return await image.read(number), image.description
    if (source, target) in _RECOMPRESSED:
        data = await image.read(number)
        return await made.pool.recompress(data, image.description, target), image.description
    decoded = await image.decode(made.pool, number)
    if not PIXEL_SYNTAXES[target].is_encapsulated:
        return decoded.samples, decoded.image
    return await made.pool.encode(decoded, target, made.options.encoding)


def _element(tag: int, vr: str, value: bytes) -> bytes:
    """One element; its value gets the padding that it needs."""
    if len(value) & 1:
        value += b"\0" if vr == "UI" else b" "
    return write_data_set([(tag, vr, value)], EXPLICIT_LITTLE)


def _edits_of_image(image: Image, description: ImageDescription) -> dict[int, bytes]:
    """Elements that say of the pixels what was otherwise before; as they are in the data set."""
    edits: dict[int, bytes] = {}
    before = image.description
    term = description.photometric_interpretation
    if term != before.photometric_interpretation:
        edits[PHOTOMETRIC_INTERPRETATION] = _element(
            PHOTOMETRIC_INTERPRETATION, "CS", term.encode()
        )
    if description.planar_configuration != before.planar_configuration:
        value = description.planar_configuration.to_bytes(2, "little")
        edits[PLANAR_CONFIGURATION] = _element(PLANAR_CONFIGURATION, "US", value)
    return edits


async def _edits_of_derived(made: TranscodedObject, image: Image, length: int) -> dict[int, bytes]:
    """What says of an object that it was made of another, with losses."""
    values = image.found.values
    syntax = PIXEL_SYNTAXES[made.transfer_syntax_uid]
    assert syntax.codec is not None

    def appended(tag: int, value: bytes) -> bytes:
        before = values.get(tag, b"").strip(b" \0")
        return before + b"\\" + value if before else value

    kinds = values.get(_IMAGE_TYPE, b"").strip(b" \0").split(b"\\")[1:] or [b"SECONDARY"]
    ratio = f"{image.description.frame_length / length:.4g}".encode()
    method = appended(_LOSSY_METHOD, _METHODS[syntax.codec])
    said = f"Lossy compression: {syntax.name}".encode()
    before = values.get(_DERIVATION_DESCRIPTION, b"").rstrip(b" \0")
    if before and len(before) + len(said) + 2 <= _MAX_ST:
        said = before + b"; " + said
    return {
        _IMAGE_TYPE: _element(_IMAGE_TYPE, "CS", b"\\".join((b"DERIVED", *kinds))),
        _SOP_INSTANCE_UID: _element(_SOP_INSTANCE_UID, "UI", made.sop_instance_uid.encode()),
        _DERIVATION_DESCRIPTION: _element(_DERIVATION_DESCRIPTION, "ST", said),
        _SOURCE_IMAGE_SEQUENCE: await _source_images(made, image),
        _LOSSY: _element(_LOSSY, "CS", b"01"),
        _LOSSY_RATIO: _element(_LOSSY_RATIO, "DS", appended(_LOSSY_RATIO, ratio)),
        _LOSSY_METHOD: _element(_LOSSY_METHOD, "CS", method),
    }


async def _source_images(made: TranscodedObject, image: Image) -> bytes:
    """Source Image Sequence with one more item: the object that this one is made of."""
    item = write_data_set(
        [
            (0x00081150, "UI", _even_uid(made.source.sop_class_uid)),
            (0x00081155, "UI", _even_uid(made.source.sop_instance_uid)),
        ],
        EXPLICIT_LITTLE,
    )
    content = struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
    before = await _located(image, _SOURCE_IMAGE_SEQUENCE)
    if before[4:6] == b"SQ":
        delimitation = struct.pack("<HHI", SEQUENCE_DELIMITATION >> 16, 0xE0DD, 0)
        content = before[12:].removesuffix(delimitation) + content
    tag = _SOURCE_IMAGE_SEQUENCE
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(content)) + content


def _even_uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) & 1)


async def _located(image: Image, tag: int) -> bytes:
    """A located element with its header; empty where it is not there.

    Raises:
        ImageError: it is too long to be held.
    """
    span = image.found.spans.get(tag)
    if span is None:
        return b""
    if span.length > _SEQUENCE_LIMITS.identifier:
        raise ImageError(f"a sequence of {span.length} bytes that has to be looked into")
    return await image.read_bytes(span.offset, span.length)


def _edits_of_compressed(made: TranscodedObject, image: Image) -> dict[int, bytes]:
    """Leaves out icons, and private sequences, in which pixels stay compressed: a native data
    set cannot hold them.

    Raises:
        ImageError: another sequence has some.
    """
    edits: dict[int, bytes] = {}
    for tag in image.found.encapsulating:
        if tag != _ICON_IMAGE_SEQUENCE and not tag >> 16 & 1:
            raise ImageError(f"compressed pixels within {tag_text(tag)}")
        log.info(
            "instance %s: %s, which has compressed pixels, was left out",
            made.source.sop_instance_uid,
            tag_text(tag),
        )
        edits[tag] = b""
    return edits


def _segments(image: Image, edits: Mapping[int, bytes]) -> list[_Segment]:
    """The data set in pieces: what is copied, what is put in, and where the pixels go."""
    found = image.found
    element = found.pixel_data
    assert element is not None
    #: Where, in the order of tags, up to where the source is left out, what stands there.
    changes: list[tuple[int, int, int, _Segment]] = [
        (element.start, element.tag, element.end, _Pixels())
    ]
    for tag, data in edits.items():
        span = found.spans.get(tag) or found.encapsulating.get(tag)
        if span is not None:
            changes.append((span.offset, tag, span.end, data))
        elif data:
            at = found.gaps[tag]
            changes.append((at, tag, at, data))
    segments: list[_Segment] = []
    position = 0
    for start, _, end, segment in sorted(changes, key=lambda change: change[:2]):
        if start > position:
            segments.append(_Copy(position, start))
        segments.append(segment)
        position = max(position, end)
    if position < image.size:
        segments.append(_Copy(position, image.size))
    return segments


async def _encoded(
    made: TranscodedObject, image: Image, plan: _Plan
) -> AsyncGenerator[Buffer, None]:
    """The data set, in the encoding of the target."""
    target = encoding_of(made.transfer_syntax_uid)
    has_vrs = _has_vrs(image)
    if target == EXPLICIT_LITTLE and has_vrs:
        async for piece in _explicit(made, image, plan):
            yield piece
        return
    # A data set that is written in implicit VR, against its syntax, becomes a proper one first.
    stages = [IMPLICIT_LITTLE, target] if target != IMPLICIT_LITTLE and not has_vrs else [target]
    survey = Survey(EXPLICIT_LITTLE, stages[0], dictionary_vr_choice)
    if Survey.is_needed(EXPLICIT_LITTLE, stages[0]):
        await _survey(made, image, plan, survey)
    reencoders = [Reencoder(EXPLICIT_LITTLE, stages[0], dictionary_vr_choice, odd=survey.odd)]
    if len(stages) > 1:
        reencoders.append(Reencoder(IMPLICIT_LITTLE, target, dictionary_vr_choice))
    async for piece in _explicit(made, image, plan):
        for passed in await trio.to_thread.run_sync(_reencode, reencoders, bytes(piece)):
            yield passed
    for number, reencoder in enumerate(reencoders):
        for last in reencoder.finish():
            for passed in _reencode(reencoders[number + 1 :], last):
                yield passed


def _has_vrs(image: Image) -> bool:
    element = image.found.pixel_data
    return element is not None and element.vr is not None


def _reencode(reencoders: Sequence[Reencoder], piece: Buffer) -> list[Buffer]:
    pieces: list[Buffer] = [piece]
    for reencoder in reencoders:
        pieces = [passed for each in pieces for passed in reencoder.feed(bytes(each))]
    return pieces


async def _survey(made: TranscodedObject, image: Image, plan: _Plan, survey: Survey) -> None:
    """Let *survey* see everything but the pixels."""
    assert plan.native is not None
    for segment in plan.segments:
        if isinstance(segment, _Pixels):
            survey.feed(_native_header(image, plan))
            survey.pass_over(plan.native + (plan.native & 1))
            continue
        async for piece in _copied(made, image, segment):
            await trio.to_thread.run_sync(survey.feed, bytes(piece))
    survey.finish()


async def _explicit(
    made: TranscodedObject, image: Image, plan: _Plan
) -> AsyncGenerator[Buffer, None]:
    """The data set in explicit VR little endian."""
    for segment in plan.segments:
        if not isinstance(segment, _Pixels):
            source = _copied(made, image, segment)
        elif plan.native is None:
            source = _fragments(made, image, plan)
        else:
            source = _native(made, image, plan, plan.native)
        async for piece in source:
            yield piece


async def _copied(
    made: TranscodedObject, image: Image, segment: _Copy | bytes
) -> AsyncGenerator[Buffer, None]:
    if isinstance(segment, bytes):
        yield segment
        return
    step = made.source.part_length
    for start in range(segment.start, segment.end, step):
        yield await image.read_bytes(start, min(step, segment.end - start))


async def _frames(made: TranscodedObject, image: Image, plan: _Plan) -> AsyncGenerator[bytes, None]:
    yield plan.first
    for number in range(1, len(image)):
        frame, description = await _frame(made, image, number)
        if description != plan.description:
            raise ImageError(f"frame {number + 1} is of another kind than the first")
        yield frame


def _native_header(image: Image, plan: _Plan) -> bytes:
    assert plan.native is not None
    element = image.found.pixel_data
    assert element is not None
    length = plan.native + (plan.native & 1)
    return struct.pack("<HH2sHI", 0x7FE0, element.tag & 0xFFFF, plan.vr.encode(), 0, length)


async def _native(
    made: TranscodedObject, image: Image, plan: _Plan, length: int
) -> AsyncGenerator[Buffer, None]:
    yield _native_header(image, plan)
    if plan.description.bits_allocated == 1:
        joiner = _BitJoiner()
        async for frame in _frames(made, image, plan):
            yield joiner.feed(frame)
        yield joiner.finish()
    else:
        async for frame in _frames(made, image, plan):
            yield frame
    yield bytes(length & 1)


class _BitJoiner:
    """Packs bits, of which each comes as a byte, without gaps between frames (PS3.5 8.1.1)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, bits: bytes) -> bytes:
        bits = self._rest + bits
        whole = len(bits) & ~7
        self._rest = bits[whole:]
        return self._packed(bits[:whole])

    def finish(self) -> bytes:
        return self._packed(self._rest)

    @staticmethod
    def _packed(bits: bytes) -> bytes:
        if not bits:
            return b""
        # The first bit is the lowest.
        number = int(bits[::-1].translate(_DIGITS), 2)
        return number.to_bytes((len(bits) + 7) // 8, "little")


async def _fragments(
    made: TranscodedObject, image: Image, plan: _Plan
) -> AsyncGenerator[Buffer, None]:
    """A fragment for each frame, behind an empty Basic Offset Table (PS3.5 A.4)."""
    yield struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    yield struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    async for frame in _frames(made, image, plan):
        padding = len(frame) & 1
        yield struct.pack("<HHI", 0xFFFE, 0xE000, len(frame) + padding)
        yield frame
        yield bytes(padding)
    yield struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
