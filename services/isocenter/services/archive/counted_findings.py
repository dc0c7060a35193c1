"""Findings about many objects: counts, and the first of each kind."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from isocenter.engine.fast_init import dataclass

#: Findings of one kind that a report names; it counts all of them.
NAMED_FINDINGS: Final = 10_000


@dataclass(slots=True)
class CountedFindings:
    """How often something was found, and the first `NAMED_FINDINGS` of it by name.

    Attributes:
        named: name (a path, an object key or a UID) and reason.
    """

    count: int = 0
    named: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str = "") -> None:
        self.count += 1
        if len(self.named) < NAMED_FINDINGS:
            self.named.append((name, reason))

    def join(self, other: CountedFindings) -> None:
        """Count what *other* has, too."""
        self.count += other.count
        self.named += other.named[: NAMED_FINDINGS - len(self.named)]
