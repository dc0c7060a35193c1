"""Documents and models that can be encapsulated (PS3.3 A.45, A.85)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final
from xml.parsers import expat

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.creation.errors import SourceError
from isocenter.services.dicom.xml_namespaces import XmlNamespaces

_ROOT: Final = "1.2.840.10008.5.1.4.1.1.104."
_STL_HEAD: Final = 84
_STL_FACET: Final = 50
_CDA: Final = "urn:hl7-org:v3"
#: A CDA says who it is at its beginning.
_XML_HEAD: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document to encapsulate.

    Attributes:
        hl7_instance_identifier: of a CDA.
    """

    sop_class_uid: str
    mime_type: str
    modality: str
    hl7_instance_identifier: str = ""

    @property
    def is_model(self) -> bool:
        """Whether it is a model for manufacturing."""
        return self.modality == "M3D"


def document_kind(path: Path, head: bytes, size: int) -> Document | None:
    """What document a file is; None: it is none.

    Args:
        head: its first MiB, or all of it.

    Raises:
        SourceError: it is one, and cannot be taken.
    """
    if b"%PDF-" in head[:1024]:
        return Document(sop_class_uid=f"{_ROOT}1", mime_type="application/pdf", modality="DOC")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"<"):
        return _cda(head)
    if _is_stl(head, size):
        return Document(sop_class_uid=f"{_ROOT}3", mime_type="model/stl", modality="M3D")
    match path.suffix.lower():
        case ".obj":
            return Document(sop_class_uid=f"{_ROOT}4", mime_type="model/obj", modality="M3D")
        case ".mtl":
            return Document(sop_class_uid=f"{_ROOT}5", mime_type="model/mtl", modality="M3D")
        case _:
            return None


def _is_stl(head: bytes, size: int) -> bool:
    if len(head) >= _STL_HEAD:
        (facets,) = struct.unpack_from("<I", head, 80)
        if size == _STL_HEAD + _STL_FACET * facets:
            return True
    return head.startswith(b"solid") and b"facet" in head[:4096]


class _Found(Exception):  # ends the parser, no error
    pass


def _cda(head: bytes) -> Document:
    """A CDA by its root element, with its identifier."""
    parser = expat.ParserCreate()
    namespaces = XmlNamespaces()
    depth = 0
    identifier = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, identifier
        depth += 1
        try:
            found = namespaces.opened(name, attributes)
        except ValueError as error:
            raise SourceError(f"is XML that cannot be read: {error}") from None
        if depth == 1 and found != (_CDA, "ClinicalDocument"):
            raise SourceError("is XML, and no CDA (ClinicalDocument of urn:hl7-org:v3)")
        if depth == 2 and found == (_CDA, "id"):
            root, extension = attributes.get("root", ""), attributes.get("extension", "")
            identifier = f"{root}^{extension}" if extension else root
            raise _Found

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        namespaces.closed()

    def refuse(*_: object) -> None:
        raise SourceError("is XML with entities of its own, which are not read")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(head[:_XML_HEAD], False)
    except _Found:
        pass
    except expat.ExpatError as error:
        raise SourceError(f"is XML that cannot be read: {error}") from error
    if not identifier:
        raise SourceError("is a CDA without an id, which an object needs (0040,E001)")
    return Document(
        sop_class_uid=f"{_ROOT}2",
        mime_type="text/XML",
        modality="DOC",
        hl7_instance_identifier=identifier,
    )
