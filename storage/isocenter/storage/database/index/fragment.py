"""Fragment of SQL: text, together with what is bound to its question marks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from isocenter.storage.database.database import Candidates, Matcher, Question
from isocenter.storage.database.text import replace_surrogates

#: Stands for the number of a matcher until all fragments are in their places.
_NUMBER: Final = "\0"


class Sql:
    """A piece of a statement; put together in any order, each value stays with its mark.

    No dataclass: a question is made of some twenty of them, and a frozen one costs 1 µs each.
    """

    __slots__ = ("matchers", "parameters", "text")

    def __init__(
        self,
        text: str,
        parameters: tuple[str | int, ...] = (),
        matchers: tuple[tuple[Matcher, Candidates], ...] = (),
    ) -> None:
        self.text = text
        self.parameters = parameters
        self.matchers = matchers

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

    def question(self, rows_at_once: int = 0) -> Question:
        """The whole as it is asked."""
        if not self.matchers:
            return Question(self.text, self.parameters, (), (), rows_at_once)
        text, *rest = self.text.split(_NUMBER)
        for number, piece in enumerate(rest):
            text += f"{number}{piece}"
        matchers, candidates = zip(*self.matchers, strict=True)
        return Question(text, self.parameters, matchers, candidates, rows_at_once)


def bound(text: str, *values: str | int) -> Sql:
    """*text* with *values* for its question marks."""
    return Sql(text, tuple(v if isinstance(v, int) else replace_surrogates(v) for v in values))


def reference(matcher: Matcher, candidates: Candidates) -> Sql:
    """What *matcher* says of the values of the row at hand, which is one of *candidates*."""
    columns = ", ".join(candidates.columns)
    return Sql(f"dicom_matches({_NUMBER}, {columns})", (), ((matcher, candidates),))


def join(separator: str, fragments: Iterable[Sql]) -> Sql:
    """*fragments* with *separator* between them."""
    fragments = list(fragments)
    if len(fragments) == 1:
        return fragments[0]
    parameters: tuple[str | int, ...] = ()
    matchers: tuple[tuple[Matcher, Candidates], ...] = ()
    for fragment in fragments:
        parameters += fragment.parameters
        matchers += fragment.matchers
    return Sql(separator.join([fragment.text for fragment in fragments]), parameters, matchers)
