"""Elements that say how an image is shown, read without a data dictionary.

What is read here is a data set of such elements alone, so that neither a worker process nor a
person has to look at the rest.  The numbers of an element have the type that whoever asks for
them expects; what makes no such number is not there.
"""

from __future__ import annotations

import math
from dataclasses import field
from typing import Final, Literal

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset.vr import Encoding
from isocenter.engine.dataset.walker import END, ITEM, SEQUENCE, VALUE, Tolerance, walk
from isocenter.engine.fast_init import dataclass

SPECIFIC_CHARACTER_SET: Final = 0x00080005
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
REFERENCED_SERIES: Final = 0x00081115
REFERENCED_IMAGES: Final = 0x00081140
REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
REFERENCED_FRAME_NUMBER: Final = 0x00081160
PIXEL_SPACING: Final = 0x00280030
PIXEL_ASPECT_RATIO: Final = 0x00280034
IMAGER_PIXEL_SPACING: Final = 0x00181164
PIXEL_PADDING_VALUE: Final = 0x00280120
PIXEL_PADDING_RANGE_LIMIT: Final = 0x00280121
FLOAT_PIXEL_PADDING_VALUE: Final = 0x00280122
DOUBLE_PIXEL_PADDING_VALUE: Final = 0x00280123
FLOAT_PIXEL_PADDING_LIMIT: Final = 0x00280124
DOUBLE_PIXEL_PADDING_LIMIT: Final = 0x00280125
PIXEL_INTENSITY_RELATIONSHIP: Final = 0x00281040
WINDOW_CENTER: Final = 0x00281050
WINDOW_WIDTH: Final = 0x00281051
RESCALE_INTERCEPT: Final = 0x00281052
RESCALE_SLOPE: Final = 0x00281053
WINDOW_EXPLANATION: Final = 0x00281055
VOI_LUT_FUNCTION: Final = 0x00281056
ICC_PROFILE: Final = 0x00282000
MODALITY_LUTS: Final = 0x00283000
LUT_DESCRIPTOR: Final = 0x00283002
LUT_EXPLANATION: Final = 0x00283003
LUT_DATA: Final = 0x00283006
VOI_LUTS: Final = 0x00283010
SOFTCOPY_VOI_LUTS: Final = 0x00283110
PRESENTATION_LUTS: Final = 0x20500010
PRESENTATION_LUT_SHAPE: Final = 0x20500020
PIXEL_PRESENTATION: Final = 0x00089205
OPTICAL_PATHS: Final = 0x00480105
SHARED_GROUPS: Final = 0x52009229
FRAME_GROUPS: Final = 0x52009230
PIXEL_MEASURES: Final = 0x00289110
FRAME_VOI_LUTS: Final = 0x00289132
PIXEL_VALUE_TRANSFORMATIONS: Final = 0x00289145
FRAME_SHUTTERS: Final = 0x00189472
#: Red, green, blue: Palette Color Lookup Table Descriptor, Data and Segmented Data.
PALETTE_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
PALETTE_DATA: Final = (0x00281201, 0x00281202, 0x00281203)
SEGMENTED_PALETTE_DATA: Final = (0x00281221, 0x00281222, 0x00281223)
_SHUTTERS: Final = frozenset(range(0x00181600, 0x00181625))
#: Groups of overlays (PS3.5 7.6).
OVERLAY_GROUPS: Final = tuple(range(0x6000, 0x6020, 2))
_OVERLAY_ELEMENTS: Final = (
    0x0010, 0x0011, 0x0015, 0x0040, 0x0050, 0x0051, 0x0100, 0x0102, 0x1001, 0x3000,
)  # fmt: skip
#: What labels are made of, on request.
LABEL_ELEMENTS: Final = frozenset(
    (
        0x00080005, 0x00080020, 0x00080060, 0x0008103E, 0x00100010, 0x00100020, 0x00100030,
        0x00100040, 0x00200011, 0x00200013,
    )
)  # fmt: skip
#: Top-level elements of an image that say how it is shown.
DISPLAY_ELEMENTS: Final = (
    frozenset(
        (
            SOP_CLASS_UID, SOP_INSTANCE_UID, PIXEL_SPACING, PIXEL_ASPECT_RATIO,
            IMAGER_PIXEL_SPACING, PIXEL_PADDING_VALUE, PIXEL_PADDING_RANGE_LIMIT,
            FLOAT_PIXEL_PADDING_VALUE, DOUBLE_PIXEL_PADDING_VALUE, FLOAT_PIXEL_PADDING_LIMIT,
            DOUBLE_PIXEL_PADDING_LIMIT, PIXEL_INTENSITY_RELATIONSHIP, WINDOW_CENTER, WINDOW_WIDTH,
            RESCALE_INTERCEPT, RESCALE_SLOPE, WINDOW_EXPLANATION, VOI_LUT_FUNCTION, ICC_PROFILE,
            MODALITY_LUTS, VOI_LUTS, PRESENTATION_LUTS, PRESENTATION_LUT_SHAPE,
            PIXEL_PRESENTATION, OPTICAL_PATHS, SHARED_GROUPS,
        )
    )
    | _SHUTTERS
    | LABEL_ELEMENTS
    | frozenset((*PALETTE_DESCRIPTORS, *PALETTE_DATA, *SEGMENTED_PALETTE_DATA))
    | frozenset(group << 16 | element for group in OVERLAY_GROUPS for element in _OVERLAY_ELEMENTS)
)  # fmt: skip
#: What are sequences among them, and in presentation states; implicit VR does not say it.
_SEQUENCES: Final = frozenset(
    (
        REFERENCED_SERIES, REFERENCED_IMAGES, MODALITY_LUTS, VOI_LUTS, SOFTCOPY_VOI_LUTS,
        PRESENTATION_LUTS, OPTICAL_PATHS, SHARED_GROUPS, FRAME_GROUPS, PIXEL_MEASURES,
        FRAME_VOI_LUTS, PIXEL_VALUE_TRANSFORMATIONS, FRAME_SHUTTERS,
        0x00700001, 0x00700008, 0x00700009, 0x0070005A, 0x00700060, 0x00286100, 0x00700231,
        0x00700232,
    )
)  # fmt: skip
#: Of a text that is shown or compared, and of a list of numbers.
_MAX_TEXT: Final = 1 << 10
_MAX_NUMBERS: Final = 1 << 20

