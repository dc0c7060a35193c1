"""Identifiers of C-FIND, C-MOVE and C-GET as queries.

Bytes in, values out: no object model of data sets.  Matches as identifiers are in
`isocenter.services.service_classes.query_retrieve.match_encoder`, what a requestor needs in
`isocenter.services.service_classes.query_retrieve.identifier_builder`.

Standard: PS3.4 C.2.2, C.4, C.6; VRs of PS3.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    DataSetError,
    Element,
    Encoding,
    Fragments,
    encoding_of,
    read_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.index.attributes import (
    BY_TAG,
    REQUEST_ATTRIBUTES,
    UNIQUE_KEY,
    Level,
)
from isocenter.services.archive.index.extraction import (
    REQUEST_ATTRIBUTES_SEQUENCE,
    SCANNED_SEQUENCES,
)
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    NameComparison,
    Query,
    SequenceMatch,
    SingleValue,
    ValueList,
    ZonedKeys,
    compared_by,
)
from isocenter.services.archive.index.time_zones import ZoneChange, parse_offset
from isocenter.services.dicom.element_values import (
    character_set_of,
    decode_text,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import (
    SPECIFIC_CHARACTER_SET,
)
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    CONTROL_TAGS,
    MAX_KEYS,
    QUERY_RETRIEVE_LEVEL,
    TIMEZONE_OFFSET,
    IdentifierError,
    combined_range,
    identifier_mismatch,
    match_of,
)

RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056

#: Date and time that are one point in time (PS3.4 C.2.2.2.5.3).
DATE_TIMES: Final = (
    (0x00080020, 0x00080030),
    (0x00080021, 0x00080031),
    (0x00080022, 0x00080032),
    (0x00080023, 0x00080033),
    (0x00100030, 0x00100032),
    (0x00400244, 0x00400245),
)
#: Those that are not by the clock of the place where somebody was born.
ZONED_DATE_TIMES: Final = tuple(pair for pair in DATE_TIMES if pair != (0x00100030, 0x00100032))
#: No attributes of what is found: what a key asks of them is not looked at.
_NOT_MATCHED: Final = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY, TIMEZONE_OFFSET})
#: A series has it.  Asked of a study, as many do, it means Modalities in Study.
MODALITY: Final = 0x00080060
MODALITIES_IN_STUDY: Final = 0x00080061
_UNIQUE_KEYS: Final = frozenset(UNIQUE_KEY.values())


class InformationModel(Enum):
    """The query/retrieve information models (PS3.4 C.6)."""

    PATIENT = "Patient Root"
    STUDY = "Study Root"
    PATIENT_STUDY_ONLY = "Patient/Study Only"
    COMPOSITE_INSTANCE = "Composite Instance Root"

    @property
    def levels(self) -> tuple[Level, ...]:
        """From the top; in Study Root the attributes of the patient are the study's (C.6.2.1)."""
        return _LEVELS[self]


