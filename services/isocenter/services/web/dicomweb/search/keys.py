"""Matching keys of a search: values in a query as what the matcher understands.

Standard: PS3.18 8.3.4.1, PS3.4 C.2.2.2; VRs of PS3.5 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.archive.index.attributes import BY_TAG, REQUEST_ATTRIBUTES
from isocenter.services.archive.index.date_times import is_date_time
from isocenter.services.archive.index.extraction import REQUEST_ATTRIBUTES_SEQUENCE
from isocenter.services.archive.index.matching import is_range_comparable, normalize, split_values
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    Match,
    NameComparison,
    SequenceMatch,
    SingleValue,
    ValueList,
    compared_by,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.net.http.messages import HttpError
from isocenter.services.service_classes.query_retrieve.identifier import DATE_TIMES
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    IdentifierError,
    combined_range,
    match_of_text,
)
from isocenter.services.web.dicomweb.search.object_paths import ObjectPath
from isocenter.services.web.dicomweb.search.parameters import joined_values, path_name

#: What values of these are is not searched for.
BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_IS_VALUE: Final[Mapping[str, Callable[[str], object]]] = {
    "UI": is_uid,
    "DA": lambda value: is_range_comparable("DA", normalize("DA", value)),
    "TM": lambda value: is_range_comparable("TM", normalize("TM", value)),
    "DT": is_date_time,
    "AS": re.compile(r"[0-9]{3}[DWMY]").fullmatch,
    "AT": re.compile(r"[0-9A-Fa-f]{8}").fullmatch,
    **dict.fromkeys(("IS", "US", "SS", "UL", "SL", "UV", "SV"), _INTEGER.fullmatch),
    **dict.fromkeys(("DS", "FL", "FD"), _DECIMAL.fullmatch),
}


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """Something that only objects tell: what is asked of one attribute at the end of a path.

    Attributes:
        given: the value as it was given, several joined by a backslash: what it asks for depends
            on the VR, which of private attributes objects tell.
        names: how person names are compared.
    """

    path: ObjectPath
    given: str
    names: NameComparison = NameComparison.LITERAL


def match_of(name: str, vr: str, tag: int, given: Sequence[str]) -> Match | None:
    """What the values of the parameter *name* ask for; None: nothing (universal matching).

    Raises:
        HttpError: they are no values of that VR (400).
    """
    text = joined_values(vr, given)
    if vr == "SQ":
        if not text.strip("*"):
            return None
        raise broken(name, "is a sequence: name an attribute of it")
    if vr in BULK_VRS:
        raise broken(name, "is bulk data, which is not searched")
    try:
        found = match_of_text(vr, tag, text)
    except IdentifierError as error:
        raise broken(name, str(error.comment or error)) from error
    is_value = _IS_VALUE.get(vr)
    if is_value is not None:
        values = split_values(vr, text) if isinstance(found, SingleValue | ValueList) else ()
        if not all(is_value(value.strip()) for value in values if value.strip()):
            raise broken(name, f"has a value that is no {_NAMES.get(vr, vr)}")
    return found


_NAMES: Final = {"UI": "UID", "DA": "date", "TM": "time", "DT": "date-time"}


def broken(name: str, why: str) -> HttpError:
    """400."""
    return HttpError(400, "BAD_QUERY", f"{name}: {why}")


def index_criteria(
    values: Mapping[int, Sequence[str]],
    items: Mapping[int, Sequence[str]],
    names: NameComparison = NameComparison.LITERAL,
) -> tuple[tuple[Criterion, ...], tuple[CombinedRange, ...]]:
    """What the index is asked for.

    Args:
        values: by tag, of attributes that the index has.
        items: the same of attributes of (0040,0275).
        names: how person names are compared.

    Raises:
        HttpError: a value is broken (400).
    """
    matches = _matches(values, lambda tag: BY_TAG[tag].vr)
    combined: list[CombinedRange] = []
    for date_tag, time_tag in DATE_TIMES:
        both = combined_range(date_tag, matches.get(date_tag), time_tag, matches.get(time_tag))
        if both is not None:
            combined.append(both)
            del matches[date_tag], matches[time_tag]
    criteria = [
        Criterion(tag, compared)
        for tag, match in matches.items()
        if (compared := compared_by(BY_TAG[tag].vr, match, names)) is not None
    ]
    inner = _matches(items, REQUEST_ATTRIBUTES.__getitem__, REQUEST_ATTRIBUTES_SEQUENCE)
    if inner:
        asked = tuple(Criterion(tag, match) for tag, match in inner.items())
        criteria.append(Criterion(REQUEST_ATTRIBUTES_SEQUENCE, SequenceMatch(asked)))
    return tuple(criteria), tuple(combined)


def _matches(
    values: Mapping[int, Sequence[str]], vr_of: Callable[[int], str], *above: int
) -> dict[int, Match]:
    found = {
        tag: match_of(path_name((*above, tag)), vr_of(tag), tag, given)
        for tag, given in values.items()
    }
    return {tag: match for tag, match in found.items() if match is not None}


def object_key(
    path: ObjectPath, given: Sequence[str], names: NameComparison = NameComparison.LITERAL
) -> ObjectKey | None:
    """What only objects tell; None: nothing is asked for.

    Raises:
        HttpError: a value is broken (400).
    """
    tag = path[-1].tag
    vr = dictionary_vr(tag)
    name = path_name([step.tag for step in path])
    if vr == "UN":
        # What the values of a private attribute are its object tells.
        text = joined_values(vr, given)
        return ObjectKey(path, text, names) if text.strip("*") else None
    found = match_of(name, vr, tag, given)
    return None if found is None else ObjectKey(path, joined_values(vr, given), names)
