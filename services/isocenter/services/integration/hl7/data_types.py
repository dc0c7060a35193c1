"""Values of HL7 data types as DICOM writes them: names, codes, texts that fit."""

from __future__ import annotations

from typing import Final

from isocenter.services.integration.hl7.errors import DATA_TYPE_ERROR, Hl7Error, Location
from isocenter.services.integration.hl7.message import Segment

#: What separates in a PN, or in a code as `worklist.order` takes it.
_SEPARATORS: Final = str.maketrans("^=", "  ")
_CODE_VALUE: Final = 16
#: An LO; most IDs have to be shorter, which the entry looks at.
_LONGEST_ID: Final = 64
_CODE_MEANING: Final = 64
_IDEOGRAPHIC: Final = "I"
_PHONETIC: Final = "P"


def without_controls(text: str) -> str:
    """Without control characters and backslashes, which separate values (PS3.5 6.2)."""
    if text.isprintable() and "\\" not in text:
        return text.strip()
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()


def identifier(text: str, place: Location) -> str:
    """An ID, as it is: another one would be that of somebody else.

    Raises:
        Hl7Error: it has what no attribute can have, or is longer than any.
    """
    if text != without_controls(text) or len(text) > _LONGEST_ID:
        raise Hl7Error(
            f"not an ID: longer than {_LONGEST_ID}, or with a backslash or control character",
            place,
            DATA_TYPE_ERROR,
        )
    return text


def truncated(text: str, length: int) -> str:
    """A text for people, cut where the VR ends; never an ID."""
    # More than is kept, as what stands in front may be stripped; not a whole megabyte.
    return without_controls(text[: 4 * length])[:length].strip()


def code(value: str, scheme: str, meaning: str) -> str:
    """``value^scheme^meaning``; empty for a code that no Code Value (SH) can have."""
    value, scheme = name_component(value), name_component(scheme)
    if not value or len(value) > _CODE_VALUE or len(scheme) > _CODE_VALUE:
        return ""
    return f"{value}^{scheme}^{name_component(meaning)[:_CODE_MEANING].strip()}"


def name_component(text: str) -> str:
    """A component: without what separates components."""
    return without_controls(text).translate(_SEPARATORS).strip()


def person_of_patient(segment: Segment, field: int) -> str:
    """An XPN with its repetitions as PN: alphabetic, ideographic and phonetic group."""
    groups = {"": "", _IDEOGRAPHIC: "", _PHONETIC: ""}
    for repetition in range(1, segment.repetitions(field) + 1):
        representation = segment.text(field, 8, repetition=repetition)
        kind = representation if representation in groups else ""
        if not groups[kind]:
            parts = [segment.text(field, n, repetition=repetition) for n in range(1, 7)]
            groups[kind] = _group(parts)
    return "=".join(groups.values()).rstrip("=")


def person_of_provider(
    segment: Segment | None, field: int, *, in_subcomponents: bool = False
) -> str:
    """The first XCN of a field as PN; with *in_subcomponents* the CN in an NDL (OBR-34)."""
    if segment is None:
        return ""
    if in_subcomponents and segment.text(field, 1, 2):
        return _group([segment.text(field, 1, n) for n in range(2, 8)])
    if in_subcomponents:
        return ""
    return _group([segment.text(field, n) for n in range(2, 8)])


def _group(parts: list[str]) -> str:
    """HL7 has suffix, prefix, degree at the end; DICOM prefix, suffix (PS3.5 6.2.1.1)."""
    family, given, middle, suffix, prefix, degree = map(name_component, parts)
    return "^".join((family, given, middle, prefix, f"{suffix} {degree}".strip())).rstrip("^")
