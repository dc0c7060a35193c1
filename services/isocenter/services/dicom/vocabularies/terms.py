"""Term: a value of a vocabulary, which reads itself from a data set."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Term(StrEnum):
    """A value of an attribute with VR CS."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The term that *text* is; padding and small letters are forgiven.

        Raises:
            ValueError: it is none of them; the message names those that there are.
        """
        value = " ".join(text.strip(" \0").upper().split())
        for term in cls:
            if term.value == value:
                return term
        known = ", ".join(cls)
        raise ValueError(f"{text.strip()[:64]!r} is none of {known}")

    @classmethod
    def known(cls, text: str) -> Self | None:
        """The same; None: it is none of them."""
        try:
            return cls.parse(text)
        except ValueError:
            return None
