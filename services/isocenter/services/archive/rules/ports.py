"""Ports of rules in the database, and of what is known of their work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRule:
    """A rule in the database.

    Attributes:
        definition: as JSON, what else a table of ``[[rules]]`` would have.
        position: its place among those of the same priority.
        version: changes whenever the rule does.
        changed_by: who made it, or changed it last.
        changed_at: when, in seconds since 1970.
    """

    name: str
    definition: str
    is_enabled: bool = True
    priority: int = 0
    position: int = 0
    version: int = 1
    changed_by: str = ""
    changed_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """All rules in the database.

    Attributes:
        revision: changes whenever anything of them does.
        is_on: whether rules are looked at, also those of the settings.
    """

    revision: int = 0
    is_on: bool = True
    rules: tuple[StoredRule, ...] = ()


class RuleStore(Protocol):
    """Keeps rules, durably, for all processes.  Failures are `StorageError`."""

    async def revision(self) -> int:
        """See `RuleSet`."""
        ...

    async def all(self) -> RuleSet:
        """By priority and position."""
        ...

    async def add(self, rule: StoredRule, most: int) -> bool:
        """The last of its priority; False: there is one of that name, or as many as may be."""
        ...

    async def update(self, rule: StoredRule) -> bool:
        """False: it is gone, or has another version by now."""
        ...

    async def remove(self, name: str) -> bool:
        """What it was to have deleted some time stays; False: there is none."""
        ...

    async def reorder(self, names: Sequence[str], changed_by: str) -> bool:
        """Have them in that order, with the priorities that they have together.

        Returns:
            False: these are not all rules, or others.
        """
        ...

    async def switch(self, *, is_on: bool) -> None:
        """Whether rules are looked at at all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFiring:
    """Objects of one study, from one sender, that a rule matched.

    Attributes:
        calling_ae: AE title of who sent them.
        first_at, last_at: when, in seconds since 1970.
    """

    rule: str
    study_instance_uid: str
    calling_ae: str
    objects: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCount:
    """What a rule has done since it was counted first.

    Attributes:
        matched: objects that it matched when they were stored.
        sent, failed: those that arrived at a destination, and those that were given up.
        deleted: those that were past their time.
        last_at: when it matched last, in seconds since 1970; None: never.
    """

    matched: int = 0
    sent: int = 0
    failed: int = 0
    deleted: int = 0
    last_at: float | None = None


class RuleHistory(Protocol):
    """Remembers what rules did, for people.  Failures are `StorageError`."""

    async def note(self, firings: Sequence[RuleFiring]) -> None:
        """Add to what is known, in one transaction."""
        ...

    async def counts(self) -> Mapping[str, RuleCount]:
        """By rule."""
        ...

    async def firings(self, *, study: str = "", rule: str = "", limit: int) -> Sequence[RuleFiring]:
        """The latest first; an empty text leaves that open."""
        ...

    async def forget(self, before: float) -> int:
        """Forget what happened before that; counts stay.  How many were forgotten."""
        ...
