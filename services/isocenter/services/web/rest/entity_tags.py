"""Entity tags of what can be edited, and preconditions of edits (RFC 9110 13)."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from isocenter.services.net.http.conditions import entity_tag, is_not_modified, is_unchanged
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.web.rest.bodies import Body, answer, encoded

_DIGEST_BYTES: Final = 12


def tag_of(value: Body) -> str:
    """The entity tag of a value: another one as soon as anything in it has changed."""
    return entity_tag(blake2b(encoded(value), digest_size=_DIGEST_BYTES).hexdigest())


def tagged(request: Request, value: Body, status: int = 200) -> Response:
    """A value as the answer, with its tag; nothing but that (304) for whoever has it already."""
    tag = tag_of(value)
    headers = [("etag", tag)]
    if request.method in ("GET", "HEAD") and is_not_modified(request.header("if-none-match"), tag):
        return Response(status=304, headers=[*headers, ("cache-control", "no-store")])
    return answer(value, status, headers)


def check_unchanged(request: Request, value: Body | None) -> None:
    """Whether what is to be changed is still what the caller has seen, if it says so (`If-Match`).

    It is asked where nobody else can change it meanwhile: in the transaction, under the lock.

    Args:
        value: as it is now; None: it is not there.

    Raises:
        HttpError: it has changed (412).
    """
    if not is_unchanged(request.header("if-match"), None if value is None else tag_of(value)):
        raise HttpError(
            412, "CHANGED", "it has changed since you read it; read it again, and change that"
        )
