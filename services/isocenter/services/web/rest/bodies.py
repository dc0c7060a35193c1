"""Bodies of the API: JSON as typed values, in and out."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any, Final, TypeVar, dataclass_transform

import msgspec

from isocenter.services.net.http.messages import Headers, HttpError, Request, Response

#: Of an object that people or programs write by hand.
MOST_BYTES: Final = 256 << 10
JSON: Final = "application/json"
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """Makes each frozen, of keywords only, and closed for fields that it does not know."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        return super().__new__(
            mcls, name, bases, namespace, frozen=True, kw_only=True, forbid_unknown_fields=True
        )


class Body(msgspec.Struct, metaclass=_Frozen):
    """What a request or an answer carries; the docstring of a subclass describes it."""


Kind = TypeVar("Kind", bound=Body)


async def read_body(request: Request, kind: type[Kind], most: int = MOST_BYTES) -> Kind:
    """What the body of a request says.

    Raises:
        HttpError: it is no JSON (400, 415), does not fit (400), or is too long (413).
    """
    media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise HttpError(415, "INVALID_CONTENT_TYPE", f"send the body as {JSON}")
    content = await request.body(most)
    if not content:
        raise HttpError(400, "EMPTY_BODY", f"send {_article(kind)} as JSON")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise HttpError(400, "INVALID_REQUEST", _fault(str(error), kind)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise HttpError(400, "INVALID_JSON", "the body is no JSON in UTF-8") from error


def answer(value: Body, status: int = 200, headers: Headers = ()) -> Response:
    """A value as the answer."""
    common = (("content-type", JSON), ("cache-control", "no-store"))
    return Response(status=status, headers=(*common, *headers), body=encoded(value))


def encoded(value: Any) -> bytes:
    """A value as JSON; what is no text (half a surrogate pair, of a file's name) as `?`."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return text.encode("utf-8", "replace")


def _article(kind: type[Body]) -> str:
    return f"an object with {', '.join(kind.__struct_encode_fields__)}"


def _fault(text: str, kind: type[Body]) -> str:
    """The fault with its cure, and nothing of the value, which may name a patient."""
    unknown = _UNKNOWN.search(text)
    if unknown is None:
        return text
    there = kind.__struct_encode_fields__
    close = get_close_matches(unknown[1], there, 1)
    meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(there)}"
    return f"{text}; {meant}"
