"""Remote nodes in the API: shown, changed, verified, searched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.attribute_path import KeySyntaxError
from isocenter.services.errors import text_of
from isocenter.services.hours import parse_hours
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route, ok
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer, read_body
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.entity_tags import check_unchanged, tagged
from isocenter.services.web.rest.paging import (
    PAGE_PARAMETERS,
    Page,
    link_headers,
    page_of,
    page_request,
)
from isocenter.services.workflow.nodes.changes import NodeChangeError, NodeChanges
from isocenter.services.workflow.nodes.limits import (
    DestinationLimit,
    check_associations,
    parse_bandwidth,
)
from isocenter.services.workflow.nodes.node import Node, new_node

_SERVICE: Final = "Remote nodes"
_ONE: Final = "/remote-nodes/{name}"
_MOST_STUDIES: Final = 1_000
_TAKEN: Final = Answer(409, "There is a node of that name already.")
_AWAY: Final = Answer(502, "The node cannot be reached, or refuses.")


class NodeFields(Body):
    """A node as one writes it.

    `address` is `AET@host:port`, or the URL of a DICOMweb service; the files are on the server.
    `server_name`: whose the certificate of a DIMSE node has to be (empty: that of its host).
    """

    address: str
    tls: bool = False
    verify_host: bool = True
    server_name: str = ""
    token_file: str = ""
    ca_file: str = ""
    enabled: bool = True


class NewNode(NodeFields):
    """A node to be added; without a name it has its AE title, or the host of its URL."""

    name: str = ""


class RemoteNode(Body):
    """A node, and how it did when it was verified last.

    `state` is `unknown`, `online`, `offline` (not reached) or `error` (it refused); `checked_at` is
    in seconds since 1970.
    """

    name: str
    address: str
    kind: str
    tls: bool
    verify_host: bool
    server_name: str
    token_file: str
    ca_file: str
    enabled: bool
    state: str
    checked_at: float | None
    fault: str
    response_ms: float | None


class NodeLimits(Body):
    """What may be sent to a node or peer, and when, whoever sends.

    `associations`: so many at once (0: as the settings say); `bandwidth`: bytes a second (0: no
    limit); `hours`: windows of the week (empty: always); `held`: nothing, until it is released.
    """

    associations: int = 0
    bandwidth: int = 0
    hours: str = ""
    held: bool = False


class Verified(Body):
    """What a verification came to."""

    success: bool
    state: str
    error: str
    response_time_ms: float | None


class NodeQuery(Body):
    """Which studies: values by keyword or tag, with wild cards and ranges as of C-FIND."""

    keys: dict[str, str]
    limit: int = 100


class FoundStudy(Body):
    """A study of the node, as it tells of it."""

    study_instance_uid: str
    study_date: str
    study_description: str
    accession_number: str
    modalities: str
    instances: str
    patient_name: str
    patient_id: str


class FoundStudies(Body):
    """Studies of the node."""

    studies: list[FoundStudy]
    is_cut: bool


class NodeApi:
    """Answers with nodes, and changes and asks them."""

    def __init__(self, nodes: NodeChanges) -> None:
        self._nodes = nodes

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield endpoint(
            "GET", "/remote-nodes", self.list, "The nodes that jobs may speak to.",
            name="ListRemoteNodes", service=_SERVICE, needs="state", gives=Page[RemoteNode],
            parameters=PAGE_PARAMETERS,
        )  # fmt: skip
        yield endpoint(
            "POST", "/remote-nodes", self.add, "Add a node.",
            name="AddRemoteNode", service=_SERVICE, needs="configure", takes=NewNode,
            gives=RemoteNode, answers=(ok("It was added.", status=201), _TAKEN),
        )  # fmt: skip
        yield endpoint(
            "GET", _ONE, self.show, "One node.",
            name="GetRemoteNode", service=_SERVICE, needs="state", gives=RemoteNode, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", _ONE, self.exchange, "Change a node.",
            name="ChangeRemoteNode", service=_SERVICE, needs="configure", takes=NodeFields,
            gives=RemoteNode, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "DELETE", _ONE, self.remove, "Remove a node; its jobs fail.",
            name="RemoveRemoteNode", service=_SERVICE, needs="configure",
        )  # fmt: skip
        yield endpoint(
            "GET", f"{_ONE}/limits", self.show_limits, "What may be sent to a node, and when.",
            name="GetNodeLimits", service=_SERVICE, needs="state", gives=NodeLimits, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "PUT", f"{_ONE}/limits", self.change_limits,
            "Say what may be sent to a node, and when; hold or release it.",
            name="ChangeNodeLimits", service=_SERVICE, needs="configure", takes=NodeLimits,
            gives=NodeLimits, has_tag=True,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/verify", self.verify, "Ask a node whether it answers.",
            name="VerifyRemoteNode", service=_SERVICE, needs="configure", gives=Verified,
        )  # fmt: skip
        yield endpoint(
            "POST", f"{_ONE}/query", self.query, "Studies that a node has.",
            name="QueryRemoteNode", service=_SERVICE, needs="search", takes=NodeQuery,
            gives=FoundStudies, answers=(_AWAY,),
        )  # fmt: skip

    async def list(self, request: Request) -> Response:
        """The handler."""
        found = [_shown(node) for node in await self._nodes.all()]
        page = page_of(found, page_request(request), lambda node: (node.name,))
        return answer(page, headers=link_headers(request, page))

    async def add(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NewNode)
        node = _node(body, body.name)
        try:
            await self._nodes.add(node, caller_of(request))
        except NodeChangeError as error:
            raise HttpError(409, "CONFLICT", str(error)) from error
        return answer(_shown(node), 201)

    async def show(self, request: Request) -> Response:
        """The handler."""
        return tagged(request, _shown(await self._named(request)))

    async def exchange(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NodeFields)
        known = await self._named(request)
        check_unchanged(request, _shown(known))
        node = replace(_node(body, known.name), version=known.version)
        try:
            changed = await self._nodes.exchange(node, caller_of(request))
        except NodeChangeError as error:
            raise HttpError(409, "CONFLICT", str(error)) from error
        return tagged(request, _shown(changed))

    async def remove(self, request: Request) -> Response:
        """The handler."""
        if not await self._nodes.remove(request.arguments["name"], caller_of(request)):
            raise _unknown()
        return Response(status=204)

    async def show_limits(self, request: Request) -> Response:
        """The handler."""
        limit = await self._nodes.limit_of(await self._named(request))
        return tagged(request, _limits(limit))

    async def change_limits(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NodeLimits)
        node = await self._named(request)
        known = await self._nodes.limit_of(node)
        check_unchanged(request, _limits(known))
        try:
            wanted = replace(
                known,
                associations=check_associations(body.associations),
                bandwidth=parse_bandwidth(str(body.bandwidth)),
                hours=parse_hours(body.hours),
            )
        except ValueError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        caller = caller_of(request)
        if wanted != known:
            await self._nodes.set_limit(wanted, caller)
        await self._nodes.hold(node, caller, is_held=body.held)
        return tagged(request, _limits(await self._nodes.limit_of(node)))

    async def verify(self, request: Request) -> Response:
        """The handler."""
        check = await self._nodes.verify(await self._named(request))
        return answer(
            Verified(
                success=not check.fault,
                state=check.state.value,
                error=check.fault,
                response_time_ms=_milliseconds(check.response_seconds),
            )
        )

    async def query(self, request: Request) -> Response:
        """The handler."""
        body = await read_body(request, NodeQuery)
        if not 1 <= body.limit <= _MOST_STUDIES:
            raise HttpError(400, "INVALID_REQUEST", f"limit is a number from 1 to {_MOST_STUDIES}")
        node = await self._named(request)
        try:
            found = await self._nodes.search(node, list(body.keys.items()), body.limit + 1)
        except KeySyntaxError as error:
            raise HttpError(400, "INVALID_REQUEST", str(error)) from error
        except (IsocenterError, OSError) as error:
            fault = f"the node did not answer: {text_of(error)}"
            raise HttpError(502, "NODE_FAILED", fault) from error
        studies = [
            FoundStudy(
                study_instance_uid=one.study_instance_uid,
                study_date=one.study_date,
                study_description=one.study_description,
                accession_number=one.accession_number,
                modalities=one.modalities,
                instances=one.instances,
                patient_name=one.patient_name,
                patient_id=one.patient_id,
            )
            for one in found[: body.limit]
        ]
        return answer(FoundStudies(studies=studies, is_cut=len(found) > body.limit))

    async def _named(self, request: Request) -> Node:
        node = await self._nodes.find(request.arguments["name"])
        if node is None:
            raise _unknown()
        return node


def _limits(limit: DestinationLimit) -> NodeLimits:
    return NodeLimits(
        associations=limit.associations,
        bandwidth=limit.bandwidth,
        hours=limit.hours.text,
        held=limit.is_held,
    )


def _unknown() -> HttpError:
    return HttpError(404, "NOT_FOUND", "there is no such node; see /api/v1/remote-nodes")


def _node(fields: NodeFields, name: str) -> Node:
    try:
        node = new_node(
            fields.address,
            name,
            tls=fields.tls,
            verify_host=fields.verify_host,
            server_name=fields.server_name,
            token_file=fields.token_file,
            ca_file=fields.ca_file,
        )
    except ValueError as error:
        raise HttpError(400, "INVALID_REQUEST", str(error)) from error
    return replace(node, is_enabled=fields.enabled)


def _shown(node: Node) -> RemoteNode:
    return RemoteNode(
        name=node.name,
        address=node.address,
        kind="dicomweb" if node.is_web else "dimse",
        tls=node.tls,
        verify_host=node.verify_host,
        server_name=node.server_name,
        token_file=node.token_file,
        ca_file=node.ca_file,
        enabled=node.is_enabled,
        state=node.state.value,
        checked_at=node.checked_at,
        fault=node.fault,
        response_ms=_milliseconds(node.response_seconds),
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000, 1)
