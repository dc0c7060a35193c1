"""Port of the rules of a running server, which are shown and tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """A rule, for people.

    Attributes:
        looks_at: the fields of its conditions; ``everything``: it has none.
        coerces: how many attributes it changes; empty: none.
        stop: whether rules after it are not looked at: ``yes`` or nothing.
    """

    name: str
    enabled: bool
    looks_at: str
    forward: str
    area: str
    coerces: str
    compress: str
    quarantine: str
    stop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What rules would do with some objects of a study.

    Attributes:
        instances: how many.
        words: what is done: a word and a text each.
        fault: why they would be refused; empty: they would not.
    """

    instances: int
    words: Sequence[tuple[str, str]] = ()
    fault: str = ""


class RuleBook(Protocol):
    """The rules of a running server."""

    def rules(self) -> Sequence[ShownRule]:
        """Those that are set, in the order in which they are looked at."""
        ...

    async def try_on(self, study: str, calling: str, called: str) -> tuple[Sequence[Trial], bool]:
        """What they would do with a study, were it to come now; whether it has more objects than
        were looked at.  Nothing is done.

        Args:
            calling, called: AE titles of its association; *called* empty: ours.

        Raises:
            StorageError: it cannot be read.
        """
        ...
