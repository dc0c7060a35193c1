"""Fields of HTML forms, as browsers send them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qs

from isocenter.services.net.http.messages import HttpError, Request

CONTENT_TYPE: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 16 << 10
_MOST_FIELDS: Final = 32
_MOST_CHOICES: Final = 256


async def read_fields(request: Request) -> Mapping[str, str]:
    """The fields in the body of a request; of several with one name the last.

    Raises:
        HttpError: there is no form (400), or it is too long (413).
    """
    return {name: values[-1] for name, values in (await read_lists(request, _MOST_FIELDS)).items()}


async def read_lists(
    request: Request, most: int = _MOST_CHOICES, *, with_empty: bool = False
) -> Mapping[str, Sequence[str]]:
    """The same with all values of each name, in their order.

    Args:
        with_empty: also those that are empty, which says something else than none.

    Raises:
        HttpError: as of `read_fields`.
    """
    content = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if content != CONTENT_TYPE:
        raise HttpError(400, "BAD_FORM", "send the fields of the form")
    body = await request.body(_MOST_BYTES)
    try:
        return parse_qs(
            body.decode("ascii"), max_num_fields=most, errors="strict", keep_blank_values=with_empty
        )
    except ValueError as error:
        raise HttpError(400, "BAD_FORM", "the form cannot be read") from error
