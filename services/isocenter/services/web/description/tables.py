"""Tables of a route table, for documents that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from isocenter.services.net.http.routing import Answer, Parameter, Route
from isocenter.services.security.access.permissions import permission_texts
from isocenter.services.web.description.document import Block, Heading, Paragraph, Table
from isocenter.services.web.description.openapi import COMMON_ANSWERS
from isocenter.services.web.principal import permissions_for, scopes_for


def tables(
    routes: Sequence[Route[Any]], places: Mapping[str, str], number: str = ""
) -> Iterator[Block]:
    """What the routes are, service by service; what is said of several is said once.

    Args:
        places: what the places of paths are.
        number: of the heading that these stand under; empty: none.
    """
    above = f"{number}." if number else ""
    services = groupby(routes, lambda route: route.service)
    count = 0
    for count, (service, group) in enumerate(services, 1):
        yield Heading(f"{above}{count}", service)
        yield from _service(list(group))
    yield Heading(f"{above}{count + 1}", "What all have in common")
    yield Paragraph("HEAD is answered wherever GET is; OPTIONS with what there is (WADL).")
    yield Table(("In a path", "What it is"), list(places.items()))
    yield _answers("Status of any request", COMMON_ANSWERS)


def _service(routes: Sequence[Route[Any]]) -> Iterator[Block]:
    yield Table(
        ("Method", "Path", "What it does", "Transaction", "Permission", "Scope"),
        [
            (
                route.method,
                route.path,
                route.text,
                route.name,
                " ".join(permission_texts(permissions_for(route))) or "none",
                " or ".join(sorted(scopes_for(route))) or "none",
            )
            for route in routes
        ],
    )
    yield Table(
        ("Transaction", "Media types of the request", "Media types of the answer"),
        [
            (route.name, ", ".join(route.consumes) or "none", ", ".join(route.produces) or "none")
            for route in routes
        ],
    )
    parameters: dict[Parameter, list[str]] = {}
    answers: dict[Answer, list[str]] = {}
    for route in routes:
        for parameter in route.parameters:
            parameters.setdefault(parameter, []).append(route.name)
        for answer in route.answers:
            answers.setdefault(answer, []).append(route.name)
    if parameters:
        yield Table(
            ("Parameter", "Meaning", "Of"),
            [(one.name, one.text, _names(of, routes)) for one, of in parameters.items()],
        )
    yield Table(
        ("Status", "Meaning", "Of"),
        [
            (str(one.status), one.text, _names(of, routes))
            for one, of in sorted(answers.items(), key=lambda entry: entry[0].status)
        ],
    )


def _names(of: Sequence[str], routes: Sequence[Route[Any]]) -> str:
    return "all" if len(of) == len(routes) else ", ".join(of)


def _answers(title: str, answers: Sequence[Answer]) -> Table:
    return Table((title, "Meaning"), [(str(one.status), one.text) for one in answers])
