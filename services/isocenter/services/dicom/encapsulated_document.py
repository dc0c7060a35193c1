"""Encapsulated documents: PDF, CDA, STL and others within an object (PS3.3 C.24)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.data_set import Attribute, DataSet

_DOCUMENT: Final = "EncapsulatedDocument"
_LENGTH: Final = "EncapsulatedDocumentLength"
_MIME_TYPE: Final = "MIMETypeOfEncapsulatedDocument"

#: MIME type → what ends the name of such a file.
SUFFIXES: Final = {
    "application/pdf": ".pdf",
    "text/xml": ".xml",
    "text/XML": ".xml",
    "application/xml": ".xml",
    "application/hl7-cda+xml": ".xml",
    "model/stl": ".stl",
    "application/sla": ".stl",
    "model/obj": ".obj",
    "model/mtl": ".mtl",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpg",
}
#: Whose files may end with a NUL of their own.
_BINARY: Final = frozenset({"model/stl", "application/sla"})


@dataclass(frozen=True, slots=True)
class EncapsulatedDocument:
    """A document, as it lies in a data set.

    Attributes:
        mime_type: as the object says.
        length: of its own bytes, in bytes.
    """

    mime_type: str
    length: int
    _value: Attribute

    @property
    def suffix(self) -> str:
        """What ends the name of its file."""
        return SUFFIXES.get(self.mime_type, ".bin")

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, without what pads them to an even length."""
        left = self.length
        for piece in self._value.pieces():
            if left <= 0:
                return
            yield piece[:left]
            left -= len(piece)


def document_of(data_set: DataSet) -> EncapsulatedDocument | None:
    """The document of an object; None: there is none."""
    value = data_set.attribute(_DOCUMENT)
    if value is None:
        return None
    mime_type = data_set.text(_MIME_TYPE).strip()
    stored = value.length
    length = _said_length(data_set)
    if length is None or not stored - 1 <= length <= stored:
        # Nobody says it: one NUL pads what has an odd length, unless the format has it.
        length = stored
        if stored and mime_type not in _BINARY and value.value[-1:] == b"\0":
            length -= 1
    return EncapsulatedDocument(mime_type, length, value)


def _said_length(data_set: DataSet) -> int | None:
    texts = data_set.texts(_LENGTH)
    return int(texts[0]) if texts and texts[0].isascii() and texts[0].isdigit() else None
