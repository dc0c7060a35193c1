"""Identifiers of C-FIND, C-MOVE and C-GET as queries, and matches as identifiers.

Bytes in, values out: no object model of data sets.  What a requestor needs
(`build_identifier`, `read_identifier`) is in `isocenter.services.identifier_keys`
and can be had from here.

Standard: PS3.4 C.2.2, C.4, C.6; VRs of PS3.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from operator import itemgetter
from typing import Final

from isocenter.engine.dataset import (
    DataSetError,
    Element,
    Encoding,
    Fragments,
    WritableElement,
    encoding_of,
    read_data_set,
    write_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dataset.vr import LONG_VRS, SHORT_VRS
from isocenter.engine.errors import IsocenterError
from isocenter.engine.items import Buffer
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.attributes import BY_TAG, REQUEST_ATTRIBUTES, UNIQUE_KEY, Level
from isocenter.services.identifier_keys import (
    KeySyntaxError,
    build_identifier,
    parse_key,
    read_identifier,
    vr_of,
)
from isocenter.services.matching import (
    RANGE_VRS,
    is_range_comparable,
    is_wild,
    items_of,
    normalize,
    range_bounds,
    values_of,
)
from isocenter.services.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.record import REQUEST_ATTRIBUTES_SEQUENCE, SCANNED_SEQUENCES
from isocenter.services.text import (
    NUMBER_VRS,
    character_set_of,
    choose_character_set,
    decode_numbers,
    decode_text,
    encode_numbers,
    encode_text,
)

__all__ = [
    "IdentifierError",
    "KeySyntaxError",
    "ParsedQuery",
    "Root",
    "build_identifier",
    "encode_match",
    "parse_key",
    "parse_query",
    "read_identifier",
]

#: Identifier does not match SOP Class (PS3.4 Tables C.4-1 to C.4-3).
DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
#: Unable to process (the same tables).
UNABLE_TO_PROCESS: Final = 0xC000

SPECIFIC_CHARACTER_SET: Final = 0x00080005
QUERY_RETRIEVE_LEVEL: Final = 0x00080052
RETRIEVE_AE_TITLE: Final = 0x00080054
INSTANCE_AVAILABILITY: Final = 0x00080056
TIMEZONE_OFFSET: Final = 0x00080201

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

#: Date and time that are one point in time (PS3.4 C.2.2.2.5.3).
_DATE_TIMES: Final = (
    (0x00080020, 0x00080030),
    (0x00080021, 0x00080031),
    (0x00080022, 0x00080032),
    (0x00080023, 0x00080033),
    (0x00100030, 0x00100032),
    (0x00400244, 0x00400245),
)
_DAY_BEGINS: Final = "000000.000000"
_DAY_ENDS: Final = "235959.999999"

#: Neither a key nor answered as one.
_CONTROL_TAGS: Final = frozenset({SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, TIMEZONE_OFFSET})
#: Always in the answer.
_ANSWER_TAGS: Final = frozenset({RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY})
_UNIQUE_KEYS: Final = frozenset(UNIQUE_KEY.values())
_PADDING: Final = " \0"


class Root(Enum):
    """The query/retrieve information models (PS3.4 C.6)."""

    PATIENT = "Patient Root"
    STUDY = "Study Root"
    PATIENT_STUDY_ONLY = "Patient/Study Only"

    @property
    def levels(self) -> tuple[Level, ...]:
        """From the top; in Study Root the attributes of the patient are the study's (C.6.2.1)."""
        return _LEVELS[self]


_LEVELS: Final = {
    Root.PATIENT: tuple(Level),
    Root.STUDY: (Level.STUDY, Level.SERIES, Level.IMAGE),
    Root.PATIENT_STUDY_ONLY: (Level.PATIENT, Level.STUDY),
}


