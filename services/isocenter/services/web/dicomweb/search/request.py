"""QIDO-RS requests: what the index is asked, and what objects are.

Standard: PS3.18 10.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import (
    ATTRIBUTES,
    BY_TAG,
    REQUEST_ATTRIBUTES,
    UNIQUE_KEY,
    Level,
)
from isocenter.services.archive.index.extraction import REQUEST_ATTRIBUTES_SEQUENCE
from isocenter.services.archive.index.query import Criterion, NameComparison, Query, SingleValue
from isocenter.services.web.dicomweb.search.field_levels import is_shown_at
from isocenter.services.web.dicomweb.search.keys import ObjectKey, index_criteria, object_key
from isocenter.services.web.dicomweb.search.object_paths import (
    ObjectPath,
    Step,
    creator_tag,
    is_private,
)
from isocenter.services.web.dicomweb.search.parameters import (
    Path,
    SearchParameters,
    parse_parameters,
    path_name,
)

_MODALITY: Final = 0x00080060
_MODALITIES_IN_STUDY: Final = 0x00080061
#: Of the answer, and not of what is found: character set, level, where and whether it can be had.
_OF_ANSWERS: Final = frozenset(
    {0x00080005, 0x00080052, 0x00080054, 0x00080056, 0x00081190, 0x00083002}
)
_TIMEZONE_OFFSET: Final = 0x00080201
#: Of a command or a file, not of a data set (PS3.7, PS3.10).
_FIRST_TAG: Final = 0x00040000

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
        query: what the index is asked.
        keys: what only objects tell.
        shown: tags of an answer that the index has, in ascending order.
        fields: of an answer, what only objects have.
        warnings: what is not done as it was asked.
    """

    query: Query
    keys: tuple[ObjectKey, ...]
    shown: tuple[int, ...]
    fields: tuple[ObjectPath, ...]
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
    in_objects: dict[Path, Sequence[str]] = {}
    unmatched: list[str] = []
    for path, given in said.matched.items():
        if not _is_of_data_set(path):
            continue
        if path[0] in _OF_ANSWERS or path == (_TIMEZONE_OFFSET,):
            unmatched.append(path_name(path))
        elif len(path) == 1 and path[0] in BY_TAG and BY_TAG[path[0]].vr != "SQ":
            values[path[0]] = given
        elif _is_of_request(path):
            items[path[1]] = given
        else:
            in_objects[path] = given
    if level is Level.STUDY and _MODALITY in values:
        values[_MODALITIES_IN_STUDY] = [
            *values.get(_MODALITIES_IN_STUDY, ()),
            *values.pop(_MODALITY),
        ]
    if any(path[0] == REQUEST_ATTRIBUTES_SEQUENCE for path in in_objects):
        # One item has to have all that is asked of the sequence.
        in_objects |= {(REQUEST_ATTRIBUTES_SEQUENCE, tag): given for tag, given in items.items()}
        items.clear()
    criteria, combined = index_criteria(values, items, said.names)
    of_path = tuple(
        Criterion(UNIQUE_KEY[parent], SingleValue(uid)) for parent, uid in parents.items()
    )
    warnings = []
    if unmatched:
        warnings.append(f"not matched: {', '.join(unmatched[:8])}")
    shown = _shown(level, parents, said)
    return SearchRequest(
        query=Query(level=level, criteria=criteria + of_path, combined=combined, return_tags=shown),
        keys=_object_keys(in_objects, said.names),
        shown=shown,
        fields=_fields(level, said, in_objects),
        parameters=said,
        warnings=tuple(warnings),
    )


def _object_keys(
    in_objects: Mapping[Path, Sequence[str]], names: NameComparison
) -> tuple[ObjectKey, ...]:
    #: Where the query says whose private attributes it means.
    creators = {
        (*path[:at], creator_tag(tag))
        for path in in_objects
        for at, tag in enumerate(path)
        if is_private(tag)
    }
    keys = [
        object_key(_object_path(path, in_objects), given, names)
        for path, given in in_objects.items()
        if path not in creators
    ]
    return tuple(key for key in keys if key is not None)


def _object_path(path: Path, in_objects: Mapping[Path, Sequence[str]]) -> ObjectPath:
    def creator_of(above: Path, tag: int) -> str:
        if not is_private(tag):
            return ""
        said = in_objects.get((*above, creator_tag(tag))) or in_objects.get((creator_tag(tag),))
        return said[0] if said else ""

    return tuple(Step(tag, creator_of(path[:at], tag)) for at, tag in enumerate(path))


def _fields(
    level: Level, said: SearchParameters, in_objects: Mapping[Path, Sequence[str]]
) -> tuple[ObjectPath, ...]:
    """What is asked for, or asked to be shown, that the index does not have."""
    paths = {
        path: None
        for path in (*said.matched, *said.included)
        if not _is_of_index(path) and is_shown_at(level, path[0])
    }
    if any(path[0] == REQUEST_ATTRIBUTES_SEQUENCE for path in paths):
        # It takes the place of what the index has of the sequence.
        paths |= {(REQUEST_ATTRIBUTES_SEQUENCE, tag): None for tag in REQUEST_ATTRIBUTES}
    return tuple(_object_path(path, in_objects) for path in sorted(paths) if _is_of_data_set(path))


def _shown(level: Level, parents: Mapping[Level, str], said: SearchParameters) -> tuple[int, ...]:
    """What belongs to the level, of levels above that are not in the path what they would show,
    and what was asked for, at or above the level."""
    levels = [one for one in Level if Level.STUDY.depth <= one.depth <= level.depth]
    own = [one for one in levels if one is level or one not in parents]
    shown = {tag for one in own for tag in _DEFAULTS[one]}
    shown |= {UNIQUE_KEY[one] for one in levels}
    possible = {one.tag for one in ATTRIBUTES if one.level.depth <= level.depth}
    asked = {path[0] for path in (*said.matched, *said.included)}
    shown |= possible if said.includes_all else asked & possible
    return tuple(sorted(shown))


def _is_of_data_set(path: Path) -> bool:
    """Not of a command or a file; nor a group length, which is none of its content."""
    return all(tag >= _FIRST_TAG and tag & 0xFFFF for tag in path)


def _is_of_request(path: Path) -> bool:
    return (
        len(path) == 2 and path[0] == REQUEST_ATTRIBUTES_SEQUENCE and path[1] in REQUEST_ATTRIBUTES
    )


def _is_of_index(path: Path) -> bool:
    """Whether an answer has it from the index, or says it anyway."""
    return (len(path) == 1 and path[0] in BY_TAG) or _is_of_request(path) or path[0] in _OF_ANSWERS
