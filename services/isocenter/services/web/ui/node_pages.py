"""Pages of the remote nodes: list, changes, verification, search, retrieval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import StorageError, text_of
from isocenter.services.hours import parse_hours
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_fields, read_lists
from isocenter.services.web.principal import asker_of, caller_name, caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.workflow.jobs.desk import JobDesk
from isocenter.services.workflow.jobs.job import JobKind, JobRequest
from isocenter.services.workflow.nodes.changes import NodeChangeError, NodeChanges
from isocenter.services.workflow.nodes.limits import (
    DestinationLimit,
    check_associations,
    parse_bandwidth,
)
from isocenter.services.workflow.nodes.node import Node, new_node
from isocenter.services.workflow.nodes.remote_study import RemoteStudy

_ONE: Final = "/nodes/{node}"
_MOST_STUDIES: Final = 200
#: What a form asks a node for: name of the field, keyword, label.
FILTERS: Final = (
    ("patient_id", "PatientID", "Patient ID"),
    ("patient_name", "PatientName", "Patient’s name"),
    ("accession", "AccessionNumber", "Accession number"),
    ("date", "StudyDate", "Date or range"),
    ("modality", "ModalitiesInStudy", "Modality"),
)
_NOTHING: Final[Mapping[str, str]] = {}


class NodePages:
    """Answers with nodes, changes and asks them, and has studies retrieved."""

    def __init__(self, nodes: NodeChanges, jobs: JobDesk, layout: Layout) -> None:
        self._nodes = nodes
        self._jobs = jobs
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are, and their forms."""
        yield page("/nodes", "state", self.list, "Remote nodes.")
        yield action("/nodes", "configure", self.add, "Add a node.")
        yield action(f"{_ONE}/verify", "configure", self.verify, "Ask whether it answers.")
        yield action(f"{_ONE}/switch", "configure", self.switch, "Let jobs speak to it, or not.")
        yield action(f"{_ONE}/limits", "configure", self.limit, "Say what may be sent, and when.")
        yield action(f"{_ONE}/hold", "configure", self.hold, "Hold or release a node.")
        yield action(f"{_ONE}/remove", "configure", self.remove, "Remove a node.")
        yield page(_ONE, "search", self.search, "Studies of a node.")
        yield action(f"{_ONE}/retrieve", "write", self.retrieve, "Have studies of a node here.")

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        return await self._list(request, _NOTHING, "")

    async def add(self, request: Request) -> Response:
        """The handler of the form that adds one."""
        fields = await read_fields(request)
        try:
            node = new_node(
                fields.get("address", "").strip(),
                fields.get("name", "").strip(),
                tls=fields.get("tls") == "yes",
            )
            await self._nodes.add(node, caller_of(request))
        except (ValueError, NodeChangeError) as error:
            return await self._list(request, fields, str(error))
        except StorageError as error:
            raise _unavailable() from error
        return _to("/nodes")

    async def verify(self, request: Request) -> Response:
        """The handler of the button that asks a node."""
        node = await self._named(request)
        try:
            await self._nodes.verify(node)
        except StorageError as error:
            raise _unavailable() from error
        return _to("/nodes")

    async def switch(self, request: Request) -> Response:
        """The handler of the button that lets jobs speak to a node, or not any more."""
        node = await self._named(request)
        wanted = replace(node, is_enabled=not node.is_enabled)
        try:
            await self._nodes.exchange(wanted, caller_of(request))
        except NodeChangeError as error:
            return await self._list(request, _NOTHING, str(error))
        except StorageError as error:
            raise _unavailable() from error
        return _to("/nodes")

    async def limit(self, request: Request) -> Response:
        """The handler of the form that says what may be sent to a node, and when."""
        node = await self._named(request)
        said = await read_fields(request)
        associations = said.get("associations", "").strip() or "0"
        try:
            if not associations.isdecimal() or len(associations) > 3:
                raise ValueError("associations are a whole number")
            limit = replace(
                await self._nodes.limit_of(node),
                associations=check_associations(int(associations)),
                bandwidth=parse_bandwidth(said.get("bandwidth", "").strip() or "0"),
                hours=parse_hours(said.get("hours", "")),
            )
            await self._nodes.set_limit(limit, caller_of(request))
        except ValueError as error:
            return await self._list(request, _NOTHING, f"{node.name}: {error}")
        except StorageError as error:
            raise _unavailable() from error
        return _to("/nodes")

    async def hold(self, request: Request) -> Response:
        """The handler of the button that holds or releases a node."""
        node = await self._named(request)
        try:
            is_held = (await self._nodes.limit_of(node)).is_held
            await self._nodes.hold(node, caller_of(request), is_held=not is_held)
        except StorageError as error:
            raise _unavailable() from error
        return _to("/nodes")

    async def remove(self, request: Request) -> Response:
        """The handler of the button that removes one."""
        try:
            found = await self._nodes.remove(request.arguments["node"], caller_of(request))
        except StorageError as error:
            raise _unavailable() from error
        if not found:
            raise _unknown()
        return _to("/nodes")

    async def search(self, request: Request) -> Response:
        """The handler of the page of one node: a form, and what it has."""
        node = await self._named(request)
        said = {name: (request.parameter(name) or "").strip() for name, _, _ in FILTERS}
        keys = [(word, said[name]) for name, word, _ in FILTERS if said[name]]
        studies: Sequence[RemoteStudy] = ()
        fault = ""
        is_asked = request.parameter("ask") == "yes"
        if is_asked:
            try:
                studies = await self._nodes.search(node, keys, _MOST_STUDIES + 1)
            except StorageError as error:
                raise _unavailable() from error
            except (IsocenterError, OSError) as error:
                fault = f"The node did not answer: {text_of(error)}"
        try:
            limit = await self._nodes.limit_of(node)
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "node.html",
            section="nodes",
            node=node,
            limit=limit,
            filters=FILTERS,
            said=said,
            studies=studies[:_MOST_STUDIES],
            is_cut=len(studies) > _MOST_STUDIES,
            is_asked=is_asked,
            fault=fault,
        )

    async def retrieve(self, request: Request) -> Response:
        """The handler of the form that has studies retrieved."""
        node = await self._named(request)
        studies = (await read_lists(request)).get("study", ())
        if not studies:
            raise HttpError(400, "BAD_FORM", "choose the studies that are to come")
        wanted = JobRequest(
            kind=JobKind.RETRIEVE,
            node=node.name,
            keys=(("StudyInstanceUID", "\\".join(studies)),),
            requested_by=caller_name(caller_of(request)),
            asker=asker_of(request),
        )
        try:
            job_id, _ = await self._jobs.submit(wanted)
        except StorageError as error:
            raise _unavailable() from error
        return _to(f"/jobs/{job_id}")

    async def _list(self, request: Request, fields: Mapping[str, str], fault: str) -> Response:
        try:
            nodes = await self._nodes.all()
            limits = await self._nodes.limits()
        except StorageError as error:
            raise _unavailable() from error
        values: dict[str, Any] = {
            "nodes": [
                (node, limits.get(node.name, DestinationLimit(destination=node.name)))
                for node in nodes
            ],
            "fields": fields,
            "fault": fault,
        }
        status = 400 if fault else 200
        return self._layout.page(request, "nodes.html", section="nodes", status=status, **values)

    async def _named(self, request: Request) -> Node:
        try:
            node = await self._nodes.find(request.arguments["node"])
        except StorageError as error:
            raise _unavailable() from error
        if node is None:
            raise _unknown()
        return node


def _to(path: str) -> Response:
    return Response(status=303, headers=[("location", quote(path))])


def _unknown() -> HttpError:
    return HttpError(404, "NOT_FOUND", "there is no such node")


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "nodes cannot be read or changed now; see the log")
