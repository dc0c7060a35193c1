"""Report of a de-identification: counts, warnings, and what became of each attribute."""

from __future__ import annotations

from collections import Counter
from dataclasses import field
from typing import Any

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one attribute.

    Attributes:
        path: tags, with the numbers of items.
        action: in words of the report.
        old, new: its values as text; only where they were asked for.
    """

    path: str
    action: str
    old: str = ""
    new: str = ""


@dataclass(slots=True)
class Report:
    """What was done to one object, or to many.

    Attributes:
        counts: what was done → to how many elements: removed, emptied, replaced, uids, dates,
            hashed, cleaned, kept, private.
        warnings: what a person has to look at; no value of a patient is in it.
        changes: each change, where `wants_changes`.
        wants_values: whether changes show values.  Such a report identifies the patient.
    """

    wants_changes: bool = False
    wants_values: bool = False
    processed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Note a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def add(self, other: Report) -> None:
        """Join the counts and warnings of another one."""
        self.processed += other.processed
        self.counts.update(other.counts)
        for text in other.warnings:
            self.warn(text)

    def to_json(self) -> dict[str, Any]:
        """For a file or a page."""
        model: dict[str, Any] = {
            "processed": self.processed,
            "counts": dict(sorted(self.counts.items())),
            "warnings": self.warnings,
        }
        if self.wants_changes:
            model["changes"] = [
                {"path": each.path, "action": each.action}
                | ({"old": each.old, "new": each.new} if self.wants_values else {})
                for each in self.changes
            ]
        return model
