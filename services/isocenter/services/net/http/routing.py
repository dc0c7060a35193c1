"""Route table: methods and paths with their handlers, parameters and permissions.

From one table come the routing, `Allow`, the capabilities document and the API description: a
route cannot be served and be missing there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from isocenter.engine.fast_init import dataclass

Handler = TypeVar("Handler")

_PLACE: Final = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")
#: Segments of a path; nothing that is served has as many.
_MOST_SEGMENTS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """What a request may say beside its path.

    Attributes:
        text: one sentence for whoever reads the description.
        place: ``query`` or ``header``.
        values: the only ones, when there are few.
        pattern: a regular expression that its values fit; empty: any text.
        is_flag: what counts is that it is there; it may have no value.
        is_any: it stands for all names that are not those of others.
    """

    name: str
    text: str
    place: str = "query"
    values: tuple[str, ...] = ()
    pattern: str = ""
    is_required: bool = False
    is_flag: bool = False
    is_any: bool = False


class Payload(Enum):
    """What the body of an answer is."""

    NOTHING = "nothing"
    #: One of the media types of the route.
    REPRESENTATION = "representation"
    #: The JSON of an `HttpError`.
    ERROR = "error"
    #: A representation that says what went wrong, or the JSON of an error.
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status that a route answers, when, with what body and with which header fields at least."""

    status: int
    text: str
    payload: Payload = Payload.ERROR
    headers: tuple[str, ...] = ()


def ok(
    text: str,
    payload: Payload = Payload.REPRESENTATION,
    status: int = 200,
    headers: tuple[str, ...] = (),
) -> Answer:
    """A success."""
    return Answer(status, text, payload, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[Handler]):
    """One method of one path.

    Attributes:
        path: ``/studies/{study}``; ``{path...}``, at the end only, is all that follows.
        needs: what the caller must be allowed, as whoever checks it writes it; None: nothing, but
            it has to be known who it is.
        text: one sentence for whoever reads the description.
        name: of the transaction, for programs (PS3.18 Table H-1): ``SearchForStudies``.
        service: what it is part of, for people.
        produces: media types of the answer.
        consumes: media types of the body.
        answers: the statuses that are its own; others come to all routes.
        takes, gives: the types of JSON bodies, of request and answer, from which descriptions make
            schemas; None: the media types say all that there is to say.
    """

    method: str
    path: str
    handler: Handler
    text: str
    needs: Any = None
    parameters: tuple[Parameter, ...] = ()
    produces: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    name: str = ""
    service: str = ""
    answers: tuple[Answer, ...] = ()
    takes: Any = None
    gives: Any = None

    @property
    def places(self) -> tuple[str, ...]:
        """The names in its path, in their order."""
        return tuple(found[1] for found in map(_PLACE.fullmatch, _split(self.path)) if found)

    @property
    def segments(self) -> tuple[str, ...]:
        """Its path, taken apart."""
        return tuple(_split(self.path))


class NotFoundError(LookupError):
    """There is no such path."""


class MethodNotAllowedError(LookupError):
    """The path is there, and not for this method.

    Attributes:
        allowed: the methods that are.
    """

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(", ".join(allowed))
        self.allowed = allowed


class _Node(Generic[Handler]):
    """Routes by what follows in the path."""

    def __init__(self) -> None:
        self.fixed: dict[str, _Node[Handler]] = {}
        self.any: _Node[Handler] | None = None
        self.rest: _Node[Handler] | None = None
        self.routes: dict[str, tuple[Route[Handler], tuple[str, ...]]] = {}


