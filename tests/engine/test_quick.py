"""Values that are made quickly are made as `dataclasses` would make them."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from isocenter.engine.quick import quick_init


@quick_init
@dataclass(frozen=True, slots=True)
class Quick:
    first: int
    second: str = "two"
    third: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class Slow:
    first: int
    second: str = "two"
    third: bool = field(default=False, kw_only=True)


def test_it_is_called_the_same_way() -> None:
    parameters = {
        kind: [
            (each.name, each.kind, each.default)
            for each in inspect.signature(kind).parameters.values()
        ]
        for kind in (Quick, Slow)
    }
    assert parameters[Quick] == parameters[Slow]


def test_the_values_are_the_same() -> None:
    assert Quick(1) == Quick(first=1, second="two", third=False)
    assert Quick(1, "b", third=True) != Quick(1)
    assert repr(Quick(1)) == repr(Slow(1)).replace("Slow", "Quick")
    assert hash(Quick(1)) == hash(Slow(1))
    with pytest.raises(FrozenInstanceError):
        Quick(1).first = 2  # type: ignore[misc]
    for wrong in ((), (1, "b", True)):
        with pytest.raises(TypeError):
            Quick(*wrong)


def test_a_default_that_is_made_anew_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Listing\.items: a default factory is not for this"):

        @quick_init
        @dataclass(frozen=True, slots=True)
        class Listing:
            items: list[int] = field(default_factory=list)
