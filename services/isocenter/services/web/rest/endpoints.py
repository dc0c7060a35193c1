"""Endpoints: routes of the API, with what all of them have in common."""

from __future__ import annotations

from typing import Any, Final

from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.routing import Answer, Parameter, Payload, Route, ok
from isocenter.services.web.rest.bodies import JSON

#: Below it lies the API; what changes what programs count on gets another one.
ROOT: Final = "/api/v1"
_IF_MATCH: Final = Parameter(
    name="if-match",
    text="The entity tag of what is to be changed: 412 if it is another one by now.",
    place="header",
)
_CHANGED: Final = Answer(412, "It has changed since the caller read it (`If-Match`).")
_BODY: Final = (
    Answer(413, "The body is too long."),
    Answer(415, "The body is no JSON, or is compressed."),
)


def endpoint(
    method: str,
    path: str,
    handler: Handler,
    text: str,
    *,
    name: str,
    service: str,
    needs: str | None,
    takes: type | None = None,
    gives: Any = None,
    parameters: tuple[Parameter, ...] = (),
    answers: tuple[Answer, ...] = (),
    produces: str = JSON,
    also: tuple[str, ...] = (),
    has_tag: bool = False,
) -> Route[Handler]:
    """An operation of the API.

    Args:
        path: below `ROOT`.
        name: of the operation, for programs: ``ListUsers``.
        service: the subject, for people.
        needs: as of `Route`.
        takes: the type of its body, a `Body`; None: it has none.
        gives: that of its answer; None: it has no body (204).
        produces, also: media types of its answer; only JSON has a schema.
        answers: beside the success, 200 or 204, if there is none among them.
        has_tag: what it shows or changes has an entity tag.
    """
    found = list(answers)
    if not any(one.status < 300 for one in found):
        shown = ok("It is so.", headers=("ETag",) if has_tag and method == "GET" else ())
        found.insert(0, ok("Done.", Payload.NOTHING, 204) if gives is None else shown)
    if takes is not None:
        found += _BODY
    if has_tag and method == "GET":
        unchanged = "It has not changed (`If-None-Match`)."
        found.append(ok(unchanged, Payload.NOTHING, 304, headers=("ETag",)))
    elif has_tag:
        parameters = (*parameters, _IF_MATCH)
        found.append(_CHANGED)
    return Route(
        method=method,
        path=f"{ROOT}{path}",
        handler=handler,
        text=text,
        needs=needs,
        parameters=parameters,
        produces=(() if gives is None and produces == JSON else (produces,)) + also,
        consumes=() if takes is None else (JSON,),
        name=name,
        service=service,
        answers=tuple(found),
        takes=takes,
        gives=gives,
    )
