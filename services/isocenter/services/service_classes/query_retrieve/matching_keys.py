"""Matching keys of an identifier (PS3.4 C.2.2.2), and values of its answers.

What all information models of C-FIND have in common: query/retrieve
(`isocenter.services.service_classes.query_retrieve.identifier`) and worklist
(`isocenter.services.service_classes.worklist.query_keys`).

Standard: PS3.4 C.2.2.2; VRs of PS3.5 6.2.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import Element, Encoding
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.dimse.status import Status
from isocenter.engine.error_codes import ErrorCode
from isocenter.services.archive.index.date_times import is_date_time, split_range
from isocenter.services.archive.index.matching import (
    RANGE_VRS,
    is_range_comparable,
    is_wild,
    normalize,
    range_bounds,
    split_values,
)
from isocenter.services.archive.index.query import (
    CombinedRange,
    EmptyValue,
    Match,
    Range,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    decode_numbers,
    decode_text,
    encode_text,
)
from isocenter.services.dicom.element_values import encode_numbers as _encode_numbers
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.query_retrieve.identifier_builder import (
    SPECIFIC_CHARACTER_SET,
)

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
TIMEZONE_OFFSET: Final = 0x00080201
#: Neither a key nor answered as one.
CONTROL_TAGS: Final = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, TIMEZONE_OFFSET})

#: Keys in one identifier; a requestor that wants all attributes of the index sends 60.
MAX_KEYS: Final = 1000
#: Characters of one value of a key.
MAX_KEY_LENGTH: Final = 1024
#: UIDs in a list: what `Limits.identifier` has room for.
MAX_LISTED_UIDS: Final = 16_384
#: Values in a list of anything else.
MAX_LISTED_VALUES: Final = 256
#: Characters of a wild card key: three component groups of a PN (PS3.5 6.2) and some.
#: Matching takes time in proportion to this at the worst.
MAX_WILD_CARD_LENGTH: Final = 256
#: Stars in one wild card key; more than a few have no use.
MAX_STARS: Final = 16

_PADDING: Final = " \0"
_DAY_BEGINS: Final = "000000.000000"
_DAY_ENDS: Final = "235959.999999"


class IdentifierError(OperationError):
    """An identifier that cannot be answered; the comment names tags, never values.

    Its status is A900H (identifier does not match SOP class) or C000H (unable to process: it
    cannot be read).
    """

    error_code = ErrorCode.FIND_LEVEL_INVALID


def identifier_mismatch(message: str, *offending: int) -> IdentifierError:
    """A900H."""
    return IdentifierError(Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, message, offending)


def match_of(
    vr: str, element: Element, encoding: Encoding, character_set: tuple[str, ...]
) -> Match | None:
    """What a key that is no sequence asks for; None: nothing (universal matching, C.2.2.2.3).

    Raises:
        IdentifierError: A900H: its VR does not allow it, or it is over a bound.
    """
    tag, value = element.tag, element.value
    if isinstance(value, tuple):
        raise identifier_mismatch(f"{tag_text(tag)} is no {vr}", tag)
    if vr in NUMBER_VRS:
        text = decode_numbers(value, vr, big_endian=encoding.big_endian)
    else:
        text = decode_text(value, vr, character_set)
        if not text and b"\\" in value:
            raise _list_of_nothing(tag)
    return match_of_text(vr, tag, text)


def match_of_text(vr: str, tag: int, text: str) -> Match | None:
    """What a key asks for whose value is *text*, several joined by a backslash; None: nothing.

    Raises:
        IdentifierError: A900H: its VR does not allow it, or it is over a bound.
    """
    if not text:
        return None
    if text == '""':
        return EmptyValue()
    listed = split_values(vr, text)
    values = [value for value in listed if value]
    bound = MAX_LISTED_UIDS if vr == "UI" else MAX_LISTED_VALUES
    if len(values) > bound:
        raise identifier_mismatch(f"{tag_text(tag)} has more than {bound} values", tag)
    if any(len(value) > MAX_KEY_LENGTH for value in values):
        raise identifier_mismatch(f"{tag_text(tag)} has more than {MAX_KEY_LENGTH} characters", tag)
    if len(values) == 1:
        match = _single(tag, vr, values[0])
        if match is not None or len(listed) == 1:
            return match
    if not any(normalize(vr, value) and value.strip("*") for value in values):
        raise _list_of_nothing(tag)
    if any(is_wild(vr, v) or _is_range(vr, v) or (vr == "UI" and _is_star(v)) for v in values):
        raise identifier_mismatch(
            f"{tag_text(tag)} lists values with wild cards or ranges (PS3.4 C.2.2.2)", tag
        )
    return ValueList(tuple(dict.fromkeys(values)))


def _list_of_nothing(tag: int) -> IdentifierError:
    """Zero length asks for all there is (PS3.4 C.2.2.2.3), and a list has a length."""
    return identifier_mismatch(f"{tag_text(tag)} is a list of values that all ask for nothing", tag)


def _single(tag: int, vr: str, value: str) -> Match | None:
    # Many requestors send a star for "any", whatever the VR.
    if not value.strip("*"):
        return None
    if vr == "PN" and not value.strip("*^= "):
        return None
    if vr == "UI" and _is_star(value):
        raise identifier_mismatch(f"{tag_text(tag)} is a UID with wild cards", tag)
    if _is_range(vr, value):
        return _range(tag, vr, value)
    if is_wild(vr, value):
        if len(value) > MAX_WILD_CARD_LENGTH:
            raise identifier_mismatch(
                f"{tag_text(tag)} is a wild card over {MAX_WILD_CARD_LENGTH} characters", tag
            )
        if value.count("*") > MAX_STARS:
            raise identifier_mismatch(f"{tag_text(tag)} has more than {MAX_STARS} stars", tag)
        return WildCard(value)
    return SingleValue(value) if normalize(vr, value) else None


def _is_star(value: str) -> bool:
    return "*" in value or "?" in value


def _is_range(vr: str, value: str) -> bool:
    if vr == "DT":
        return "-" in value and not is_date_time(value.strip(_PADDING))
    return vr in RANGE_VRS and "-" in value


def _range(tag: int, vr: str, value: str) -> Range:
    if vr == "DT":
        both = split_range(value.strip(_PADDING))
        if both is None:
            raise identifier_mismatch(f"{tag_text(tag)} is no range of DT (PS3.4 C.2.2.2.5)", tag)
        return Range(*both)
    low, _, high = (part.strip(_PADDING) for part in value.partition("-"))
    bounds = Range(low or None, high or None)
    ends = [end for end in range_bounds(vr, bounds) if end is not None]
    if not ends or not all(is_range_comparable(vr, end) for end in ends):
        raise identifier_mismatch(f"{tag_text(tag)} is no range of {vr} (PS3.4 C.2.2.2.5)", tag)
    return bounds


def combined_range(
    date_tag: int, date: Match | None, time_tag: int, time: Match | None
) -> CombinedRange | None:
    """Both as one range of time, where both are given and one is a range (C.2.2.2.5.3)."""
    days, hours = as_range(date), as_range(time)
    if days is None or hours is None or not (isinstance(date, Range) or isinstance(time, Range)):
        return None
    first_day, last_day = range_bounds("DA", days)
    begin, end = range_bounds("TM", hours)
    low = None if first_day is None else first_day + (begin or _DAY_BEGINS)
    high = None if last_day is None else last_day + (end or _DAY_ENDS)
    return CombinedRange(date_tag, time_tag, low, high)


def as_range(match: Match | None) -> Range | None:
    """A range, or a single value as the range of itself."""
    if isinstance(match, Range):
        return match
    return Range(match.value, match.value) if isinstance(match, SingleValue) else None


def response_vr(element: Element) -> str:
    """The VR in which a key that we do not know is given back, without a value."""
    if element.vr in SHORT_VRS or element.vr in LONG_VRS:
        assert element.vr is not None
        return element.vr
    return dictionary_vr(element.tag)


def encode_text_lossy(text: str, vr: str, character_set: tuple[str, ...]) -> bytes:
    """Text in *character_set*; bytes beyond ASCII in a CS or DA, a fault of the object, become
    question marks."""
    try:
        return encode_text(text, vr, character_set)
    except ValueError:
        return text.encode("ascii", "replace")


def encode_number(text: str, vr: str, encoding: Encoding) -> bytes:
    """Decimal numbers in binary; empty for what is none."""
    try:
        return _encode_numbers(text, vr, big_endian=encoding.big_endian)
    except ValueError:
        return b""
