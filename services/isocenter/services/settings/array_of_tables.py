"""Setting that is an array of tables, each perhaps with a name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds

T = TypeVar("T")

#: Makes the error of a table of what is wrong in it.
Fault = Callable[[str], kinds.InvalidValueError]


@dataclass(frozen=True, slots=True)
class ArrayOfTables(kinds.ListOf[T]):
    """All tables of one array; as text, a TOML array of inline tables.

    Attributes:
        what: they are, in the message of a fault.
        most: of them.
        fault: makes the error.
        is_named: no two have one ``name``.
    """

    kind: kinds.ValueType[T]
    what: str
    most: int
    fault: Fault
    is_named: bool = True

    def from_toml(self, value: object) -> tuple[T, ...]:
        """An array of tables."""
        tables = kinds.ListOf.from_toml(self, value)
        if len(tables) > self.most:
            raise self.fault(f"there may be {self.most} {self.what}; these are {len(tables)}")
        if self.is_named:
            names: list[str] = [getattr(table, "name", "") for table in tables]
            for name in names:
                if names.count(name) > 1:
                    raise self.fault(f"two {self.what} have the name {name!r}; rename one")
        return tables

    def from_text(self, text: str) -> tuple[T, ...]:
        """``[{ name = … }]``."""
        return self.from_toml(inline(text, self.fault))


def inline(text: str, fault: Fault) -> Any:
    """A value as TOML writes it in a line."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError) as error:
        raise fault(f"not TOML: {error}") from error
