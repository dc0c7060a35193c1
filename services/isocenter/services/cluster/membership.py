"""Membership: a node that joins the others, gives signs of life, and leaves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Final

import trio

from isocenter.services.cluster.member import (
    LeftBehindError,
    MemberState,
    NameTakenError,
    NodeIdentity,
)
from isocenter.services.cluster.ports import Members
from isocenter.services.errors import StorageError

_log = logging.getLogger("isocenter.cluster")

BEAT_SECONDS: Final = 2.0
#: How often is looked whether others are lost.
_LOOK_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 2.0
#: Clocks that differ by more make trouble for those who read times of several nodes.
MOST_CLOCK_OFFSET_SECONDS: Final = 5.0


class Membership:
    """One node's own row among all of them.

    Args:
        on_drain: called once when somebody wants the node to end.
        is_last: whether no other process of the node goes on when this one ends.
        now: the node's own clock, in seconds since 1970.
    """

    def __init__(
        self,
        members: Members,
        node: NodeIdentity,
        *,
        on_drain: Callable[[], None],
        is_last: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time,
    ) -> None:
        self.node = node
        self._members = members
        self._on_drain = on_drain
        self._is_last = is_last
        self._now = now
        self._is_draining = False

    async def run(self) -> None:
        """Give signs of life, until cancelled; then say that the node ends, if it does."""
        answer_seconds = 0.0
        try:
            while True:
                began = trio.current_time()
                try:
                    state = await self._members.beat(
                        self.node,
                        ends=self._is_draining,
                        own_clock=self._now(),
                        answer_seconds=answer_seconds,
                    )
                    answer_seconds = trio.current_time() - began
                    if state is None:
                        await self._join_again()
                    elif state is MemberState.DRAINING:
                        self._drain()
                except StorageError as error:
                    _log.warning("the other nodes hear nothing of this one: %s", error)
                except Exception as error:
                    _log.error(
                        "the other nodes hear nothing of this one (%s)", type(error).__name__
                    )
                await trio.sleep(BEAT_SECONDS)
        finally:
            if self._is_last():
                with trio.move_on_after(_LEAVE_SECONDS, shield=True):
                    try:
                        await self._members.leave(self.node)
                    except StorageError:
                        pass  # the others will notice

    async def _join_again(self) -> None:
        """Somebody took us for lost, and removed us, or migrated the database."""
        try:
            await self._members.join(self.node)
        except (NameTakenError, LeftBehindError) as error:
            _log.error("this node has to end: %s", error)
            self._drain()
        except StorageError as error:
            _log.warning("this node was removed from the others, and is not back yet: %s", error)
        else:
            _log.warning("this node was removed from the others while it lived, and is back")

    def _drain(self) -> None:
        if not self._is_draining:
            self._is_draining = True
            _log.info("this node takes no associations any more, and ends after the last one")
            self._on_drain()


async def give_up_lost(members: Members) -> None:
    """Free what nodes had claimed that are lost, until cancelled; one node does it for all."""
    while True:
        try:
            for name in await members.give_up_lost():
                _log.warning("the node %s is lost; the others do what it had begun", name)
        except StorageError as error:
            _log.warning("whether nodes are lost cannot be told: %s", error)
        except Exception as error:
            _log.error("whether nodes are lost cannot be told (%s)", type(error).__name__)
        await trio.sleep(_LOOK_SECONDS)
