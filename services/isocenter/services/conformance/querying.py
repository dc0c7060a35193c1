"""Query, retrieval and worklist in the conformance statement (PS3.2 N.7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.archive.index.attributes import ATTRIBUTES, Level
from isocenter.services.conformance.bounds import bound
from isocenter.services.dicom.data_dictionary import dictionary_vr, keyword_for_tag
from isocenter.services.service_classes.worklist.entry import (
    ACCESSION_NUMBER,
    NEEDS,
    STEP_NEEDS,
)
from isocenter.services.service_classes.worklist.query_keys import STEP_STATUS
from isocenter.services.settings.settings import Settings
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table

_LEVELS: Final = (Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE)


def query_keys(settings: Settings) -> Iterator[Block]:
    """Attributes that queries match and return, and how."""
    yield Heading("4.2.4", "Keys of query and retrieve")
    yield Paragraph(
        "All of these are matched (single value, list, universal, wild card, range, sequence, "
        "empty value) and returned, at their level and below it. Names match regardless of case, "
        f"{'and of accents, ' if settings.query.fold_accents else ''}and by component group. "
        "Computed attributes are returned and matched, too."
    )
    if settings.query.fuzzy_names:
        yield Paragraph(
            "Fuzzy semantic matching of person names, where it was negotiated: a name matches when "
            "each word of the key is one of its words, in whatever component and group, or sounds "
            "like one by the Kölner Phonetik. Case, accents and apostrophes do not count. Words "
            "of one letter, with digits or in other than Latin letters have no sound. Beside a "
            "wild card stands the beginning, the end or a part of a word, which is compared by its "
            "letters."
        )
    yield Paragraph(
        "Lists of values of any VR, and two quotation marks for an attribute without a value "
        "(PS3.4 C.2.2.2), are matched whether or not that was negotiated. A list of nothing but "
        "empty values is answered A900H. Wild cards in a VR that has none are a single value, but "
        "for * alone, which is universal."
    )
    zone = settings.server.time_zone or "the time zone of the machine"
    yield Paragraph(
        "Timezone query adjustment, where it was negotiated and Timezone Offset From UTC "
        "(0008,0201) is in the identifier: dates and times are matched as though objects stated "
        "them in that time zone, and responses state them, and the offset, so. Those of objects "
        f"are taken for those of {zone}; a date or time without the other, and those of birth, "
        "are not adjusted."
    )
    levels = (
        "Keys of all levels are matched, whether or not relational queries were negotiated."
        if settings.query.always_relational
        else "Without relational queries, keys below the level are not matched and not returned "
        "(FF01H): but Modality of a study is matched as Modalities in Study, and a value in a "
        "unique key below the level is answered A900H."
    )
    shown = "first" if settings.query.differing == "first" else "last"
    yield Paragraph(
        "Attributes of patient, study and series are what the objects say. Where these differ, "
        "a study is found by what any one of its objects says of patient and study together, a "
        "series by what any one of its objects says of it; answers show what was said "
        f"{shown} among what matches. A study whose objects name several patients belongs to each "
        "of them, as a whole."
    )
    yield Paragraph(f"{levels} Keys that are not in this table are not returned (FF01H).")
    yield Table(
        ("Level", "Attribute", "Tag", "VR", ""),
        [
            (
                level.value,
                attribute.keyword,
                _tag(attribute.tag),
                attribute.vr,
                "computed" if attribute.computed else "",
            )
            for level in _LEVELS
            for attribute in ATTRIBUTES
            if attribute.level is level
        ],
    )
    yield Table(
        ("Bound", "Value"),
        [
            ("Matches of one C-FIND", bound(settings.query.max_results)),
            ("Instances of one C-MOVE or C-GET", bound(settings.query.max_suboperations)),
            ("Instances of all C-MOVE and C-GET at once", bound(settings.query.max_backlog)),
        ],
    )


def retrieval_by_instance() -> Iterator[Block]:
    """Composite Instance Root Retrieve, and retrieval without bulk data."""
    yield Heading("4.2.4.1", "Retrieval by instance")
    yield Paragraph(
        "Composite Instance Root Retrieve (PS3.4 Y) at the levels IMAGE and FRAME, the latter by "
        "Simple Frame List, Calculated Frame List and Time Range. The object that is made of "
        "frames has a new SOP Instance UID and the frames as they are stored. What follows them: "
        "Number of Frames, the items of Per-frame Functional Groups Sequence, the vectors that "
        "Frame Increment Pointer names, Grid Frame Offset Vector, Frame Time (a Frame Time Vector "
        "where the frames are not evenly spaced) and Frame Delay. Frame Extraction Sequence and "
        "Contributing Equipment Sequence get an item. It has no private attributes, digital "
        "signatures, attributes of a concatenation, numbers of representative and trimmed frames, "
        "nor overlays of several frames. Video, and Explicit VR Big Endian, is answered AA02H."
    )
    yield Paragraph(
        "Composite Instance Retrieve Without Bulk Data (PS3.4 Z) leaves out what Table Z.1-1 "
        "lists, and the offset tables of pixels; private attributes are kept. Objects whose "
        "pixels are compressed are sent in an uncompressed transfer syntax then."
    )


def worklist_keys(settings: Settings) -> Iterator[Block]:
    """Attributes of the modality worklist."""
    yield Heading("4.2.5", "Keys of the worklist")
    yield Paragraph(
        "Every attribute that an entry has is matched and returned, at any depth of its sequences; "
        "what it does not have is returned without a value. An entry has at least these; the "
        "start date and time of the step are matched as one range where both are given. Values of "
        "binary VRs and UN are not matched (FF01H). Lists and empty values are, "
        "whether or not that was negotiated."
    )
    yield Table(
        ("In", "Attribute", "Tag", "VR"),
        [
            (where, keyword_for_tag(tag), _tag(tag), dictionary_vr(tag))
            for where, tags in (
                ("Scheduled Procedure Step Sequence (0040,0100)", (*STEP_NEEDS, STEP_STATUS)),
                ("", (*NEEDS, ACCESSION_NUMBER)),
            )
            for tag in tags
        ],
    )
    yield Table(
        ("Rule", "Value"),
        [
            ("Offered", ", ".join(state.value for state in settings.worklist.offer)),
            ("A step that was discontinued", settings.worklist.discontinued.value),
            ("Matches of one C-FIND", bound(settings.worklist.max_results)),
        ],
    )


def _tag(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
