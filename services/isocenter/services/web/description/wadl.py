"""WADL of a route table (PS3.18 8.9, Annex H; W3C submission of 2009-08-31)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.routing import Parameter, Payload, Route

WADL: Final = "application/vnd.sun.wadl+xml"
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"
_TYPES: Final = "http://www.w3.org/2001/XMLSchema"
_STYLES: Final = {"query": "query", "header": "header"}
_FIRST_ERROR: Final = 400


@dataclass(slots=True)
class _Resource:
    """A segment of paths, the routes that end with it, and what follows."""

    routes: list[Route[Any]] = field(default_factory=list)
    below: dict[str, _Resource] = field(default_factory=dict)


def wadl(
    routes: Iterable[Route[Any]],
    base: str,
    *,
    root: int,
    depth: int,
    places: Mapping[str, str],
) -> bytes:
    """The document for one resource: all methods of it and of what is below.

    Args:
        routes: at and below the resource.
        base: the URL of the service.
        root: segments of the paths that *base* has already.
        depth: segments of the paths that lead to the resource; not fewer.
        places: what the places of paths are.
    """
    tree = _Resource()
    target: Sequence[str] = ()
    for route in routes:
        target = route.segments[root:depth]
        node = tree
        for segment in route.segments[depth:]:
            node = node.below.setdefault(segment, _Resource())
        node.routes.append(route)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<application xmlns={quoteattr(_NAMESPACE)} xmlns:xs="http://www.w3.org/2001/XMLSchema">',
        f"<resources base={quoteattr(base)}>",
    ]
    if target:
        lines += _resource("/".join(map(_plain, target)), tree, target, places)
    else:
        for segment, below in tree.below.items():
            lines += _resource(_plain(segment), below, [segment], places)
    lines += ["</resources>", "</application>", ""]
    return "\n".join(lines).encode()


def _plain(segment: str) -> str:
    """WADL knows no place for more than one segment."""
    return segment.replace("...}", "}")


def _resource(
    path: str, node: _Resource, segments: Sequence[str], places: Mapping[str, str]
) -> Iterator[str]:
    yield f"<resource path={quoteattr(path)}>"
    for segment in segments:
        if segment.startswith("{"):
            name = _plain(segment)[1:-1]
            yield (
                f'<param name={quoteattr(name)} style="template" type="xs:string" required="true">'
                f"{_doc(places.get(name, ''))}</param>"
            )
    for route in node.routes:
        yield from _method(route)
    for segment, below in node.below.items():
        yield from _resource(_plain(segment), below, [segment], places)
    yield "</resource>"


def _method(route: Route[Any]) -> Iterator[str]:
    name = f" id={quoteattr(route.name)}" if route.name else ""
    yield f"<method name={quoteattr(route.method)}{name}>{_doc(route.text)}"
    if route.parameters or route.consumes:
        yield "<request>"
        for parameter in route.parameters:
            yield from _param(parameter)
        yield from (f"<representation mediaType={quoteattr(one)}/>" for one in route.consumes)
        yield "</request>"
    for answer in sorted(route.answers, key=lambda one: one.status):
        media_types: Sequence[str] = ()
        if answer.payload in (Payload.REPRESENTATION, Payload.EITHER):
            media_types = route.produces
        elif answer.payload is Payload.ERROR and answer.status >= _FIRST_ERROR:
            media_types = ("application/json",)
        yield f'<response status="{answer.status}">{_doc(answer.text)}'
        yield from (f"<representation mediaType={quoteattr(one)}/>" for one in media_types)
        yield "</response>"
    yield "</method>"


def _param(parameter: Parameter) -> Iterator[str]:
    required = str(parameter.is_required).lower()
    yield (
        f'<param name={quoteattr(parameter.name)} style="{_STYLES[parameter.place]}" '
        f'type="xs:string" required="{required}">{_doc(parameter.text)}'
    )
    yield from (f"<option value={quoteattr(value)}/>" for value in parameter.values)
    yield "</param>"


def _doc(text: str) -> str:
    return f"<doc>{escape(text)}</doc>" if text else ""
