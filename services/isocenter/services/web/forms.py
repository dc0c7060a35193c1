"""Fields of HTML forms, as browsers send them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from isocenter.services.net.http.messages import HttpError, Request

CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 16 << 10
_MOST_FIELDS: Final = 32


async def read_fields(request: Request) -> Mapping[str, str]:
    """The fields in the body of a request; of several with one name the last.

    Raises:
        HttpError: there is no form (400), or it is too long (413).
    """
    content = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if content != CONTENT_TYPE:
        raise HttpError(400, "BAD_FORM", "send the fields of the form")
    body = await request.body(_MOST_BYTES)
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=_MOST_FIELDS, errors="strict"))
    except ValueError as error:
        raise HttpError(400, "BAD_FORM", "the form cannot be read") from error