_LEVELS: Final = {
    InformationModel.PATIENT: tuple(Level),
    InformationModel.STUDY: (Level.STUDY, Level.SERIES, Level.IMAGE),
    InformationModel.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
    InformationModel.COMPOSITE_INSTANCE: (Level.IMAGE,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """An identifier as understood.

    Attributes:
        requested: tag and VR of every key that is supported, in order; what an answer
            consists of.
        requested_item: the same of the item of (0040,0275); None: all that is known.
        unsupported: keys that are not matched as they ask (status FF01H), and not answered
            (PS3.4 C.2.2.1.3): the index does not know them, or they are below the level.
        character_set: of the identifier; answers use it where it suffices.
        change: to the time zone of the identifier; None: there is none.
    """

    query: Query
    level: Level
    requested: tuple[tuple[int, str], ...]
    requested_item: tuple[tuple[int, str], ...] | None = None
    unsupported: tuple[int, ...] = ()
    character_set: tuple[str, ...] = ()
    change: ZoneChange | None = None

    @property
    def shows_study_modality(self) -> bool:
        """Whether studies are asked for Modality (0008,0060)."""
        return self.level is Level.STUDY and (MODALITY, "CS") in self.requested


def parse_query(
    identifier: Buffer,
    transfer_syntax_uid: str,
    *,
    root: InformationModel,
    relational: bool = False,
    combined_date_time: bool = False,
    names: NameComparison = NameComparison.LITERAL,
    time_zone: str | None = None,
    for_retrieve: bool = False,
    undeclared: tuple[str, ...] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> ParsedQuery:
    """The query that an identifier means.

    Keys of levels below the query's are not supported unless *relational*, but for Modality of
    a study; a retrieve looks at unique keys only.

    Args:
        relational: relational queries (or retrievals) were negotiated: no unique keys of the
            levels above are needed (PS3.4 C.4.1.2.2).
        combined_date_time: combined date-time matching was negotiated (C.5.1.1.1).
        names: how person names are compared.
        time_zone: of the archive, where adjustment to that of the identifier was negotiated
            (C.5.1.1.1); None: it was not.
        for_retrieve: the identifier is that of a C-MOVE or C-GET (C.4.2.1.4).
        undeclared: its character set if it declares none.

    Raises:
        IdentifierError: A900H: level missing, unknown or not in *root*; a unique key missing,
            or not a single value where it has to be; a value in a unique key below the level; a
            key that its VR does not allow, or over a bound.  C000H: not a data set.
    """
    encoding = encoding_of(transfer_syntax_uid)
    try:
        elements = read_data_set(identifier, encoding, limits, SCANNED_SEQUENCES)
    except DataSetError as error:
        raise IdentifierError(
            Status.CANNOT_UNDERSTAND, f"identifier cannot be read: {error}"
        ) from error
    if len(elements) > MAX_KEYS:
        raise identifier_mismatch(f"more than {MAX_KEYS} keys")
    character_set = character_set_of(_bytes_of(elements.get(SPECIFIC_CHARACTER_SET)), undeclared)
    level = _level_of(elements.get(QUERY_RETRIEVE_LEVEL), root)
    parser = _KeyParser(encoding, character_set, names)
    if for_retrieve:
        criteria = _retrieve_criteria(parser, elements, root, level, relational)
        return ParsedQuery(
            query=Query(level=level, criteria=criteria),
            level=level,
            requested=(),
            character_set=character_set,
        )
    if not relational:
        _check_hierarchy(parser, elements, root, level)
    change = _zone_change(elements.get(TIMEZONE_OFFSET), time_zone)
    requested: list[tuple[int, str]] = []
    unsupported: list[int] = []
    matches: dict[int, Match] = {}
    of_study: Match | None = None
    for tag, element in elements.items():
        if tag in _NOT_MATCHED:
            if tag == TIMEZONE_OFFSET and change is not None:
                continue
            if _bytes_of(element).strip(b" \0"):
                unsupported.append(tag)
            continue
        if tag in CONTROL_TAGS or not tag & 0xFFFF:
            continue
        attribute = BY_TAG.get(tag)
        if attribute is None:
            unsupported.append(tag)
        elif relational or attribute.level.depth <= level.depth:
            requested.append((tag, attribute.vr))
            match = parser.match(attribute.vr, element)
            if match is not None:
                matches[tag] = match
        elif tag == MODALITY and level is Level.STUDY:
            requested.append((tag, attribute.vr))
            of_study = parser.match(attribute.vr, element)
        elif tag in _UNIQUE_KEYS and parser.match(attribute.vr, element) is not None:
            raise identifier_mismatch(
                f"{tag_text(tag)} has a value at level {level.value}, which is above its own "
                "(relational queries were not negotiated)",
                tag,
            )
        else:
            unsupported.append(tag)
    if parser.unsupported_in_item:
        unsupported.append(REQUEST_ATTRIBUTES_SEQUENCE)
    combined = _take_combined(matches) if combined_date_time else ()
    if change is not None:
        combined = _zoned(change, matches, combined)
    wanted = [Criterion(tag, match) for tag, match in matches.items()]
    if of_study is not None:
        wanted.append(Criterion(MODALITIES_IN_STUDY, of_study))
    return_tags = dict.fromkeys(tag for tag, _ in requested)
    if change is not None:
        for pair in ZONED_DATE_TIMES:
            # To move one, both have to be known.
            if not return_tags.keys().isdisjoint(pair):
                return_tags |= dict.fromkeys(pair)
    if MODALITY in return_tags and level is Level.STUDY:
        return_tags[MODALITIES_IN_STUDY] = None
    return ParsedQuery(
        query=Query(
            level=level,
            criteria=tuple(wanted),
            combined=combined,
            return_tags=tuple(return_tags),
        ),
        level=level,
        requested=tuple(requested),
        requested_item=parser.requested_item,
        unsupported=tuple(unsupported),
        character_set=character_set,
        change=change,
    )


def _bytes_of(element: Element | None) -> bytes:
    if element is None or isinstance(element.value, tuple):
        return b""
    return element.value


def _level_of(element: Element | None, root: InformationModel) -> Level:
    if element is None:
        raise identifier_mismatch(
            "Query/Retrieve Level (0008,0052) is missing", QUERY_RETRIEVE_LEVEL
        )
    text = decode_text(_bytes_of(element), "CS")
    allowed = ", ".join(level.value for level in root.levels)
    for level in root.levels:
        if level.value == text:
            return level
    raise identifier_mismatch(
        f"Query/Retrieve Level (0008,0052) is none of {allowed} ({root.value})",
        QUERY_RETRIEVE_LEVEL,
    )


def _levels_above(root: InformationModel, level: Level) -> tuple[Level, ...]:
    return tuple(above for above in root.levels if above.depth < level.depth)


def _check_hierarchy(
    parser: _KeyParser, elements: Mapping[int, Element], root: InformationModel, level: Level
) -> None:
    """Hierarchical search: one entity of each level above is named (PS3.4 C.4.1.2.1)."""
    for above in _levels_above(root, level):
        tag = UNIQUE_KEY[above]
        match = parser.match(BY_TAG[tag].vr, elements[tag]) if tag in elements else None
        if not isinstance(match, SingleValue):
            raise identifier_mismatch(
                f"{tag_text(tag)} must be a single value at level {level.value} "
                "(relational queries were not negotiated)",
                tag,
            )


def _retrieve_criteria(
    parser: _KeyParser,
    elements: Mapping[int, Element],
    root: InformationModel,
    level: Level,
    relational: bool,
) -> tuple[Criterion, ...]:
    """Unique keys, and nothing else, say what is retrieved (PS3.4 C.4.2.1.4, C.4.3.1.3)."""
    criteria = []
    for at in (*_levels_above(root, level), level):
        tag = UNIQUE_KEY[at]
        match = parser.match(BY_TAG[tag].vr, elements[tag]) if tag in elements else None
        if match is None and relational and at is not level:
            continue
        allowed = (
            (SingleValue, ValueList) if at is level and at is not Level.PATIENT else SingleValue
        )
        if not isinstance(match, allowed):
            what = "a UID or a list of UID" if isinstance(allowed, tuple) else "a single value"
            raise identifier_mismatch(f"{tag_text(tag)} must be {what} to retrieve", tag)
        criteria.append(Criterion(tag, match))
    return tuple(criteria)


class _KeyParser:
    """Keys as matches, for one identifier.

    Attributes:
        requested_item: tag and VR of what the item of (0040,0275) asked for.
        unsupported_in_item: something in it is not known to the index.
    """

    def __init__(
        self, encoding: Encoding, character_set: tuple[str, ...], names: NameComparison
    ) -> None:
        self._names = names
        self._encoding = encoding
        self._character_set = character_set
        self.requested_item: tuple[tuple[int, str], ...] | None = None
        self.unsupported_in_item = False

    def match(self, vr: str, element: Element) -> Match | None:
        """What a key asks for; None: nothing (universal matching, PS3.4 C.2.2.2.3).

        Raises:
            IdentifierError: A900H.
        """
        if vr == "SQ":
            return self._sequence(element)
        match = match_of(vr, element, self._encoding, self._character_set)
        return compared_by(vr, match, self._names)

    def _sequence(self, element: Element) -> Match | None:
        tag, items = element.tag, element.value
        if isinstance(items, Fragments) or (isinstance(items, bytes) and items):
            raise identifier_mismatch(f"{tag_text(tag)} is no sequence", tag)
        if isinstance(items, bytes) or not items:
            return None
        if len(items) > 1:
            raise identifier_mismatch(
                f"{tag_text(tag)} has more than one item (PS3.4 C.2.2.2.6)", tag
            )
        criteria = []
        requested = []
        for key in items[0].values():
            if key.tag in CONTROL_TAGS or not key.tag & 0xFFFF:
                continue
            vr = REQUEST_ATTRIBUTES.get(key.tag)
            if vr is None:
                self.unsupported_in_item = True
                continue
            requested.append((key.tag, vr))
            match = self.match(vr, key)
            if match is not None:
                criteria.append(Criterion(key.tag, match))
        if items[0]:
            self.requested_item = tuple(requested)
        return SequenceMatch(tuple(criteria)) if criteria else None


def _zone_change(element: Element | None, time_zone: str | None) -> ZoneChange | None:
    text = decode_text(_bytes_of(element), "SH")
    if time_zone is None or not text:
        return None
    offset = parse_offset(text)
    if offset is None:
        raise identifier_mismatch(
            f"{tag_text(TIMEZONE_OFFSET)} is no offset from UTC (+HHMM)", TIMEZONE_OFFSET
        )
    return ZoneChange(time_zone, offset)


def _zoned(
    change: ZoneChange, matches: dict[int, Match], combined: tuple[CombinedRange, ...]
) -> tuple[CombinedRange, ...]:
    """Take date and time keys out, to be compared by the clock of the identifier."""
    found = []
    for both in combined:
        is_moved = (both.date_tag, both.time_tag) in ZONED_DATE_TIMES
        found.append(replace(both, zoned=ZonedKeys(change)) if is_moved else both)
    for date_tag, time_tag in ZONED_DATE_TIMES:
        keys = matches.get(date_tag), matches.get(time_tag)
        # Without a value there is nothing to move.
        if all(key is None or isinstance(key, EmptyValue) for key in keys):
            continue
        date, time = (None if isinstance(key, EmptyValue) else key for key in keys)
        for tag, key in ((date_tag, date), (time_tag, time)):
            if key is not None:
                del matches[tag]
        found.append(CombinedRange(date_tag, time_tag, None, None, ZonedKeys(change, date, time)))
    return tuple(found)


def _take_combined(matches: dict[int, Match]) -> tuple[CombinedRange, ...]:
    """Replace date and time keys, where one is a range, by their combination (C.2.2.2.5.3)."""
    combined = []
    for date_tag, time_tag in DATE_TIMES:
        both = combined_range(date_tag, matches.get(date_tag), time_tag, matches.get(time_tag))
        if both is not None:
            del matches[date_tag], matches[time_tag]
            combined.append(both)
    return tuple(combined)
