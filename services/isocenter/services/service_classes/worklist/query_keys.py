"""Keys of a worklist query, and their match with entries (PS3.4 K.2.2, K.4).

Every attribute may be a matching key, at any depth; how each is compared is said by
`isocenter.services.archive.index.matching`.  Scheduled Procedure Step Start Date and Time are one
point in time where both are given and one is a range (remark in Table K.6-1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.dataset import (
    EXPLICIT_LITTLE,
    DataSetError,
    Element,
    Encoding,
    Fragments,
    Item,
    encoding_of,
    read_data_set,
)
from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.dimse.status import Status
from isocenter.engine.fast_init import dataclass
from isocenter.engine.limits import DEFAULT_LIMITS, Limits
from isocenter.services.archive.index.matching import matches_combined, matches_text
from isocenter.services.archive.index.query import CombinedRange, Match, NameComparison, compared_by
from isocenter.services.dicom.attribute_list import AttributeList, items_of
from isocenter.services.dicom.data_dictionary import DICTIONARY_SEQUENCES, dictionary_vr
from isocenter.services.dicom.element_values import (
    CHARACTER_SET_VRS,
    NUMBER_VRS,
    character_set_of,
    decode_numbers,
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
    response_vr,
)

SCHEDULED_STEPS: Final = 0x00400100
START_DATE: Final = 0x00400002
START_TIME: Final = 0x00400003
STEP_STATUS: Final = 0x00400020

#: Of the identifier itself, and no keys: what they would change is not done.
_NOT_MATCHED: Final = frozenset({QUERY_RETRIEVE_LEVEL, TIMEZONE_OFFSET})
#: VRs whose values can be compared as text; any other key only asks for the attribute.
_COMPARABLE_VRS: Final = (
    CHARACTER_SET_VRS | NUMBER_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}
)


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        match: what its value has to satisfy; None: it only asks for the attribute.
        item: of a sequence, the keys in its item; empty: all of it is asked for.
    """

    tag: int
    vr: str
    match: Match | None = None
    item: tuple[Key, ...] = ()

    @property
    def is_criterion(self) -> bool:
        """Whether anything at or below this key can fail to match."""
        return self.match is not None or any(key.is_criterion for key in self.item)


@dataclass(frozen=True, slots=True)
class Keys:
    """An identifier as understood.

    Attributes:
        combined: range of the start of the step, where date and time make one.
        character_set: of the identifier; answers use it where it suffices.
        unsupported: keys whose value is not looked at (status FF01H); they ask for the
            attribute only (PS3.4 K.2.2.1.1.2).
    """

    keys: tuple[Key, ...]
    combined: CombinedRange | None = None
    character_set: tuple[str, ...] = ()
    unsupported: tuple[int, ...] = ()

    def match(self, *path: int) -> Match | None:
        """What is asked of the attribute at *path*; None: nothing."""
        keys, match = self.keys, None
        for tag in path:
            key = next((key for key in keys if key.tag == tag), None)
            keys, match = ((), None) if key is None else (key.item, key.match)
        return match

    @property
    def asks_for_status(self) -> bool:
        """Whether Scheduled Procedure Step Status (0040,0020) has to match."""
        return self.match(SCHEDULED_STEPS, STEP_STATUS) is not None

    def matches(self, attributes: AttributeList) -> bool:
        """Whether *attributes* match."""
        character_set = attributes.character_set
        if not _matches(self.keys, attributes.elements, character_set):
            return False
        combined = self.combined
        return combined is None or any(
            matches_combined(
                combined,
                _text(step, combined.date_tag, "DA", character_set),
                _text(step, combined.time_tag, "TM", character_set),
            )
            for step in attributes.items(SCHEDULED_STEPS)
        )

    def response(self, attributes: AttributeList) -> AttributeList:
        """All that is asked for out of *attributes*; zero-length where there is no value."""
        found = _projected(self.keys, attributes.elements)
        declared = attributes.elements.get(SPECIFIC_CHARACTER_SET)
        if declared is not None:
            found = {SPECIFIC_CHARACTER_SET: declared, **found}
        return AttributeList(found).in_character_set(self.character_set)


