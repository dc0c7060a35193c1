"""Matches of a query as identifiers of pending C-FIND responses (PS3.4 C.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter

from isocenter.engine.dataset import (
    WritableElement,
    encoding_of,
    write_data_set,
)
from isocenter.services.archive.index.attributes import (
    BY_TAG,
    REQUEST_ATTRIBUTES,
    UNIQUE_KEY,
    Level,
)
from isocenter.services.archive.index.matching import decode_sequence
from isocenter.services.archive.index.time_zones import ZoneChange, offset_text
from isocenter.services.dicom.element_values import (
    NUMBER_VRS,
    choose_character_set,
)
from isocenter.services.service_classes.query_retrieve.identifier import (
    INSTANCE_AVAILABILITY,
    MODALITIES_IN_STUDY,
    MODALITY,
    RETRIEVE_AE_TITLE,
    ZONED_DATE_TIMES,
    ParsedQuery,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import (
    SPECIFIC_CHARACTER_SET,
)
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    QUERY_RETRIEVE_LEVEL,
    TIMEZONE_OFFSET,
    encode_number,
    encode_text_lossy,
)


class MatchEncoder:
    """Encodes the matches of one query as identifiers of pending C-FIND responses.

    Each has all requested keys, zero-length where there is no value; the unique keys down to
    the level; (0008,0052), (0008,0054), (0008,0056); and (0008,0005) when it is needed.
    Modality of a study is that of its series where they have but one, which is all that an
    attribute of one value can say.
    """

    def __init__(
        self, parsed: ParsedQuery, transfer_syntax_uid: str, *, retrieve_ae_title: str
    ) -> None:
        self._parsed = parsed
        self._encoding = encoding_of(transfer_syntax_uid)
        self._shows_study_modality = parsed.shows_study_modality
        self._same_in_all = {
            QUERY_RETRIEVE_LEVEL: parsed.level.value,
            RETRIEVE_AE_TITLE: retrieve_ae_title,
        }
        plan = dict(parsed.requested)
        plan |= {
            UNIQUE_KEY[at]: BY_TAG[UNIQUE_KEY[at]].vr
            for at in Level
            if at.depth <= parsed.level.depth
        }
        if parsed.change is not None:
            self._same_in_all[TIMEZONE_OFFSET] = offset_text(parsed.change.offset)
            plan[TIMEZONE_OFFSET] = "SH"
        plan |= {QUERY_RETRIEVE_LEVEL: "CS", RETRIEVE_AE_TITLE: "AE", INSTANCE_AVAILABILITY: "CS"}
        #: Tag, VR, and whether it is text, of all elements in order but (0008,0005).
        self._plan = [
            (tag, vr, vr != "SQ" and vr not in NUMBER_VRS) for tag, vr in sorted(plan.items())
        ]

    def encode(self, match: Mapping[int, str]) -> bytes:
        """The identifier of *match*, which is as `Index.find` gives it."""
        parsed, encoding = self._parsed, self._encoding
        texts = {INSTANCE_AVAILABILITY: "ONLINE", **match, **self._same_in_all}
        if parsed.change is not None:
            _move(parsed.change, texts)
        if self._shows_study_modality:
            modalities = match.get(MODALITIES_IN_STUDY, "")
            texts[MODALITY] = "" if "\\" in modalities else modalities
        character_set: tuple[str, ...] = ()
        is_ascii = "".join(texts.values()).isascii()
        if not is_ascii:
            character_set = choose_character_set(texts.values(), parsed.character_set)
        get = texts.get
        elements: list[WritableElement] = []
        for tag, vr, is_text in self._plan:
            text = get(tag, "")
            if not text:
                elements.append((tag, vr, b""))
            elif is_text:
                value = (
                    text.encode()
                    if is_ascii or text.isascii()
                    else encode_text_lossy(text, vr, character_set)
                )
                elements.append((tag, vr, value))
            elif vr == "SQ":
                elements.append((tag, vr, _encode_items(parsed, text, character_set)))
            else:
                elements.append((tag, vr, encode_number(text, vr, encoding)))
        if character_set:
            elements.append((SPECIFIC_CHARACTER_SET, "CS", "\\".join(character_set).encode()))
            elements.sort(key=itemgetter(0))  # a key may have a lower tag
        return write_data_set(elements, encoding)


def _move(change: ZoneChange, texts: dict[int, str]) -> None:
    """Dates and times by the clock of the identifier."""
    for date_tag, time_tag in ZONED_DATE_TIMES:
        date, time = texts.get(date_tag, ""), texts.get(time_tag, "")
        if date and time:
            texts[date_tag], texts[time_tag] = change.of(date, time)


def _encode_items(
    parsed: ParsedQuery, text: str, character_set: tuple[str, ...]
) -> list[Iterable[WritableElement]]:
    asked = parsed.requested_item
    keys = sorted(REQUEST_ATTRIBUTES.items() if asked is None else dict(asked).items())
    return [
        [
            (tag, vr, encode_text_lossy(item.get(f"{tag:08X}", ""), vr, character_set))
            for tag, vr in keys
        ]
        for item in decode_sequence(text)
    ]