class IdentifierError(IsocenterError):
    """An identifier that cannot be answered; the message names tags, never values.

    Attributes:
        status: of the response: A900H (identifier does not match SOP class), C000H (unable
            to process: it cannot be read).
        offending: tags for Offending Element (0000,0901).
    """

    def __init__(self, status: int, message: str, offending: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.offending = offending


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedQuery:
    """An identifier as understood.

    Attributes:
        requested: tag and VR of every key, in order; what an answer consists of.
        requested_item: the same of the item of (0040,0275); empty: all that is known.
        unsupported: requested keys that the index does not know (status FF01H).
        character_set: of the identifier; answers use it where it suffices.
    """

    query: Query
    level: Level
    requested: tuple[tuple[int, str], ...]
    requested_item: tuple[tuple[int, str], ...] = ()
    unsupported: tuple[int, ...] = ()
    character_set: tuple[str, ...] = ()


def parse_query(
    identifier: Buffer,
    transfer_syntax_uid: str,
    *,
    root: Root,
    relational: bool = False,
    combined_date_time: bool = False,
    for_retrieve: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> ParsedQuery:
    """The query that an identifier means.

    Keys of levels below the query's are ignored unless *relational*; a retrieve looks at
    unique keys only.

    Args:
        relational: relational queries (or retrievals) were negotiated: no unique keys of the
            levels above are needed (PS3.4 C.4.1.2.2).
        combined_date_time: combined date-time matching was negotiated (C.5.1.1.1).
        for_retrieve: the identifier is that of a C-MOVE or C-GET (C.4.2.1.4).

    Raises:
        IdentifierError: A900H: level missing, unknown or not in *root*; a unique key missing,
            or not a single value where it has to be; a key that its VR does not allow, or over
            a bound.  C000H: not a data set.
    """
    encoding = encoding_of(transfer_syntax_uid)
    try:
        elements = read_data_set(identifier, encoding, limits, SCANNED_SEQUENCES)
    except DataSetError as error:
        raise IdentifierError(UNABLE_TO_PROCESS, f"identifier cannot be read: {error}") from error
    if len(elements) > MAX_KEYS:
        raise _does_not_match(f"more than {MAX_KEYS} keys")
    character_set = character_set_of(_bytes_of(elements.get(SPECIFIC_CHARACTER_SET)))
    level = _level_of(elements.get(QUERY_RETRIEVE_LEVEL), root)
    parser = _KeyParser(encoding, character_set)
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
    requested: list[tuple[int, str]] = []
    unsupported: list[int] = []
    matches: dict[int, Match] = {}
    for tag, element in elements.items():
        if tag in _CONTROL_TAGS or not tag & 0xFFFF:
            continue
        attribute = BY_TAG.get(tag)
        if attribute is None:
            requested.append((tag, _answer_vr(element)))
            if tag not in _ANSWER_TAGS:
                unsupported.append(tag)
            continue
        requested.append((tag, attribute.vr))
        if attribute.level.depth > level.depth and not relational:
            continue
        match = parser.match(attribute.vr, element)
        if match is not None:
            matches[tag] = match
    if parser.unsupported_in_item:
        unsupported.append(REQUEST_ATTRIBUTES_SEQUENCE)
    combined = _take_combined(matches) if combined_date_time else ()
    return ParsedQuery(
        query=Query(
            level=level,
            criteria=tuple(Criterion(tag, match) for tag, match in matches.items()),
            combined=combined,
            return_tags=tuple(tag for tag, _ in requested if tag in BY_TAG),
        ),
        level=level,
        requested=tuple(requested),
        requested_item=parser.requested_item,
        unsupported=tuple(unsupported),
        character_set=character_set,
    )


def _does_not_match(message: str, *offending: int) -> IdentifierError:
    return IdentifierError(DOES_NOT_MATCH_SOP_CLASS, message, offending)


def _bytes_of(element: Element | None) -> bytes:
    if element is None or isinstance(element.value, tuple):
        return b""
    return element.value


def _level_of(element: Element | None, root: Root) -> Level:
    if element is None:
        raise _does_not_match("Query/Retrieve Level (0008,0052) is missing", QUERY_RETRIEVE_LEVEL)
    text = decode_text(_bytes_of(element), "CS")
    allowed = ", ".join(level.value for level in root.levels)
    for level in root.levels:
        if level.value == text:
            return level
    raise _does_not_match(
        f"Query/Retrieve Level (0008,0052) is none of {allowed} ({root.value})",
        QUERY_RETRIEVE_LEVEL,
    )


def _levels_above(root: Root, level: Level) -> tuple[Level, ...]:
    return tuple(above for above in root.levels if above.depth < level.depth)


def _check_hierarchy(
    parser: _KeyParser, elements: Mapping[int, Element], root: Root, level: Level
) -> None:
    """Hierarchical search: one entity of each level above is named (PS3.4 C.4.1.2.1)."""
    for above in _levels_above(root, level):
        tag = UNIQUE_KEY[above]
        match = parser.match(BY_TAG[tag].vr, elements[tag]) if tag in elements else None
        if not isinstance(match, SingleValue):
            raise _does_not_match(
                f"{tag_text(tag)} must be a single value at level {level.value} "
                "(relational queries were not negotiated)",
                tag,
            )


def _retrieve_criteria(
    parser: _KeyParser,
    elements: Mapping[int, Element],
    root: Root,
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
            raise _does_not_match(f"{tag_text(tag)} must be {what} to retrieve", tag)
        criteria.append(Criterion(tag, match))
    return tuple(criteria)


class _KeyParser:
    """Keys as matches, for one identifier.

    Attributes:
        requested_item: tag and VR of what the item of (0040,0275) asked for.
        unsupported_in_item: something in it is not known to the index.
    """

    def __init__(self, encoding: Encoding, character_set: tuple[str, ...]) -> None:
        self._encoding = encoding
        self._character_set = character_set
        self.requested_item: tuple[tuple[int, str], ...] = ()
        self.unsupported_in_item = False

    def match(self, vr: str, element: Element) -> Match | None:
        """What a key asks for; None: nothing (universal matching, PS3.4 C.2.2.2.3).

        Raises:
            IdentifierError: A900H.
        """
        tag, value = element.tag, element.value
        if vr == "SQ":
            return self._sequence(element)
        if isinstance(value, tuple):
            raise _does_not_match(f"{tag_text(tag)} is no {vr}", tag)
        if vr in NUMBER_VRS:
            text = decode_numbers(value, vr, big_endian=self._encoding.big_endian)
        else:
            text = decode_text(value, vr, self._character_set)
        if not text:
            return None
        if text == '""':
            return EmptyValue()
        values = [value for value in values_of(vr, text) if value]
        bound = MAX_LISTED_UIDS if vr == "UI" else MAX_LISTED_VALUES
        if len(values) > bound:
            raise _does_not_match(f"{tag_text(tag)} has more than {bound} values", tag)
        if any(len(value) > MAX_KEY_LENGTH for value in values):
            raise _does_not_match(f"{tag_text(tag)} has more than {MAX_KEY_LENGTH} characters", tag)
        if len(values) == 1:
            return self._single(tag, vr, values[0])
        if any(is_wild(vr, v) or _is_range(vr, v) or (vr == "UI" and _is_star(v)) for v in values):
            raise _does_not_match(
                f"{tag_text(tag)} lists values with wild cards or ranges (PS3.4 C.2.2.2)", tag
            )
        return ValueList(tuple(dict.fromkeys(values)))

    def _single(self, tag: int, vr: str, value: str) -> Match | None:
        # Many requestors send a star for "any", whatever the VR.
        if not value.strip("*"):
            return None
        if vr == "PN" and not value.strip("*^= "):
            return None
        if vr == "UI" and _is_star(value):
            raise _does_not_match(f"{tag_text(tag)} is a UID with wild cards", tag)
        if _is_range(vr, value):
            return _range(tag, vr, value)
        if is_wild(vr, value):
            if len(value) > MAX_WILD_CARD_LENGTH:
                raise _does_not_match(
                    f"{tag_text(tag)} is a wild card over {MAX_WILD_CARD_LENGTH} characters",
                    tag,
                )
            if value.count("*") > MAX_STARS:
                raise _does_not_match(f"{tag_text(tag)} has more than {MAX_STARS} stars", tag)
            return WildCard(value)
        return SingleValue(value) if normalize(vr, value) else None

    def _sequence(self, element: Element) -> Match | None:
        tag, items = element.tag, element.value
        if isinstance(items, Fragments) or (isinstance(items, bytes) and items):
            raise _does_not_match(f"{tag_text(tag)} is no sequence", tag)
        if isinstance(items, bytes) or not items:
            return None
        if len(items) > 1:
            raise _does_not_match(f"{tag_text(tag)} has more than one item (PS3.4 C.2.2.2.6)", tag)
        criteria = []
        requested = []
        for key in items[0].values():
            if key.tag in _CONTROL_TAGS or not key.tag & 0xFFFF:
                continue
            vr = REQUEST_ATTRIBUTES.get(key.tag)
            requested.append((key.tag, _answer_vr(key) if vr is None else vr))
            if vr is None:
                self.unsupported_in_item = True
                continue
            match = self.match(vr, key)
            if match is not None:
                criteria.append(Criterion(key.tag, match))
        self.requested_item = tuple(requested)
        return SequenceMatch(tuple(criteria)) if criteria else None


def _is_star(value: str) -> bool:
    return "*" in value or "?" in value


def _is_range(vr: str, value: str) -> bool:
    return vr in RANGE_VRS and "-" in value


def _range(tag: int, vr: str, value: str) -> Range:
    low, _, high = (part.strip(_PADDING) for part in value.partition("-"))
    bounds = Range(low or None, high or None)
    ends = [end for end in range_bounds(vr, bounds) if end is not None]
    if not ends or not all(is_range_comparable(vr, end) for end in ends):
        raise _does_not_match(f"{tag_text(tag)} is no range of {vr} (PS3.4 C.2.2.2.5)", tag)
    return bounds


def _take_combined(matches: dict[int, Match]) -> tuple[CombinedRange, ...]:
    """Replace date and time keys, where one is a range, by their combination (C.2.2.2.5.3)."""
    combined = []
    for date_tag, time_tag in _DATE_TIMES:
        date = _as_range(matches.get(date_tag))
        time = _as_range(matches.get(time_tag))
        if date is None or time is None:
            continue
        if not (isinstance(matches[date_tag], Range) or isinstance(matches[time_tag], Range)):
            continue
        first_day, last_day = range_bounds("DA", date)
        begin, end = range_bounds("TM", time)
        low = None if first_day is None else first_day + (begin or _DAY_BEGINS)
        high = None if last_day is None else last_day + (end or _DAY_ENDS)
        del matches[date_tag], matches[time_tag]
        combined.append(CombinedRange(date_tag, time_tag, low, high))
    return tuple(combined)


def _as_range(match: Match | None) -> Range | None:
    if isinstance(match, Range):
        return match
    return Range(match.value, match.value) if isinstance(match, SingleValue) else None


def _answer_vr(element: Element) -> str:
    """The VR in which a key that we do not know is given back, without a value."""
    if element.vr in SHORT_VRS or element.vr in LONG_VRS:
        assert element.vr is not None
        return element.vr
    return vr_of(element.tag)


@lru_cache(maxsize=64)
def _answer_plan(
    parsed_keys: tuple[tuple[int, str], ...], level: Level
) -> tuple[tuple[int, str], ...]:
    """Tag and VR of all elements of an answer in order, (0008,0005) not among them."""
    plan = dict(parsed_keys)
    plan |= {UNIQUE_KEY[at]: BY_TAG[UNIQUE_KEY[at]].vr for at in Level if at.depth <= level.depth}
    plan |= {QUERY_RETRIEVE_LEVEL: "CS", RETRIEVE_AE_TITLE: "AE", INSTANCE_AVAILABILITY: "CS"}
    return tuple(sorted(plan.items()))


def encode_match(
    parsed: ParsedQuery,
    match: Mapping[int, str],
    transfer_syntax_uid: str,
    *,
    retrieve_ae_title: str,
) -> bytes:
    """The identifier of one pending C-FIND response.

    It has all requested keys, zero-length where there is no value; the unique keys down to
    the level; (0008,0052), (0008,0054), (0008,0056); and (0008,0005) when it is needed.

    Args:
        match: as `Index.find` gives it.
    """
    encoding = encoding_of(transfer_syntax_uid)
    texts = dict(match)
    texts[QUERY_RETRIEVE_LEVEL] = parsed.level.value
    texts[RETRIEVE_AE_TITLE] = retrieve_ae_title
    texts[INSTANCE_AVAILABILITY] = "ONLINE"
    character_set: tuple[str, ...] = ()
    if not "".join(texts.values()).isascii():
        character_set = choose_character_set(texts.values(), parsed.character_set)
    get = texts.get
    elements: list[WritableElement] = []
    for tag, vr in _answer_plan(parsed.requested, parsed.level):
        text = get(tag, "")
        if not text:
            elements.append((tag, vr, b""))
        elif vr == "SQ":
            elements.append((tag, vr, _encode_items(parsed, text, character_set)))
        elif vr in NUMBER_VRS:
            elements.append((tag, vr, _encode_number(text, vr, encoding)))
        elif text.isascii():
            elements.append((tag, vr, text.encode()))
        else:
            elements.append((tag, vr, _encode_foreign(text, vr, character_set)))
    if character_set:
        elements.append((SPECIFIC_CHARACTER_SET, "CS", "\\".join(character_set).encode()))
        elements.sort(key=itemgetter(0))  # a key may have a lower tag
    return write_data_set(elements, encoding)


def _encode_foreign(text: str, vr: str, character_set: tuple[str, ...]) -> bytes:
    # Bytes beyond ASCII in a CS or DA: a fault of the object, given back as a question mark.
    try:
        return encode_text(text, vr, character_set)
    except ValueError:
        return text.encode("ascii", "replace")


def _encode_number(text: str, vr: str, encoding: Encoding) -> bytes:
    try:
        return encode_numbers(text, vr, big_endian=encoding.big_endian)
    except ValueError:
        return b""


def _encode_items(
    parsed: ParsedQuery, text: str, character_set: tuple[str, ...]
) -> list[Iterable[WritableElement]]:
    keys = sorted(dict(parsed.requested_item or REQUEST_ATTRIBUTES.items()).items())
    return [
        [
            (
                tag,
                vr,
                _encode_foreign(item.get(f"{tag:08X}", ""), vr, character_set)
                if vr != "SQ"
                else b"",
            )
            for tag, vr in keys
        ]
        for item in items_of(text)
    ]
