"""Nodes of the archive in the API: how each does, ended, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from isocenter.services.cluster.member import Member
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.web.cluster_nodes import ClusterNodes
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing, moment

_SERVICE: Final = "Cluster"
_LIVES: Final = Answer(409, "It lives; drain it first.")


class MemberShown(Body):
    """A node.

    `clock_offset_seconds`: how far its clock is ahead of the database's; `duties`: what it does
    for all nodes right now.
    """

    name: str
    state: str
    address: str
    version: str
    started_at: str | None
    silent_seconds: float
    clock_offset_seconds: float
    database_answer_seconds: float
    duties: list[str]


class MemberList(Body):
    """The nodes that have this archive together, by their names; none: this server is alone."""

    nodes: list[MemberShown]


class ClusterApi:
    """Answers with the nodes of the archive, and ends or forgets some."""

    def __init__(self, nodes: ClusterNodes) -> None:
        self._nodes = nodes

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/cluster/nodes", self.list,
            "Servers that have this archive together, and how each does.",
            name="ListClusterNodes", service=_SERVICE, needs="state", gives=MemberList,
        )  # fmt: skip
        yield endpoint(
            "POST", "/cluster/nodes/{node}/drain", self.drain,
            "Have a node take no associations any more, and end after the last one.",
            name="DrainClusterNode", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "DELETE", "/cluster/nodes/{node}", self.remove,
            "Forget a node that does not live, and free what it had claimed.",
            name="RemoveClusterNode", service=_SERVICE, needs="configure", answers=(_LIVES,),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            members = await self._nodes.all()
        return answer(MemberList(nodes=[_shown(member) for member in members]))

    async def drain(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            await self._nodes.drain(request.arguments["node"], caller_of(request))
        return Response(status=204)

    async def remove(self, request: Request) -> Response:
        """The handler."""
        async with changing():
            await self._nodes.remove(request.arguments["node"], caller_of(request))
        return Response(status=204)


def _shown(member: Member) -> MemberShown:
    return MemberShown(
        name=member.name,
        state=member.state.value,
        address=member.address,
        version=member.version,
        started_at=moment(member.started_at),
        silent_seconds=round(member.silent_seconds, 3),
        clock_offset_seconds=round(member.clock_offset, 3),
        database_answer_seconds=round(member.answer_seconds, 4),
        duties=list(member.duties),
    )
