"""Port of the rules of a running server, which are shown, changed and tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.rules.ports import RuleCount, RuleFiring
from isocenter.services.notices import Caller


class InvalidRuleError(IsocenterError):
    """A rule, or an order of rules, that cannot be; the message names the fault and the cure."""

    error_code = ErrorCode.RULE


class UnknownRuleError(IsocenterError):
    """There is no such rule that could be changed."""

    error_code = ErrorCode.RULE


class RuleConflictError(IsocenterError):
    """Its name is taken, or somebody else was quicker."""

    error_code = ErrorCode.RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRule:
    """A rule, for people.

    Attributes:
        looks_at: the fields of its conditions; ``everything``: it has none.
        coerces: how many attributes it changes; empty: none.
        stop: whether rules after it are not looked at: ``yes`` or nothing.
        priority: higher ones are looked at first.
        table: as ``[[rules]]`` has it.
        text: as TOML, what else it has than name, priority and whether it is enabled.
        is_of_settings: it is changed there, and not here.
        fault: why it is not in use; empty: it is, if it is enabled.
        version: of one that can be changed here.
        changed_by, changed_at: who made it or changed it last, and when in seconds since 1970.
        count: what it has done.
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
    priority: int
    table: Mapping[str, Any]
    text: str
    is_of_settings: bool
    fault: str
    version: int
    changed_by: str
    changed_at: float | None
    count: RuleCount


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What rules would do with some objects of a study.

    Attributes:
        instances: how many.
        words: what is done: a word and a text each.
        fault: why they would be refused; empty: they would not.
        reasons: of each rule its name, and why it does not match; empty: it does.
    """

    instances: int
    words: Sequence[tuple[str, str]] = ()
    fault: str = ""
    reasons: Sequence[tuple[str, str]] = ()


class RuleBook(Protocol):
    """The rules of a running server.  All may raise `StorageError`.

    What changes them raises `InvalidRuleError`, `UnknownRuleError` and `RuleConflictError`.
    """

    async def rules(self) -> Sequence[ShownRule]:
        """Those that there are, in the order in which they are looked at."""
        ...

    async def is_on(self) -> bool:
        """Whether rules are looked at."""
        ...

    async def add(self, table: Mapping[str, Any], by: Caller) -> None:
        """Make a rule of a table as ``[[rules]]`` has it."""
        ...

    async def change(
        self, name: str, table: Mapping[str, Any], by: Caller, *, version: int | None = None
    ) -> None:
        """Put another one in the place of a rule; *version*: of the one that is meant."""
        ...

    async def enable(self, name: str, by: Caller, *, is_enabled: bool) -> None:
        """Have a rule looked at, or not any more."""
        ...

    async def remove(self, name: str, by: Caller) -> None:
        """Forget a rule."""
        ...

    async def reorder(self, names: Sequence[str], by: Caller) -> None:
        """Have the rules of the database looked at in that order."""
        ...

    async def switch(self, by: Caller, *, is_on: bool) -> None:
        """Have rules looked at, or none."""
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

    async def try_values(self, values: Mapping[str, str], calling: str, called: str) -> Trial:
        """The same with an object that has these values, by keyword, tag or path.

        Raises:
            InvalidRuleError: a name is none.
        """
        ...

    async def firings(self, *, study: str = "", rule: str = "", limit: int) -> Sequence[RuleFiring]:
        """What rules did, the latest first."""
        ...
