"""Fragment of SQL: text, together with what is bound to its question marks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.storage.database.database import Matcher, Question
from isocenter.storage.database.text import sound

#: Stands for the number of a matcher until all fragments are in their places.
_NUMBER: Final = "\0"


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of a statement; put together in any order, each value stays with its mark."""

    text: str
    parameters: tuple[str, ...] = ()
    matchers: tuple[Matcher, ...] = ()

    def __add__(self, other: Sql | str) -> Sql:
        if isinstance(other, str):
            return Sql(self.text + other, self.parameters, self.matchers)
        return Sql(
            self.text + other.text,
            self.parameters + other.parameters,
            self.matchers + other.matchers,
        )

    def __radd__(self, other: str) -> Sql:
        return Sql(other + self.text, self.parameters, self.matchers)

    def question(self) -> Question:
        """The whole as it is asked."""
        text, *rest = self.text.split(_NUMBER)
        for number, piece in enumerate(rest):
            text += f"{number}{piece}"
        return Question(text, self.parameters, self.matchers)


def bound(text: str, *values: str) -> Sql:
    """*text* with *values* for its question marks."""
    return Sql(text, tuple(map(sound, values)))


def reference(matcher: Matcher, *columns: str) -> Sql:
    """What *matcher* says of the values of *columns*."""
    return Sql(f"dicom_matches({_NUMBER}, {', '.join(columns)})", (), (matcher,))


def join(separator: str, fragments: Iterable[Sql]) -> Sql:
    """*fragments* with *separator* between them."""
    fragments = list(fragments)
    return Sql(
        separator.join(fragment.text for fragment in fragments),
        tuple(value for fragment in fragments for value in fragment.parameters),
        tuple(matcher for fragment in fragments for matcher in fragment.matchers),
    )
