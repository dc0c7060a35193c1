"""Softcopy presentation states of images (PS3.3 A.33, PS3.4 N.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.pixels.errors import ImageError
from isocenter.services.dicom.pixels.rendering.elements import (
    OVERLAY_GROUPS,
    REFERENCED_FRAME_NUMBER,
    REFERENCED_IMAGES,
    REFERENCED_SERIES,
    REFERENCED_SOP_INSTANCE_UID,
    SOFTCOPY_VOI_LUTS,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    Elements,
    FrameElements,
)
from isocenter.services.dicom.pixels.rendering.geometry import pixel_shape
from isocenter.services.dicom.pixels.rendering.grayscale import (
    GrayscaleRules,
    ModalityTransformation,
    PresentationTransformation,
    padding_of,
)
from isocenter.services.dicom.pixels.rendering.options import RenderOptions
from isocenter.services.dicom.pixels.rendering.stored_values import StoredValues
from isocenter.services.dicom.pixels.rendering.voi import VoiChoices, whole_range

_ROOT: Final = "1.2.840.10008.5.1.4.1.1.11."
#: Grayscale, colour, and XA/XRF grayscale softcopy presentation states.
_APPLIED: Final = frozenset((_ROOT + "1", _ROOT + "2", _ROOT + "5"))
_MASKS: Final = 0x00286100
_DISPLAYED_AREAS: Final = 0x0070005A
_TOP_LEFT: Final = 0x00700052
_BOTTOM_RIGHT: Final = 0x00700053
_SIZE_MODE: Final = 0x00700100
_PIXEL_SPACING: Final = 0x00700101
_PIXEL_ASPECT_RATIO: Final = 0x00700102
_MAGNIFICATION: Final = 0x00700103
_FLIP: Final = 0x00700041
_ROTATION: Final = 0x00700042
_ACTIVATION_LAYER: Final = 0x1001
_QUARTER: Final = 90
_MOST_MAGNIFIED: Final = 100.0


@dataclass(frozen=True, slots=True)
class DisplayedArea:
    """Which part of an image is seen (PS3.3 C.10.4).

    Attributes:
        left, top, right, bottom: edges, in pixels of the image; the first lies between 0 and 1.
        shape: height of a pixel by its width.
        magnification: pixels of the picture for one of the image; None: as many as fit.
    """

    left: float
    top: float
    right: float
    bottom: float
    shape: float
    magnification: float | None


@dataclass(frozen=True, slots=True)
class PresentationState:
    """A presentation state, as far as it concerns one frame of one image.

    Attributes:
        root: its data set.
        image_uid: of the image.
        frame_number: from 1 on.
    """

    root: Elements
    image_uid: str
    frame_number: int

    @classmethod
    def of(cls, root: Elements, frame: FrameElements) -> PresentationState:
        """The state that *root* describes, for a frame.

        Raises:
            ImageError: it is none that is applied, or not one of this frame.
        """
        if root.text(SOP_CLASS_UID) not in _APPLIED:
            raise ImageError(
                "only grayscale, colour and XA/XRF softcopy presentation states are applied"
            )
        if root.items(_MASKS):
            raise ImageError("the presentation state subtracts a mask, which is not done here")
        made = cls(root, frame.root.text(SOP_INSTANCE_UID), frame.number + 1)
        series = root.items(REFERENCED_SERIES)
        if not any(made._names(item) for each in series for item in each.items(REFERENCED_IMAGES)):
            raise ImageError("the presentation state is not one of this image")
        return made

    def _names(self, reference: Elements) -> bool:
        if reference.text(REFERENCED_SOP_INSTANCE_UID) != self.image_uid:
            return False
        frames = reference.decimals(REFERENCED_FRAME_NUMBER)
        return not frames or self.frame_number in frames

    def applicable(self, sequence: int) -> Iterator[Elements]:
        """The items of a sequence that are for this frame."""
        for item in self.root.items(sequence):
            references = item.items(REFERENCED_IMAGES)
            if not references or any(map(self._names, references)):
                yield item

    def grayscale(
        self, frame: FrameElements, stored: StoredValues, options: RenderOptions
    ) -> GrayscaleRules:
        """The transformations: those of the state, none of the image (PS3.4 N.2.1)."""
        modality = ModalityTransformation.of(self.root, signed=stored.is_signed)
        low, high = modality.extent(stored)
        items = list(self.applicable(SOFTCOPY_VOI_LUTS))[:1]
        voi = VoiChoices.of(items).choose(options, signed=low < 0)
        if voi is None and not options.is_automatic and not stored.is_float:
            voi = whole_range(low, high)
        return GrayscaleRules(
            modality,
            voi,
            # Black and white of MONOCHROME1 are exchanged by the state, not by the image.
            PresentationTransformation.of(self.root, ""),
            padding_of(frame.root, stored),
            options.is_automatic,
        )

    @property
    def active_overlay_groups(self) -> Iterator[int]:
        """Groups of the image's own overlays that the state shows (PS3.3 C.11.7)."""
        for group in OVERLAY_GROUPS:
            if self.root.text(group << 16 | _ACTIVATION_LAYER):
                yield group

    @property
    def quarters(self) -> int:
        """Turns to the right, by 90 degrees each."""
        rotation = self.root.word(_ROTATION) or 0
        return rotation // _QUARTER % 4

    @property
    def is_flipped(self) -> bool:
        """Left to right, after turning."""
        return self.root.text(_FLIP).upper() == "Y"

    def displayed_area(self, rows: int, columns: int) -> DisplayedArea | None:
        """What is seen of an image of that size; None: the state does not say it.

        The corners are those of the picture, turned and flipped: in the image they may be any
        two that lie opposite each other.
        """
        item = next(self.applicable(_DISPLAYED_AREAS), None)
        if item is None:
            return None
        corners = [_corner(item, tag) for tag in (_TOP_LEFT, _BOTTOM_RIGHT)]
        (x0, y0), (x1, y1) = (each or (0, 0) for each in corners)
        if None in corners:
            x0, y0, x1, y1 = 1, 1, columns, rows
        magnification = item.floats(_MAGNIFICATION)
        is_magnified = item.text(_SIZE_MODE).upper() == "MAGNIFY" and bool(magnification)
        ratio = magnification[0] if is_magnified else 0.0
        return DisplayedArea(
            min(x0, x1) - 1,
            min(y0, y1) - 1,
            max(x0, x1),
            max(y0, y1),
            pixel_shape(item.decimals(_PIXEL_ASPECT_RATIO), item.decimals(_PIXEL_SPACING)),
            ratio if 0 < ratio <= _MOST_MAGNIFIED else None,
        )


def _corner(item: Elements, tag: int) -> tuple[int, int] | None:
    """Column and row of an SL."""
    raw = item.values.get(tag, b"")
    if len(raw) < 8:
        return None
    order: Literal["big", "little"] = "big" if item.is_big_endian else "little"
    x, y = (int.from_bytes(raw[place : place + 4], order, signed=True) for place in (0, 4))
    return x, y
