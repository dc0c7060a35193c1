"""Key object selections: images that somebody marked, as documents (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.model_file import ModelFile
from isocenter.services.viewing.document_parts import (
    CONTAINS,
    Authorship,
    Code,
    MarkedImage,
    attributes,
    container,
    content_item,
    document,
    image_item,
    language,
    observer,
    report_attributes,
)

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
_SERIES_NUMBER: Final = 9901
_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")
_TITLES: Final = (
    Code("113000", "DCM", "Of Interest"),
    Code("113002", "DCM", "For Referring Provider"),
    Code("113003", "DCM", "For Surgery"),
    Code("113004", "DCM", "For Teaching"),
    Code("113005", "DCM", "For Conference"),
    Code("113006", "DCM", "For Therapy"),
    Code("113007", "DCM", "For Patient"),
    Code("113008", "DCM", "For Peer Review"),
    Code("113009", "DCM", "For Research"),
    Code("113010", "DCM", "Quality Issue"),
    Code("113013", "DCM", "Best In Set"),
    Code("113018", "DCM", "For Printing"),
    Code("113020", "DCM", "For Report Attachment"),
    Code("113021", "DCM", "For Litigation"),
)
#: Titles of key images by their code (CID 7010).  Those of rejection notes are none: they would
#: hide the images.
TITLES: Final[Mapping[str, Code]] = {one.value: one for one in _TITLES}
OF_INTEREST: Final = "113000"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyImage:
    """An image that somebody marked.

    Attributes:
        frame: from 1 on.
        reason: why; may be empty.
    """

    image: MarkedImage
    frame: int
    reason: str = ""


def title_for(text: str) -> Code:
    """The title that is meant by its code or its meaning.

    Raises:
        ValueError: there is none; in words.
    """
    wanted = text.strip().casefold()
    if not wanted:
        return TITLES[OF_INTEREST]
    for code in _TITLES:
        if wanted in (code.value, code.meaning.casefold()):
            return code
    names = ", ".join(code.meaning for code in _TITLES)
    raise ValueError(f"document_title is one of: {names}")


def key_object_document(keys: Sequence[KeyImage], title: Code, authorship: Authorship) -> ModelFile:
    """The document of some images of one study."""
    frames: dict[MarkedImage, list[int]] = {}
    for key in keys:
        frames.setdefault(key.image, []).append(key.frame)
    reasons = dict.fromkeys(key.reason.strip() for key in keys if key.reason.strip())
    children = [language(), *observer(authorship.author)]
    if reasons:
        children.append(content_item(CONTAINS, "TEXT", _DESCRIPTION, TextValue="\n".join(reasons)))
    children += [image_item(CONTAINS, image, several) for image, several in frames.items()]
    stored = [image.stored for image in frames]
    content = container("", title, children, "2010")
    content |= attributes(**report_attributes(stored, authorship.now))
    return document(
        keys[0].image,
        authorship,
        sop_class_uid=KEY_OBJECT_SELECTION,
        modality="KO",
        series_number=_SERIES_NUMBER,
        series_description="Key images",
        content=content,
    )
