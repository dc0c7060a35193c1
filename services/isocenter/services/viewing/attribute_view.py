"""View of a data set as DICOM JSON: values by keyword, also of frames."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from isocenter.services.dicom.data_dictionary import tag_for_keyword
from isocenter.services.dicom.model_reader import Model

_SHARED: Final = "SharedFunctionalGroupsSequence"
_PER_FRAME: Final = "PerFrameFunctionalGroupsSequence"


def key_of(keyword: str) -> str:
    """The name of an attribute in the model."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"{tag:08X}"


class AttributeView:
    """A data set, or an item of a sequence.

    Attributes:
        model: its attributes by tag.
    """

    __slots__ = ("model",)

    def __init__(self, model: Model) -> None:
        self.model = model

    def values(self, keyword: str) -> list[Any]:
        """The values as they stand in the model."""
        element = self.model.get(key_of(keyword))
        found = element.get("Value") if isinstance(element, Mapping) else None
        return [] if not isinstance(found, list) else found

    def texts(self, keyword: str) -> list[str]:
        """The values as text; a missing one is empty."""
        return [_text(value) for value in self.values(keyword)]

    def text(self, keyword: str) -> str:
        """The first value as text; empty: it has none."""
        return next(iter(self.texts(keyword)), "")

    def numbers(self, keyword: str) -> list[float]:
        """The values that are numbers."""
        found = []
        for value in self.values(keyword):
            try:
                found.append(float(value))
            except (TypeError, ValueError):
                continue
        return found

    def number(self, keyword: str) -> float | None:
        """The first number; None: there is none."""
        return next(iter(self.numbers(keyword)), None)

    def count(self, keyword: str) -> int:
        """A whole number; 0: there is none."""
        found = self.number(keyword) or 0
        return int(found) if isfinite(found) else 0

    def items(self, keyword: str) -> list[AttributeView]:
        """The items of a sequence."""
        return [AttributeView(one) for one in self.values(keyword) if isinstance(one, Mapping)]

    def item(self, keyword: str) -> AttributeView:
        """The first item; one without attributes where there is none."""
        return next(iter(self.items(keyword)), AttributeView({}))

    @property
    def frames(self) -> int:
        """How many frames it has; 1 where it does not say."""
        return max(self.count("NumberOfFrames"), 1)

    def group(self, sequence: str, frame: int) -> AttributeView:
        """What holds for a frame: of the functional groups of it, else of those of all frames,
        else the data set itself (PS3.3 C.7.6.16).

        Args:
            sequence: the keyword of the functional group.
            frame: from 1 on.
        """
        for groups, at in ((_PER_FRAME, frame - 1), (_SHARED, 0)):
            items = self.values(groups)
            if at < len(items) and isinstance(items[at], Mapping):
                found = AttributeView(items[at]).items(sequence)
                if found:
                    return found[0]
        return self


def _text(value: Any) -> str:
    if isinstance(value, Mapping):  # a name
        return "=".join(
            str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")
        ).rstrip("=")
    return "" if value is None else str(value)