def parse_keys(
    identifier: Buffer,
    transfer_syntax_uid: str,
    limits: Limits = DEFAULT_LIMITS,
    undeclared: tuple[str, ...] = (),
    *,
    names: NameComparison = NameComparison.LITERAL,
    has_ranges_of_dt: bool = True,
) -> Keys:
    """What an identifier of the worklist information model asks for.

    Args:
        undeclared: its character set if it declares none.
        names: how person names are compared.
        has_ranges_of_dt: ranges of DT are matched; if not, they are unsupported.

    Raises:
        IdentifierError: A900H: a value that its VR does not allow, a sequence with several
            items, something over a bound.  C000H: not a data set.
    """
    encoding = encoding_of(transfer_syntax_uid)
    try:
        elements = read_data_set(identifier, encoding, limits, DICTIONARY_SEQUENCES)
    except DataSetError as error:
        raise IdentifierError(
            Status.CANNOT_UNDERSTAND, f"identifier cannot be read: {error}"
        ) from error
    declared = elements.get(SPECIFIC_CHARACTER_SET)
    raw = b"" if declared is None or isinstance(declared.value, tuple) else declared.value
    character_set = character_set_of(raw, undeclared)
    unsupported: list[int] = []
    reader = _KeyReader(encoding, character_set, names, has_ranges_of_dt, unsupported)
    keys = tuple(reader.keys(elements))
    if _count(keys) > MAX_KEYS:
        raise identifier_mismatch(f"more than {MAX_KEYS} keys")
    keys, combined = _combined(keys)
    return Keys(keys, combined, character_set, tuple(dict.fromkeys(unsupported)))


@dataclass(frozen=True, slots=True)
class _KeyReader:
    """Reads the keys of one identifier."""

    encoding: Encoding
    character_set: tuple[str, ...]
    names: NameComparison
    has_ranges_of_dt: bool
    unsupported: list[int]

    def keys(self, item: Mapping[int, Element]) -> Iterator[Key]:
        """Nesting was bounded when it was read (`Limits.nesting`)."""
        for tag, element in item.items():
            if tag in CONTROL_TAGS or not tag & 0xFFFF:
                if tag in _NOT_MATCHED and element.value:
                    self.unsupported.append(tag)
                continue
            known = dictionary_vr(tag)
            vr = response_vr(element) if known == "UN" else known
            if vr != "SQ":
                match = None
                if self._is_comparable(vr, element):
                    match = match_of(vr, element, self.encoding, self.character_set)
                    match = compared_by(vr, match, self.names)
                elif element.value:
                    self.unsupported.append(tag)
                yield Key(tag, vr, match)
                continue
            value = element.value
            if isinstance(value, Fragments) or (isinstance(value, bytes) and value):
                raise identifier_mismatch(f"{tag_text(tag)} is no sequence", tag)
            items = items_of(item, tag)
            if len(items) > 1:
                raise identifier_mismatch(
                    f"{tag_text(tag)} has more than one item (PS3.4 C.2.2.2.6)", tag
                )
            yield Key(tag, vr, item=tuple(self.keys(items[0])) if items else ())

    def _is_comparable(self, vr: str, element: Element) -> bool:
        """Whether there is a kind of matching for what the key asks."""
        if vr not in _COMPARABLE_VRS:
            return False
        is_range = vr == "DT" and isinstance(element.value, bytes) and b"-" in element.value
        return self.has_ranges_of_dt or not is_range


def _count(keys: tuple[Key, ...]) -> int:
    return sum(1 + _count(key.item) for key in keys)


def _combined(keys: tuple[Key, ...]) -> tuple[tuple[Key, ...], CombinedRange | None]:
    """Date and time of the step taken out of the keys, where they are one range."""
    step = next((key for key in keys if key.tag == SCHEDULED_STEPS), None)
    if step is None:
        return keys, None
    asked = {key.tag: key.match for key in step.item}
    combined = combined_range(START_DATE, asked.get(START_DATE), START_TIME, asked.get(START_TIME))
    if combined is None:
        return keys, None
    item = tuple(
        replace(key, match=None) if key.tag in (START_DATE, START_TIME) else key
        for key in step.item
    )
    return tuple(replace(key, item=item) if key is step else key for key in keys), combined


def _matches(
    keys: tuple[Key, ...], item: Mapping[int, Element], character_set: tuple[str, ...]
) -> bool:
    for key in keys:
        if key.vr == "SQ":
            if key.is_criterion and not any(
                _matches(key.item, each, character_set) for each in items_of(item, key.tag)
            ):
                return False
        elif key.match is not None:
            text = _text(item, key.tag, key.vr, character_set)
            if not matches_text(key.vr, key.match, text):
                return False
    return True


def _text(item: Mapping[int, Element], tag: int, vr: str, character_set: tuple[str, ...]) -> str:
    element = item.get(tag)
    if element is None or not isinstance(element.value, bytes):
        return ""
    if vr in NUMBER_VRS:
        return decode_numbers(element.value, vr, big_endian=EXPLICIT_LITTLE.big_endian)
    return decode_text(element.value, vr, character_set)


def _projected(keys: tuple[Key, ...], item: Mapping[int, Element]) -> Item:
    found: dict[int, Element] = {}
    for key in sorted(keys, key=lambda key: key.tag):
        element = item.get(key.tag)
        if key.vr == "SQ":
            items = items_of(item, key.tag)
            if key.item:
                items = tuple(_projected(key.item, each) for each in items)
            found[key.tag] = Element(key.tag, "SQ", items)
        else:
            found[key.tag] = element or Element(key.tag, key.vr, b"")
    return found
