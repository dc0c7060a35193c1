"""Changes of remote nodes as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.notices import Caller, NodesChanged, Notices
from isocenter.services.workflow.nodes.limits import DestinationLimit
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import (
    LimitBook,
    NodeBook,
    NodeCheck,
    OpenNode,
    TokenElsewhereError,
)
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.nodes.verification import verify_node


class NodeChangeError(IsocenterError):
    """A change that cannot be; the message says why and what to do."""

    error_code = ErrorCode.NODE


class NodeChanges:
    """Shows, changes and asks nodes.

    Args:
        limits: of destinations, peers of the settings among them.
        find: a node by its name, also one of the settings.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: NodeBook,
        limits: LimitBook,
        find: Callable[[str], Awaitable[Node | None]],
        open_node: OpenNode,
        notices: Notices,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
        self._limits = limits
        self._find = find
        self._open_node = open_node
        self._notices = notices
        self._now = now

    async def all(self) -> Sequence[Node]:
        """Those that can be changed, by name."""
        return await self._book.all()

    async def find(self, name: str) -> Node | None:
        """One of them, or of the settings."""
        return await self._find(name)

    async def add(self, node: Node, caller: Caller, *, moves_token: bool = False) -> None:
        """Add a node.

        Args:
            moves_token: its token may be sent to its address, although it was given for another.

        Raises:
            NodeChangeError: there is one of its name, or its token was given for another address.
        """
        try:
            is_new = await self._find(node.name) is None and await self._book.add(
                node, moves_token=moves_token
            )
        except TokenElsewhereError as error:
            raise NodeChangeError(str(error)) from error
        if not is_new:
            raise NodeChangeError(f"there is a node {node.name!r} already; give it another name")
        self._tell(caller, f"node {node.name} was added: {node.address}")

    async def exchange(self, node: Node, caller: Caller) -> Node:
        """Change what is said of a node; the node as it is now.

        Raises:
            NodeChangeError: it is gone, or somebody else was quicker; or its token was given for
                another address.
        """
        try:
            is_changed = await self._book.update(node)
        except TokenElsewhereError as error:
            raise NodeChangeError(str(error)) from error
        if not is_changed:
            raise NodeChangeError("it was changed or removed meanwhile; look at it again")
        self._tell(caller, f"node {node.name} was changed: {node.address}")
        return await self._book.get(node.name) or replace(node, version=node.version + 1)

    async def remove(self, name: str, caller: Caller) -> bool:
        """False: there is none that could be removed."""
        if not await self._book.remove(name):
            return False
        self._tell(caller, f"node {name} was removed")
        return True

    async def limits(self) -> Mapping[str, DestinationLimit]:
        """By destination, those of which something is said."""
        return {limit.destination: limit for limit in await self._limits.limits()}

    async def limit_of(self, node: Node) -> DestinationLimit:
        """What may be sent to a node, and when."""
        return (await self.limits()).get(node.name) or DestinationLimit(destination=node.name)

    async def set_limit(self, limit: DestinationLimit, caller: Caller) -> None:
        """Say what may be sent to a destination, and when; it is held as before."""
        await self._limits.set_limit(limit)
        what = [f"associations {limit.associations or 'as the settings say'}"]
        what.append(f"bandwidth {limit.bandwidth or 'not limited'}")
        what.append(f"hours {limit.hours.text or 'always'}")
        self._tell(caller, f"limits of {limit.destination} were changed: {', '.join(what)}")

    async def hold(self, node: Node, caller: Caller, *, is_held: bool) -> bool:
        """Have nothing sent to a node until it is released, or release it; False: it is so."""
        if not await self._limits.hold(node.name, is_held=is_held):
            return False
        self._tell(caller, f"{node.name} was {'held' if is_held else 'released'}")
        return True

    async def verify(self, node: Node) -> NodeCheck:
        """Ask a node whether it answers, and keep what came of it."""
        check = await verify_node(node, self._open_node, self._now)
        await self._book.note_check(node, check)
        return check

    async def search(
        self, node: Node, keys: Sequence[tuple[str, str]], limit: int
    ) -> Sequence[RemoteStudy]:
        """Studies of a node.

        Raises:
            IsocenterError, OSError: it cannot be reached, or refuses.
        """
        async with self._open_node(node) as remote:
            return await remote.search(keys, limit)

    def _tell(self, caller: Caller, what: str) -> None:
        self._notices.publish(NodesChanged(caller=caller, what=what))
