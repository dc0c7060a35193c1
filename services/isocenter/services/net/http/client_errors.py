"""Errors of HTTP requests of ours, with what the server says of them."""

from __future__ import annotations

import json
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

_MOST_SHOWN: Final = 300
#: Members of a JSON object in which servers say what was wrong.
_MESSAGES: Final = ("message", "errorMessage", "detail", "Details", "Message", "description")


class HttpClientError(IsocenterError):
    """A request that was not answered as it ought to be."""

    error_code = ErrorCode.HTTP


class ServerUnreachableError(HttpClientError):
    """No connection: nobody listens, no route, TLS failed, or too slow.  Nothing was done."""

    error_code = ErrorCode.HTTP_CONNECTION


class BrokenAnswerError(HttpClientError):
    """The connection ended, or nothing came for too long, before the answer was complete."""


class HttpStatusError(HttpClientError):
    """An answer of another status than is wanted.

    Attributes:
        status: of the answer; 300 and above.
        said: what the server says of it; empty: nothing that is made for people.
    """

    def __init__(self, status: int, said: str, location: str = "") -> None:
        text = f"the server answered {status} {_NAMES.get(status, '')}".rstrip()
        if said:
            text += f": {said}"
        if location:
            text += f"; it redirects to {location}, so give that address"
        super().__init__(text)
        self.status = status
        self.said = said


_NAMES: Final = {
    301: "Moved Permanently", 302: "Found", 303: "See Other", 307: "Temporary Redirect",
    308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout",
    409: "Conflict", 410: "Gone", 411: "Length Required", 413: "Content Too Large",
    414: "URI Too Long", 415: "Unsupported Media Type", 429: "Too Many Requests",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


def said_of(body: bytes, kind: str) -> str:
    """What a server says of an error, on one line."""
    text = ""
    if kind.endswith("json"):
        try:
            found = json.loads(body)
        except ValueError:
            return ""
        inner = found.get("error") if isinstance(found, dict) else None
        for one in (inner, found):
            if isinstance(one, dict):
                texts = (one.get(name) for name in _MESSAGES)
                text = next((each for each in texts if isinstance(each, str) and each), "")
            if text:
                break
        if not text and isinstance(inner, str):
            text = inner
    elif kind == "text/plain":
        text = body.decode("utf-8", "replace")
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else line[:_MOST_SHOWN] + "…"
