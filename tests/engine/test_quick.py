"""What `quick.dataclass` makes behaves as what `dataclasses.dataclass` makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Any

import pytest

from isocenter.engine import fast_init as quick

#: The shapes that are in use; the same body is made by both.
SHAPES: dict[str, dict[str, bool]] = {
    "mutable": {},
    "slots": {"slots": True},
    "identity": {"slots": True, "eq": False},
    "frozen": {"frozen": True},
    "frozen, slots": {"frozen": True, "slots": True},
    "frozen, slots, by name": {"frozen": True, "slots": True, "kw_only": True},
}


class Body:
    first: int
    second: str = "two"
    secret: str = field(default="", repr=False)
    beside: int = field(default=0, compare=False)
    items: list[int] = field(default_factory=list)
    counted: int = field(default=7, init=False)
    gathered: list[int] = field(default_factory=list, init=False, compare=False)
    last: bool = field(default=False, kw_only=True)


def made_by(decorator: Callable[..., Any], **options: bool) -> Any:
    """The same class body, decorated."""
    body = {
        name: value for name, value in vars(Body).items() if name not in ("__dict__", "__weakref__")
    }
    body["__qualname__"] = "Value"
    return decorator(**options)(type("Value", (), body))


@pytest.fixture(params=SHAPES, ids=list(SHAPES))
def pair(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    options = SHAPES[request.param]
    return made_by(quick.dataclass, **options), made_by(dataclasses.dataclass, **options)


def test_it_is_called_the_same_way(pair: tuple[Any, Any]) -> None:
    def parameters(cls: Any) -> list[tuple[Any, ...]]:
        return [
            (each.name, each.kind, each.annotation, each.default is inspect.Parameter.empty)
            for each in inspect.signature(cls).parameters.values()
        ]

    ours, theirs = pair
    assert parameters(ours) == parameters(theirs)
    for wrong in ({}, {"first": 1, "counted": 2}, {"first": 1, "unknown": 2}):
        for each in pair:
            with pytest.raises(TypeError):
                each(**wrong)


def test_values_are_shown_and_taken_apart_the_same_way(pair: tuple[Any, Any]) -> None:
    ours, theirs = (each(first=1, secret="s", items=[2], last=True) for each in pair)
    assert repr(ours) == repr(theirs)
    assert "'s'" not in repr(ours)
    assert asdict(ours) == asdict(theirs)
    assert [each.name for each in dataclasses.fields(ours)] == list(asdict(theirs))
    assert type(ours).__match_args__ == type(theirs).__match_args__
    assert hasattr(ours, "__dict__") == hasattr(theirs, "__dict__")
    assert asdict(replace(ours, second="b")) == asdict(replace(theirs, second="b"))


def test_values_are_compared_the_same_way(pair: tuple[Any, Any]) -> None:
    for one in pair:
        assert (one(first=1) == one(first=1)) is (pair[1](first=1) == pair[1](first=1))
        assert (one(first=1) == one(first=1, beside=3)) is (
            pair[1](first=1) == pair[1](first=1, beside=3)
        )
        assert one(first=1) != one(first=2)
        assert one(first=1) != 1
    ours, theirs = pair
    assert ours(first=1) != theirs(first=1)
    assert (ours.__hash__ is None) is (theirs.__hash__ is None)


def test_what_is_made_anew_belongs_to_one_value(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    one, other = ours(first=1), ours(first=1)
    assert one.items == one.gathered == []
    assert one.items is not other.items
    assert one.gathered is not other.gathered


@pytest.mark.parametrize("decorator", [quick.dataclass, dataclasses.dataclass])
@pytest.mark.parametrize("slots", [True, False])
def test_frozen_is_frozen(decorator: Callable[..., Any], slots: bool) -> None:
    value = made_by(decorator, frozen=True, slots=slots)(first=1)
    with pytest.raises(FrozenInstanceError, match="'first'"):
        value.first = 2
    with pytest.raises(FrozenInstanceError, match="'first'"):
        del value.first
    assert value.first == 1


@quick.dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


@quick.dataclass(frozen=True, slots=True)
class Named(Point):
    name: str = "n"


def test_frozen_values_are_keys_copied_and_pickled() -> None:
    point = Named(1, (2,), "p")
    assert {point: 1}[Named(1, (2,), "p")] == 1
    assert hash(Point(3)) == hash(Point(3, ()))
    assert copy.copy(point) == copy.deepcopy(point) == point
    assert pickle.loads(pickle.dumps(point)) == point
    assert repr(point) == "Named(x=1, y=(2,), name='p')"


def test_what_a_class_defines_itself_stays() -> None:
    @quick.dataclass(frozen=True, slots=True)
    class Own:
        value: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 5

    assert (repr(Own(1)), Own(1) == Own(2), hash(Own(1))) == ("own", True, 5)


def test_post_init_comes_last_and_may_refuse() -> None:
    @quick.dataclass(frozen=True, slots=True)
    class Checked:
        value: int

        def __post_init__(self) -> None:
            if self.value < 0:
                raise ValueError("negative")

    assert Checked(1).value == 1
    with pytest.raises(ValueError, match="negative"):
        Checked(-1)


def test_a_value_that_holds_itself_is_shown() -> None:
    @quick.dataclass(slots=True)
    class Node:
        inside: list[Any]

    node = Node([])
    node.inside.append(node)
    assert repr(node).endswith("Node(inside=[...])")
