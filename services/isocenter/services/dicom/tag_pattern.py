"""Patterns of attribute paths: one attribute, or all that match.

::

    PatientID                            wherever it stands, where one is searched
    (0040,0275)[0].ScheduledProcedureStepID      in the first item
    RequestAttributesSequence[*].0040,0009       in all items
    (0008,1140)[2]                       a whole item
    RequestAttributesSequence.0040,0009  in all items, too, where one is searched
"""

from __future__ import annotations

import re
from typing import Final

from isocenter.engine.dataset.errors import tag_text
from isocenter.engine.fast_init import dataclass
from isocenter.services.dicom.attribute_path import KeySyntaxError, quoted
from isocenter.services.dicom.data_dictionary import tag_for_keyword

_STEP: Final = re.compile(
    r"(?:\((?P<a>[0-9a-f]{4})\s?,\s?(?P<b>[0-9a-f]{4})\)|(?P<c>[0-9a-f]{4}),(?P<d>[0-9a-f]{4})"
    r"|(?P<e>[0-9a-f]{8})|(?P<keyword>[a-z][a-z0-9]*))(?:\[(?P<item>[0-9]{1,9}|\*)\])?",
    re.IGNORECASE | re.ASCII,
)

#: Tag of a sequence, and the number of an item; None: of every one.
PatternStep = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class TagPattern:
    """Which attributes, or items of sequences, are meant.

    Attributes:
        steps: the sequences on the way.
        tag: of the attribute; of a pattern that ends with an item, of its sequence.
        item: the number of the item that is meant, -1: every one; None: the attribute is.
    """

    steps: tuple[PatternStep, ...]
    tag: int
    item: int | None = None

    @property
    def is_one(self) -> bool:
        """Whether it can match a single attribute only."""
        return self.item != -1 and all(number is not None for _, number in self.steps)

    @property
    def text(self) -> str:
        """As people write it."""
        steps = [
            f"{tag_text(tag)}[{'*' if number is None else number}]" for tag, number in self.steps
        ]
        last = tag_text(self.tag)
        if self.item is not None:
            last += f"[{'*' if self.item < 0 else self.item}]"
        return ".".join([*steps, last])

    def matches(self, path: tuple[tuple[int, int], ...], tag: int) -> bool:
        """Whether the attribute *tag* in the item *path* is meant."""
        return self.item is None and tag == self.tag and self._leads_to(path)

    def _leads_to(self, path: tuple[tuple[int, int], ...]) -> bool:
        return len(path) == len(self.steps) and all(
            wanted == tag and (item is None or item == number)
            for (wanted, item), (tag, number) in zip(self.steps, path, strict=True)
        )


def parse_tag_pattern(text: str) -> TagPattern:
    """The pattern that *text* is.

    Raises:
        KeySyntaxError: it is none, or has a keyword that the data dictionary has not.
    """
    steps: list[tuple[int, str | None]] = []
    position = 0
    while True:
        step = _STEP.match(text, position)
        if step is None:
            raise KeySyntaxError(
                f"{quoted(text)} is no attribute: expected a tag (gggg,eeee) or a keyword, after a "
                "sequence with [item] or [*] and a dot"
            )
        steps.append((_tag_of(step), step["item"]))
        position = step.end()
        if position == len(text):
            break
        if text[position] != ".":
            raise KeySyntaxError(
                f"{quoted(text)} is no attribute: a dot was expected at {position + 1}"
            )
        position += 1
    *sequences, (last, item) = steps
    return TagPattern(
        tuple(
            (tag, None if number in (None, "*") else int(number or 0)) for tag, number in sequences
        ),
        last,
        None if item is None else -1 if item == "*" else int(item),
    )


def _tag_of(step: re.Match[str]) -> int:
    for first, second in (("a", "b"), ("c", "d")):
        if step[first] is not None:
            return int(step[first] + step[second], 16)
    if step["e"] is not None:
        return int(step["e"], 16)
    tag = tag_for_keyword(step["keyword"])
    if tag is None:
        raise KeySyntaxError(
            f"{quoted(step['keyword'])} is no keyword of the data dictionary (PS3.6); give the tag "
            "(gggg,eeee)"
        )
    return int(tag)