_PADDING: Final = b" \0"


@dataclass(slots=True)
class Elements:
    """A data set, or an item of a sequence.

    Attributes:
        values: tag → raw value.
        vrs: tag → VR; None where the data set does not say it.
        sequences: tag → items.
    """

    is_big_endian: bool = False
    values: dict[int, bytes] = field(default_factory=dict)
    vrs: dict[int, str | None] = field(default_factory=dict)
    sequences: dict[int, list[Elements]] = field(default_factory=dict)

    def __contains__(self, tag: int) -> bool:
        """Whether it is there with a value, or items."""
        return bool(self.values.get(tag) or self.sequences.get(tag))

    def items(self, tag: int) -> list[Elements]:
        """Of a sequence; none where it is not there."""
        return self.sequences.get(tag, [])

    def texts(self, tag: int) -> list[str]:
        """Values of ASCII, without padding."""
        raw = self.values.get(tag, b"")
        if not raw.strip(_PADDING):
            return []
        return [one.strip(_PADDING).decode("latin-1") for one in raw.split(b"\\", _MAX_TEXT)]

    def text(self, tag: int) -> str:
        """The first of them; empty where there is none."""
        return next(iter(self.texts(tag)), "")

    def decimals(self, tag: int) -> list[float]:
        """The numbers of a DS or IS; what is none is left out, and so is all that follows."""
        found: list[float] = []
        for one in self.values.get(tag, b"").split(b"\\", _MAX_NUMBERS):
            text = one.strip(_PADDING)
            try:
                number = float(text)
            except ValueError:
                break
            # Python takes 1_0, too.
            if not math.isfinite(number) or b"_" in text:
                break
            found.append(number)
        return found

    def decimal(self, tag: int) -> float | None:
        """The first of them."""
        return next(iter(self.decimals(tag)), None)

    def integer(self, tag: int) -> int | None:
        """The first of an IS."""
        number = self.decimal(tag)
        return None if number is None else int(number)

    def words(self, tag: int, *, signed: bool = False) -> list[int]:
        """The numbers of a US, or SS."""
        raw = self.values.get(tag, b"")
        order: Literal["big", "little"] = "big" if self.is_big_endian else "little"
        return [
            int.from_bytes(raw[place : place + 2], order, signed=signed)
            for place in range(0, min(len(raw) // 2 * 2, 2 * _MAX_NUMBERS), 2)
        ]

    def word(self, tag: int, *, signed: bool = False) -> int | None:
        """The first of them."""
        return next(iter(self.words(tag, signed=signed)), None)

    def is_signed(self, tag: int) -> bool | None:
        """Whether the data set says that it is an SS; None: it does not say."""
        vr = self.vrs.get(tag)
        return None if vr not in ("US", "SS") else vr == "SS"

    def floats(self, tag: int, *, double: bool = False) -> list[float]:
        """The numbers of an FL, or FD."""
        import struct

        raw = self.values.get(tag, b"")
        width = 8 if double else 4
        count = min(len(raw) // width, _MAX_NUMBERS)
        form = f"{'>' if self.is_big_endian else '<'}{count}{'d' if double else 'f'}"
        return list(struct.unpack(form, raw[: count * width]))


def decoded_text(root: Elements, raw: bytes, vr: str) -> str:
    """A text in the character set of its data set."""
    # Character sets are known to pydicom, which takes a while to load.
    from isocenter.services.dicom.element_values import character_set_of, decode_text

    terms = character_set_of(root.values.get(SPECIFIC_CHARACTER_SET, b""))
    return decode_text(raw, vr, terms)


def read_elements(data: Buffer, encoding: Encoding) -> Elements:
    """The elements of a data set, sequences included; of damaged ones what can be read."""
    root = Elements(encoding.big_endian)
    view = memoryview(data)
    #: What is open: the data set or item, and the items of the sequence in it.
    items: list[Elements] = [root]
    open_sequences: list[list[Elements]] = []
    kinds: list[int] = []
    for kind, tag, vr, start, end, codec in walk(
        view, encoding, sequences=_SEQUENCES, tolerance=Tolerance.SALVAGE
    ):
        if kind == VALUE:
            items[-1].values[tag] = bytes(view[start:end])
            items[-1].vrs[tag] = vr
        elif kind == SEQUENCE:
            kinds.append(SEQUENCE)
            open_sequences.append(items[-1].sequences.setdefault(tag, []))
        elif kind == ITEM:
            kinds.append(ITEM)
            inner = Elements(codec.big_endian)
            open_sequences[-1].append(inner)
            items.append(inner)
        elif kind == END and kinds:
            if kinds.pop() == ITEM:
                items.pop()
            else:
                open_sequences.pop()
    return root


@dataclass(frozen=True, slots=True)
class FrameElements:
    """What the data set says of one frame: for itself, for all frames, and outside of both.

    Attributes:
        number: of the frame, from 0 on.
    """

    root: Elements
    number: int

    def macro(self, tag: int) -> list[Elements]:
        """The items of a functional group macro (PS3.3 C.7.6.16) of this frame, or of all."""
        per_frame = self.root.items(FRAME_GROUPS)
        # Only the item of the frame that is wanted may be there.
        place = self.number if len(per_frame) > 1 else 0
        groups = [*per_frame[place : place + 1], *self.root.items(SHARED_GROUPS)[:1]]
        return next((group.items(tag) for group in groups if group.items(tag)), [])

    def holder(self, tag: int) -> Elements:
        """The first item of a macro, or the data set itself where the macro is not there."""
        return next(iter(self.macro(tag)), self.root)


__all__ = ["DISPLAY_ELEMENTS", "Elements", "FrameElements", "read_elements"]
