"""Attribute paths as people write them: tags or keywords, with items of sequences.

As DCMTK's ``-k`` takes them, and after ``=`` a value::

    0008,0052=STUDY    (0010,0010)=DOE*    PatientName=DOE*    StudyInstanceUID
    (0040,0100)[0].Modality=CT             0040,0275[0].0040,1001=RP1
"""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.data_dictionary import dictionary_vr, tag_for_keyword

#: Items of one sequence in an identifier; the standard allows a single one (PS3.4 C.2.2.2.6).
MAX_ITEMS: Final = 100

#: Tags of sequences with the number of the item, and last the tag of the element.
AttributePath = tuple[tuple[tuple[int, int], ...], int]
#: A tag, or the path to one within items of sequences.
TagOrPath = int | AttributePath
#: What may name an attribute: a tag, or text (keyword, tag, path).
KeyName = int | str

_STEP: Final = re.compile(
    r"(?:\((?P<a>[0-9a-f]{4},\s?[0-9a-f]{4})\)|(?P<b>[0-9a-f]{4},[0-9a-f]{4})"
    r"|(?P<c>[0-9a-f]{8})|(?P<keyword>[a-z][a-z0-9]*))(?:\[(?P<item>[0-9]{1,6})\])?",
    re.IGNORECASE | re.ASCII,
)


class KeySyntaxError(IsocenterError, ValueError):
    """A key that cannot be read or written; the message shows the key's name, not its value."""

    error_code = ErrorCode.ELEMENT_TAG


#: The longest name that a message shows whole, in characters as it shows them.
_QUOTED: Final = 60


def quoted(name: KeyName) -> str:
    """*name* as a message shows it: printable, and cut where it is absurdly long."""
    text = repr(name[: _QUOTED + 1] if isinstance(name, str) else name)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def parse_attribute_path(name: KeyName, *, most_items: int = MAX_ITEMS) -> AttributePath:
    """The path that a key's name means.

    Args:
        most_items: that a sequence may have; those of data sets may have more.

    Raises:
        KeySyntaxError: no tag, or a keyword that the data dictionary does not have.
    """
    if isinstance(name, int):
        return ((), name)
    steps = []
    position = 0
    while True:
        step = _STEP.match(name, position)
        if step is None:
            raise KeySyntaxError(
                f"{quoted(name)} is no key: expected a tag (gggg,eeee) or a keyword, after a "
                "sequence with [item] and a dot"
            )
        steps.append((_tag_of(step), step["item"]))
        position = step.end()
        if position == len(name):
            break
        if name[position] != ".":
            raise KeySyntaxError(f"{quoted(name)} is no key: a dot was expected at {position + 1}")
        position += 1
    *sequences, (last, last_item) = steps
    for tag, item in sequences:
        if dictionary_vr(tag) not in ("SQ", "UN"):
            raise KeySyntaxError(f"{quoted(name)}: {tag_text(tag)} is no sequence")
        if int(item or 0) >= most_items:
            raise KeySyntaxError(f"{quoted(name)}: at most {most_items} items in a sequence")
    if last_item is not None:
        raise KeySyntaxError(
            f"{quoted(name)}: an item of a sequence needs a key in it, after a dot"
        )
    return tuple((tag, int(item or 0)) for tag, item in sequences), last


def _tag_of(step: re.Match[str]) -> int:
    digits = step["a"] or step["b"] or step["c"]
    if digits is not None:
        return int(re.sub(r"[,\s]", "", digits), 16)
    tag = tag_for_keyword(step["keyword"])
    if tag is None:
        raise KeySyntaxError(
            f"{quoted(step['keyword'])} is no keyword of the data dictionary (PS3.6)"
        )
    return int(tag)


def parse_key(text: str) -> tuple[str, str]:
    """*text* of the form ``name=value`` or ``name``, checked, as name and value.

    Raises:
        KeySyntaxError: as `parse_attribute_path`.
    """
    name, _, value = text.partition("=")
    name = name.strip()
    parse_attribute_path(name)
    return name, value


def path_text(path: AttributePath) -> str:
    """*path* as people write it, with tags; `parse_attribute_path` reads it."""
    sequences, last = path
    steps = [f"{tag_text(tag)}[{number}]" for tag, number in sequences]
    return ".".join([*steps, tag_text(last)])
