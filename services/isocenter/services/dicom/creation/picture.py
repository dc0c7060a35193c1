"""Pictures that are to become images."""

from __future__ import annotations

from dataclasses import field

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.pixels.image import ImageDescription


@dataclass(slots=True, kw_only=True)
class Picture:
    """Frames of one shape.

    Attributes:
        frames: codestreams or, with an uncompressed transfer syntax, samples: little endian,
            pixel by pixel.
        lossy_method: Lossy Image Compression Method (0028,2114); empty: nothing was lost that is
            known of.
        orientation: EXIF's; 1: it is upright.
        notes: what somebody should know of it.
    """

    frames: list[bytes]
    image: ImageDescription
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN
    lossy_method: str = ""
    orientation: int = 1
    notes: list[str] = field(default_factory=list)

    @property
    def is_native(self) -> bool:
        """Whether its frames are samples."""
        return self.transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN

    @property
    def ratio(self) -> float:
        """How many times longer its samples are than its frames."""
        stored = sum(map(len, self.frames))
        return len(self.frames) * self.image.decoded_length / stored if stored else 1.0
