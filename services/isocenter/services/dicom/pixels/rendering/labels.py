"""Labels that are burned into a picture on request (PS3.18 8.3.5.1.1)."""

from __future__ import annotations

from typing import Any, Final

from numpy.typing import NDArray

from isocenter.services.dicom.pixels.rendering.elements import (
    Elements,
    FrameElements,
    decoded_text,
)
from isocenter.services.dicom.pixels.rendering.lettering import put
from isocenter.services.dicom.pixels.rendering.options import RenderOptions

_STUDY_DATE: Final = 0x00080020
_MODALITY: Final = 0x00080060
_SERIES_DESCRIPTION: Final = 0x0008103E
_NAME: Final = 0x00100010
_ID: Final = 0x00100020
_BIRTH_DATE: Final = 0x00100030
_SEX: Final = 0x00100040
_SERIES_NUMBER: Final = 0x00200011
_INSTANCE_NUMBER: Final = 0x00200013
#: Height of letters: this part of the picture.
_LETTERS: Final = 36
_SMALLEST: Final = 10
_MOST: Final = 64
_DATE_LENGTH: Final = 8


def draw_labels(
    picture: NDArray[Any], frame: FrameElements, options: RenderOptions
) -> NDArray[Any]:
    """The picture with what it is asked to say of patient and technique.

    Raises:
        ImageError: Pillow is not installed.
    """
    height = max(picture.shape[0] // _LETTERS, _SMALLEST)
    edge = height // 3
    if options.has_patient_label:
        text = "\n".join(_patient(frame.root))
        picture = put(picture, text, height, edge, edge, (0, 0))
    if options.has_technique_label:
        text = "\n".join(_technique(frame))
        picture = put(picture, text, height, edge, picture.shape[0] - edge, (0, 1))
    return picture


def _patient(root: Elements) -> list[str]:
    name = _text(root, _NAME, "PN").split("=")[0].replace("^", " ").strip()
    born = _date(root.text(_BIRTH_DATE))
    facts = " ".join(each for each in (born, root.text(_SEX)[:1]) if each)
    return [each for each in (name, _text(root, _ID, "LO"), facts) if each]


def _technique(frame: FrameElements) -> list[str]:
    root = frame.root
    series, instance = root.text(_SERIES_NUMBER), root.text(_INSTANCE_NUMBER)
    numbers = " ".join(
        f"{what} {number}" for what, number in (("Se", series), ("Im", instance)) if number
    )
    if frame.number:
        numbers = f"{numbers} Fr {frame.number + 1}".strip()
    description = _text(root, _SERIES_DESCRIPTION, "LO")
    first = " ".join(each for each in (root.text(_MODALITY), _date(root.text(_STUDY_DATE))) if each)
    return [each for each in (first, description, numbers) if each]


def _text(root: Elements, tag: int, vr: str) -> str:
    return decoded_text(root, root.values.get(tag, b""), vr)[:_MOST]


def _date(text: str) -> str:
    is_date = len(text) == _DATE_LENGTH and text.isdigit()
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if is_date else ""