class RouteTable(Generic[Handler]):
    """Routes, found by method and path.

    Raises:
        ValueError: two are the same.
    """

    def __init__(self, routes: Iterable[Route[Handler]]) -> None:
        self.routes = tuple(routes)
        self._root: _Node[Handler] = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route[Handler]) -> None:
        node = self._root
        names: list[str] = []
        for segment in _split(route.path):
            place = _PLACE.fullmatch(segment)
            if place is None:
                node = node.fixed.setdefault(segment, _Node())
            elif place[2]:
                names.append(place[1])
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                names.append(place[1])
                node.any = node.any or _Node()
                node = node.any
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} stands there twice")
        node.routes[route.method] = (route, tuple(names))

    def find(self, method: str, raw_path: bytes) -> tuple[Route[Handler], dict[str, str]]:
        """The route of a request, and the values of its places.

        Args:
            raw_path: as it came, percent-encoded, without the query.  A slash at its end counts
                for nothing; an empty segment is no path of ours.

        Raises:
            NotFoundError: there is none.
            MethodNotAllowedError: there is one for other methods; HEAD goes where GET does.
        """
        node, values = self._node_of(raw_path)
        found = node.routes.get(method)
        if found is None and method == "HEAD":
            found = node.routes.get("GET")
        if found is None:
            raise MethodNotAllowedError(_allowed(node))
        route, names = found
        return route, dict(zip(names, values, strict=True))

    def allowed(self, raw_path: bytes) -> tuple[str, ...]:
        """The methods of a path, in their order.

        Raises:
            NotFoundError: there is no such path.
        """
        return _allowed(self._node_of(raw_path)[0])

    def beneath(self, raw_path: bytes) -> tuple[int, tuple[Route[Handler], ...]]:
        """All routes at and below a path, in the order of the table, and how many segments of
        theirs the path is.

        Raises:
            NotFoundError: there is none.
        """
        segments = [_decoded(segment) for segment in _split_raw(raw_path)]
        for node, depth in _descend(self._root, segments, 0):
            found = {id(route) for route in _routes_of(node)}
            return depth, tuple(route for route in self.routes if id(route) in found)
        raise NotFoundError

    def _node_of(self, raw_path: bytes) -> tuple[_Node[Handler], tuple[str, ...]]:
        segments = [_decoded(segment) for segment in _split_raw(raw_path)]
        found = _match(self._root, segments, 0, ())
        if found is None:
            raise NotFoundError
        return found


def _match(
    node: _Node[Handler], segments: list[str], at: int, values: tuple[str, ...]
) -> tuple[_Node[Handler], tuple[str, ...]] | None:
    """The node that a path fits, the most literal one, and the values of its places."""
    if at == len(segments):
        return (node, values) if node.routes else None
    segment = segments[at]
    found = None
    if segment in node.fixed:
        found = _match(node.fixed[segment], segments, at + 1, values)
    if found is None and node.any is not None:
        found = _match(node.any, segments, at + 1, (*values, segment))
    if found is None and node.rest is not None and node.rest.routes:
        found = node.rest, (*values, "/".join(segments[at:]))
    return found


def _descend(
    node: _Node[Handler], segments: list[str], at: int
) -> Iterator[tuple[_Node[Handler], int]]:
    """The nodes that a path leads to, whether or not routes end there, the most literal first."""
    if at == len(segments):
        yield node, at
        return
    segment = segments[at]
    if segment in node.fixed:
        yield from _descend(node.fixed[segment], segments, at + 1)
    if node.any is not None:
        yield from _descend(node.any, segments, at + 1)
    if node.rest is not None:
        yield node.rest, at + 1


def _routes_of(node: _Node[Handler]) -> Iterator[Route[Handler]]:
    for route, _ in node.routes.values():
        yield route
    for below in (*node.fixed.values(), node.any, node.rest):
        if below is not None:
            yield from _routes_of(below)


def _allowed(node: _Node[Handler]) -> tuple[str, ...]:
    methods = {*node.routes, "OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return tuple(sorted(methods))


def _split(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _split_raw(raw_path: bytes) -> list[bytes]:
    if raw_path[:1] != b"/":
        raise NotFoundError
    path = raw_path[1:].removesuffix(b"/")
    if not path:
        return []
    segments = path.split(b"/", _MOST_SEGMENTS)
    if len(segments) > _MOST_SEGMENTS or not all(segments):
        raise NotFoundError
    return segments


def _decoded(segment: bytes) -> str:
    """A segment as text.  One that steps aside (``..``) or holds what no name does is not here."""
    try:
        text = (unquote_to_bytes(segment) if b"%" in segment else segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotFoundError from error
    if text in (".", "..") or not text.isprintable():
        raise NotFoundError
    return text
