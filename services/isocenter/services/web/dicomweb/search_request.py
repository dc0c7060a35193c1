"""QIDO-RS requests as queries of the index (PS3.18 10.6).

What cannot be matched here is told in a Warning, since an answer that was not narrowed looks like
one that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.archive.index.attributes import ATTRIBUTES, BY_TAG, UNIQUE_KEY, Level
from isocenter.services.archive.index.extraction import REQUEST_ATTRIBUTES_SEQUENCE
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    Match,
    Query,
    SequenceMatch,
    SingleValue,
)
from isocenter.services.dicom.data_dictionary import dictionary_vr
from isocenter.services.net.http.messages import HttpError
from isocenter.services.service_classes.query_retrieve.identifier import DATE_TIMES
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    IdentifierError,
    combined_range,
    match_of_text,
)
from isocenter.services.web.dicomweb.search_parameters import (
    SearchParameters,
    joined_values,
    parse_parameters,
    path_name,
)

_MODALITY: Final = 0x00080060
_MODALITIES_IN_STUDY: Final = 0x00080061

#: What an answer has without being asked for (PS3.18 Tables 10.6.3-3 to 10.6.3-5).
_DEFAULTS: Final[Mapping[Level, tuple[int, ...]]] = {
    Level.STUDY: (
        0x00080020, 0x00080030, 0x00080050, 0x00080061, 0x00080090, 0x00081030, 0x00100010,
        0x00100020, 0x00100030, 0x00100040, 0x0020000D, 0x00200010, 0x00201206, 0x00201208,
    ),
    Level.SERIES: (
        0x00080060, 0x0008103E, 0x00080021, 0x00080031, 0x0020000E, 0x00200011, 0x00201209,
        0x00400244, 0x00400245, 0x00400275,
    ),
    Level.IMAGE: (
        0x00080016, 0x00080018, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A search as understood.

    Attributes:
        shown: tags of an answer, in ascending order.
        warnings: what is not done as it was asked.
    """

    query: Query
    shown: tuple[int, ...]
    parameters: SearchParameters
    warnings: tuple[str, ...]


def parse_search(
    level: Level, parents: Mapping[Level, str], parameters: Iterable[tuple[str, str]]
) -> SearchRequest:
    """Understand a search.

    Args:
        parents: UIDs of the path.

    Raises:
        HttpError: a value of an attribute or parameter that is known is broken (400).
    """
    said = parse_parameters(parameters)
    values: dict[int, Sequence[str]] = {}
    items: dict[int, Sequence[str]] = {}
    included = {path[0] for path in said.included}
    unmatched: list[str] = []
    warnings = list(said.warnings)
    for path, given in said.matched.items():
        if len(path) == 2 and path[0] == REQUEST_ATTRIBUTES_SEQUENCE:
            items[path[1]] = given
        elif len(path) == 1 and path[0] in BY_TAG:
            values[path[0]] = given
            included.add(path[0])
        else:
            unmatched.append(path_name(path))
    if unmatched:
        warnings.append(f"not matched, as the index does not have it: {', '.join(unmatched[:8])}")
    if level is Level.STUDY and _MODALITY in values:
        values[_MODALITIES_IN_STUDY] = [
            *values.get(_MODALITIES_IN_STUDY, ()),
            *values.pop(_MODALITY),
        ]
    criteria, combined = _criteria(values)
    if items:
        inner, _ = _criteria(items)
        criteria.append(Criterion(REQUEST_ATTRIBUTES_SEQUENCE, SequenceMatch(tuple(inner))))
    criteria += [Criterion(UNIQUE_KEY[parent], SingleValue(uid)) for parent, uid in parents.items()]
    shown = _shown(level, parents, included, is_all=said.includes_all)
    query = Query(
        level=level, criteria=tuple(criteria), combined=tuple(combined), return_tags=shown
    )
    return SearchRequest(query=query, shown=shown, parameters=said, warnings=tuple(warnings))


def _criteria(values: Mapping[int, Sequence[str]]) -> tuple[list[Criterion], list[CombinedRange]]:
    matches: dict[int, Match] = {}
    for tag, given in values.items():
        vr = BY_TAG[tag].vr if tag in BY_TAG else dictionary_vr(tag)
        if vr == "SQ":
            raise HttpError(400, "BAD_QUERY", f"{tag:08X} is a sequence: name an attribute of it")
        text = joined_values(vr, given)
        if vr == "UI" and not all(is_uid(uid) or uid in ("", "*") for uid in text.split("\\")):
            raise HttpError(400, "BAD_QUERY", f"the value of {tag:08X} is no UID")
        try:
            found = match_of_text(vr, tag, text)
        except IdentifierError as error:
            raise HttpError(400, "BAD_QUERY", str(error.comment or error)) from error
        if found is not None:
            matches[tag] = found
    combined: list[CombinedRange] = []
    for date_tag, time_tag in DATE_TIMES:
        both = combined_range(date_tag, matches.get(date_tag), time_tag, matches.get(time_tag))
        if both is not None:
            combined.append(both)
            del matches[date_tag], matches[time_tag]
    return [Criterion(tag, match) for tag, match in matches.items()], combined


def _shown(
    level: Level, parents: Mapping[Level, str], included: set[int], *, is_all: bool
) -> tuple[int, ...]:
    """What answers show: what belongs to the level, of levels above that are not in the path what
    they would show, and what was asked for, at or above the level."""
    levels = [one for one in Level if Level.STUDY.depth <= one.depth <= level.depth]
    own = [one for one in levels if one is level or one not in parents]
    shown = {tag for one in own for tag in _DEFAULTS[one]}
    shown |= {UNIQUE_KEY[one] for one in levels}
    possible = {one.tag for one in ATTRIBUTES if one.level.depth <= level.depth}
    shown |= possible if is_all else included & possible
    return tuple(sorted(shown))
