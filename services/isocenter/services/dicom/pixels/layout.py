"""Layout of an image: how its pixels are described, and where its frames lie."""

from __future__ import annotations

import struct
from typing import Final, Self

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import FrameIndex, PixelDataMap, encoding_of, index_frames
from isocenter.engine.dataset.pixel_data import Span
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.image import ImageDescription
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

#: Version; tag of Pixel Data, where its value starts and how long it is; the numbers of the
#: description, Number of Frames (-1: not said), the flags below, characters of the Photometric
#: Interpretation, which follow, and then the frames.
_PACKED: Final = struct.Struct("<BIQQHHBBBBBBqBB")
_VERSION: Final = 1
_IS_FLOAT, _SWAPS_WORDS, _IS_ENCAPSULATED, _IS_BIG_ENDIAN = 1, 2, 4, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayout:
    """What one has to know of an object to give out its frames without reading its data set.

    Attributes:
        index: where the frames lie.
        tag: of the element that holds the pixels.
        value: where its value lies.
        is_encapsulated: its value is made of fragments.
        is_big_endian: samples are.
        swaps_words: samples of a byte or less are in 16-bit words of the other byte order
            (PS3.5 8.1.2).
    """

    description: ImageDescription
    index: FrameIndex
    tag: int
    value: Span
    is_encapsulated: bool
    is_big_endian: bool
    swaps_words: bool

    @classmethod
    def of(cls, found: PixelDataMap, transfer_syntax_uid: str) -> Self:
        """The layout of a data set that was mapped, inflated where it was deflated.

        Raises:
            DataSetError: its frames cannot be told apart.
            ImageError: what it says of them is missing or impossible.
        """
        element = found.pixel_data
        assert element is not None
        encoding = encoding_of(transfer_syntax_uid)
        description = ImageDescription.of(found, big_endian=encoding.big_endian)
        known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
        # All frames of a video are one stream (PS3.5 8.2.5): fragments are no frames.
        is_stream = known is not None and known.is_video
        index = index_frames(
            found,
            number_of_frames=None if is_stream else description.number_of_frames,
            frame_bits=description.frame_bits,
        )
        is_encapsulated = element.fragments is not None
        if known is not None and known.is_encapsulated is not is_encapsulated:
            what = "encapsulated" if is_encapsulated else "native"
            raise ImageError(f"Pixel Data is {what}, the transfer syntax {known.name} is not")
        return cls(
            description=description,
            index=index,
            tag=element.tag,
            value=Span(element.value, element.end - element.value),
            is_encapsulated=is_encapsulated,
            is_big_endian=encoding.big_endian and not is_encapsulated,
            swaps_words=encoding.big_endian
            and description.bits_allocated <= 8
            and element.vr == "OW",
        )

    @property
    def sample_width(self) -> int:
        """Bytes of what the byte order is of."""
        if self.description.bits_allocated <= 8:
            return 2 if self.swaps_words else 1
        return self.description.bits_allocated // 8

    @property
    def is_verbatim(self) -> bool:
        """Whether frames stand alone as they lie, encapsulated or in little endian: they are in no
        other byte order, and are made of whole bytes."""
        if self.is_encapsulated:
            return True
        is_swapped = self.is_big_endian and self.sample_width > 1
        return not is_swapped and not self.description.frame_bits % 8

    def pack(self) -> bytes:
        """All of it in few bytes, to be kept beside the object."""
        said = self.description
        flags = _IS_FLOAT * said.is_float | _SWAPS_WORDS * self.swaps_words
        flags |= _IS_ENCAPSULATED * self.is_encapsulated | _IS_BIG_ENDIAN * self.is_big_endian
        term = said.photometric_interpretation.encode()
        head = _PACKED.pack(
            _VERSION,
            self.tag,
            self.value.offset,
            self.value.length,
            said.rows,
            said.columns,
            said.samples_per_pixel,
            said.bits_allocated,
            said.bits_stored,
            said.high_bit & 0xFF,
            said.pixel_representation,
            said.planar_configuration,
            -1 if said.number_of_frames is None else said.number_of_frames,
            flags,
            len(term),
        )
        return head + term + self.index.pack()

    @classmethod
    def unpack(cls, packed: Buffer) -> Self:
        """What `pack` has made.

        Raises:
            ValueError: another version, or nothing, has made this.
        """
        try:
            head = _PACKED.unpack_from(packed)
        except struct.error as error:
            raise ValueError(f"no layout of an image: {error}") from error
        version, tag, start, length, rows, columns, samples, allocated, stored, high = head[:10]
        representation, planar, frames, flags, width = head[10:]
        if version != _VERSION:
            raise ValueError("a layout of an image that another version has made")
        rest = memoryview(packed)[_PACKED.size :]
        return cls(
            description=ImageDescription(
                rows=rows,
                columns=columns,
                samples_per_pixel=samples,
                bits_allocated=allocated,
                bits_stored=stored,
                high_bit=high,
                pixel_representation=representation,
                photometric_interpretation=str(rest[:width], "utf-8"),
                planar_configuration=planar,
                number_of_frames=None if frames < 0 else frames,
                is_float=bool(flags & _IS_FLOAT),
            ),
            index=FrameIndex.unpack(rest[width:]),
            tag=tag,
            value=Span(start, length),
            is_encapsulated=bool(flags & _IS_ENCAPSULATED),
            is_big_endian=bool(flags & _IS_BIG_ENDIAN),
            swaps_words=bool(flags & _SWAPS_WORDS),
        )
