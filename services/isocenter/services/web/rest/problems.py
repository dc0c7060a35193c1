"""Problem objects: errors of the API (RFC 9457), with codes for programs."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec

from isocenter.engine.errors import IsocenterError
from isocenter.services.net.http.messages import Headers, HttpError, Request, Response
from isocenter.services.web.rest.bodies import Body, encoded

PROBLEM_JSON: Final = "application/problem+json"


class Fault(Body):
    """One of several things that are wrong with what was sent."""

    key: str
    detail: str


class Problem(Body):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request: str
    error: int | msgspec.UnsetType = msgspec.UNSET
    faults: list[Fault] | msgspec.UnsetType = msgspec.UNSET


class ProblemError(HttpError):
    """An error that consists of several, each with what it is about."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        faults: list[Fault],
        headers: Headers = (),
    ) -> None:
        super().__init__(status, code, message, headers)
        self.faults = faults


def problem(request: Request, error: HttpError) -> Response:
    """An error as the answer."""
    body = Problem(
        # What the problem is, the code says; it has no page of its own (RFC 9457 4.2.1).
        type="about:blank",
        title=_title(error.status),
        status=error.status,
        detail=error.message,
        code=error.code,
        request=request.name,
        error=_number_of(error),
        faults=error.faults if isinstance(error, ProblemError) else msgspec.UNSET,
    )
    headers = (("content-type", PROBLEM_JSON), ("cache-control", "no-store"), *error.headers)
    return Response(status=error.status, headers=headers, body=encoded(body))


def _number_of(error: HttpError) -> int | msgspec.UnsetType:
    """Of the error that it was made of, if it was."""
    cause = error.__cause__
    return int(cause.error_code) if isinstance(cause, IsocenterError) else msgspec.UNSET


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
