"""Invariant: a picture, a document or a video says what object it makes, or is refused.

Input: a byte for its media type, and its bytes.  Pictures that are decoded are none of these: their
decoders are not ours.
"""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import Final

from wording import check_fault

from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.creation.jpeg_pictures import keep_jpeg, keep_jpeg_2000
from isocenter.services.dicom.creation.payloads import (
    BulkPart,
    Payload,
    PayloadTypeError,
    document_payload,
    pixel_payload,
)
from isocenter.services.dicom.long_values import FileRange
from isocenter.services.dicom.pixels.errors import PixelError

_DOCUMENTS: Final = ("application/pdf", "text/xml", "model/stl", "model/obj", "model/mtl")
_ROOT: Final = "1.2.840.10008.5.1.4.1.1."


def run(data: bytes) -> None:
    if not data:
        return
    with TemporaryFile(buffering=0) as file:
        file.write(data[1:])
        _read(data[0] % 8, data[1:], FileRange(file.fileno(), 0, len(data) - 1))


def _read(kind: int, content: bytes, value: FileRange) -> None:
    try:
        if kind in (0, 1):
            kept = keep_jpeg(content) if kind == 0 else keep_jpeg_2000(content)
            if kept is not None:
                assert kept.frames[0] in content
                assert 1 <= kept.image.samples_per_pixel <= 3
            return
        payload = _payload(kind, value)
    except (SourceError, PixelError, PayloadTypeError) as fault:
        check_fault(fault)
        return
    assert not isinstance(payload.value, bytes)
    made = b"".join(payload.value.pieces())
    assert len(made) == payload.value.length
    assert content in made
    assert all(payload.facts.values())


def _payload(kind: int, value: FileRange) -> Payload:
    if kind == 2:
        part = BulkPart(media_type="video/mp4", transfer_syntax_uid="", value=value)
        return pixel_payload([part], sop_class_uid="", transfer_syntax_uid="", frames=0)
    number = kind - 3
    part = BulkPart(media_type=_DOCUMENTS[number], transfer_syntax_uid="", value=value)
    return document_payload([part], sop_class_uid=f"{_ROOT}104.{number + 1}")
