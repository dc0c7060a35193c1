"""Options of a synchronisation, as the parameters of its task say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from isocenter.services.workflow.nodes.node import is_node_name
from isocenter.services.workflow.synchronization.comparison import (
    Direction,
    Resolution,
    SyncOptions,
)
from isocenter.services.workflow.tasks.task import TaskError

_YES: Final = {"yes": True, "no": False}
_MOST: Final = 100_000
#: The parameters, and what each means.
SYNC_PARAMETERS: Final[Mapping[str, str]] = {
    "node": "the name of the remote node",
    "direction": "pull (what is there comes here), push, or both",
    "look_back_days": "only studies whose Study Date is not longer ago",
    "modalities": "only studies that have one of these, separated by commas",
    "full": "yes: look into each study, also where the numbers are what they were",
    "deletes": "yes: delete here what was deleted at the node",
    "resolve": "local, remote or leave: what becomes of conflicts; else a person says",
    "most": "studies of one run for which something is done (1000)",
}


def sync_options(parameters: Mapping[str, str]) -> SyncOptions:
    """What the parameters say.

    Raises:
        TaskError: they are none.
    """
    node = parameters.get("node", "")
    if not is_node_name(node):
        raise TaskError("a synchronisation needs node: the name of a remote node")
    words = {"local": Resolution.LOCAL, "remote": Resolution.REMOTE, "leave": Resolution.LEAVE}
    modalities = parameters.get("modalities", "").upper().split(",")
    resolve = parameters.get("resolve", "")
    if resolve and resolve not in words:
        raise TaskError(f"resolve is one of {', '.join(words)}")
    directions = {each.value: each for each in Direction}
    direction = parameters.get("direction", Direction.PULL.value)
    if direction not in directions:
        raise TaskError(f"direction is one of {', '.join(directions)}")
    return SyncOptions(
        node=node,
        direction=directions[direction],
        look_back_days=_number(parameters, "look_back_days", 0),
        modalities=frozenset(each.strip() for each in modalities if each.strip()),
        is_full=_flag(parameters, "full"),
        deletes=_flag(parameters, "deletes"),
        resolution=words.get(resolve),
        most=_number(parameters, "most", 1_000),
    )


def _number(parameters: Mapping[str, str], name: str, otherwise: int) -> int:
    text = parameters.get(name, str(otherwise))
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and int(text) <= _MOST):
        raise TaskError(f"{name} is a number up to {_MOST}")
    return int(text)


def _flag(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters.get(name, "no").lower()
    if text not in _YES:
        raise TaskError(f"{name} is yes or no")
    return _YES[text]
