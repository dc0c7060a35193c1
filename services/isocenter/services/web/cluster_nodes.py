"""Nodes of the archive, as pages and the API show, end and forget them."""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.services.cluster.member import Member
from isocenter.services.cluster.ports import Members
from isocenter.services.net.http.messages import HttpError
from isocenter.services.notices import Caller, NodesChanged, Notices


class ClusterNodes:
    """What is done with nodes, told with who did it.  Failures of the archive are `StorageError`.

    Args:
        is_shared: there may be several; otherwise pages do not show them.
    """

    def __init__(self, members: Members, notices: Notices, *, is_shared: bool = True) -> None:
        self._members = members
        self._notices = notices
        self.is_shared = is_shared

    async def all(self) -> Sequence[Member]:
        """By their names."""
        return await self._members.list()

    async def drain(self, name: str, caller: Caller) -> None:
        """Have a node take no associations any more, and end after the last one.

        Raises:
            HttpError: none of that name lives.
        """
        if not await self._members.drain(name):
            raise _unknown("there is no such node that lives")
        self._tell(caller, f"node {name} of this archive is to end")

    async def remove(self, name: str, caller: Caller) -> None:
        """Forget a node that does not live, and free what it had claimed.

        Raises:
            HttpError: there is none of that name, or it lives.
        """
        if any(one.name == name and one.is_alive for one in await self.all()):
            raise HttpError(409, "CONFLICT", "the node lives; drain it first")
        if not await self._members.remove(name):
            raise _unknown("there is no such node")
        self._tell(caller, f"node {name} of this archive is forgotten")

    def _tell(self, caller: Caller, what: str) -> None:
        self._notices.publish(NodesChanged(caller=caller, what=what))


def _unknown(what: str) -> HttpError:
    return HttpError(404, "NOT_FOUND", what)
