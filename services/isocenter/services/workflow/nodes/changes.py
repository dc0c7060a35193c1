"""Changes of remote nodes as operations, told with who made them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from isocenter.engine.errors import IsocenterError
from isocenter.services.notices import Caller, NodesChanged, Notices
from isocenter.services.workflow.nodes.node import Node
from isocenter.services.workflow.nodes.ports import NodeBook, NodeCheck, OpenNode
from isocenter.services.workflow.nodes.remote_study import RemoteStudy
from isocenter.services.workflow.nodes.verification import verify_node


class NodeChangeError(IsocenterError):
    """A change that cannot be; the message says why and what to do."""


class NodeChanges:
    """Shows, changes and asks nodes.

    Args:
        find: a node by its name, also one of the settings.
        now: seconds since 1970.
    """

    def __init__(
        self,
        book: NodeBook,
        find: Callable[[str], Awaitable[Node | None]],
        open_node: OpenNode,
        notices: Notices,
        *,
        now: Callable[[], float],
    ) -> None:
        self._book = book
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

    async def add(self, node: Node, caller: Caller) -> None:
        """Add a node.

        Raises:
            NodeChangeError: there is one of its name.
        """
        if await self._find(node.name) is not None or not await self._book.add(node):
            raise NodeChangeError(f"there is a node {node.name!r} already; give it another name")
        self._tell(caller, f"node {node.name} was added: {node.address}")

    async def exchange(self, node: Node, caller: Caller) -> Node:
        """Change what is said of a node; the node as it is now.

        Raises:
            NodeChangeError: it is gone, or somebody else was quicker.
        """
        if not await self._book.update(node):
            raise NodeChangeError("it was changed or removed meanwhile; look at it again")
        self._tell(caller, f"node {node.name} was changed: {node.address}")
        return await self._book.get(node.name) or replace(node, version=node.version + 1)

    async def remove(self, name: str, caller: Caller) -> bool:
        """False: there is none that could be removed."""
        if not await self._book.remove(name):
            return False
        self._tell(caller, f"node {name} was removed")
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
